"""``maskrcnn train --data``: what is chosen once, written, said, read again on resuming, and refused."""

import json
import logging
from dataclasses import replace
from pathlib import Path

from maskrcnn_cli.dispatch import main as maskrcnn
from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine import budget, run
from maskrcnn_repro.engine.main import main, own_data_of, parse
from maskrcnn_repro.engine.own_data import OwnData, choose, fit_config, lines_of, write_record
from maskrcnn_repro.errors import ConfigError, DataError, UserError

import pytest
import yaml

from tests.helpers.tiny_coco import TINY_MODEL, write_tiny_coco

BASE = "mini/own_data.yaml"
# Keys of the tiny model that shall follow from the data.
FREE = ("MODEL.ANCHOR_GENERATOR.SIZES", "INPUT.MIN_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST")
TINY = [
    word
    for pair in zip(TINY_MODEL[::2], TINY_MODEL[1::2], strict=True)
    if pair[0] not in FREE
    for word in pair
]


@pytest.fixture
def place(tmp_path):
    """A COCO file of four images of 64 x 64 pixels with a disc and a bar each, and its folder."""
    return tuple(map(str, write_tiny_coco(tmp_path / "data")))


def base(folder, *opts):
    return load_config(BASE, ["OUTPUT_DIR", str(folder), *opts])


def rewritten(place, change):
    """The same folder with another JSON."""
    path = place[0].replace("instances", "other")
    with open(place[0]) as file:
        tree = json.load(file)
    change(tree)
    with open(path, "w") as file:
        json.dump(tree, file)
    return path, place[1]


def begun(place, folder, **fields):
    own = OwnData(place, **fields)
    cfg = base(folder)
    chosen = choose(cfg, own, fresh=True, training=True)
    write_record(cfg, own, chosen)
    return chosen


def test_values_go_into_the_config_and_those_of_the_user_stay(place, tmp_path):
    own = OwnData(place, place, given=frozenset({"SOLVER.MAX_ITER"}))
    cfg = base(tmp_path / "run", "SOLVER.MAX_ITER", "30")
    resolved, lines = fit_config(cfg, own, fresh=True, training=True)
    assert resolved.SOLVER.MAX_ITER == 30
    assert (
        resolved.TEST.EVAL_PERIOD == 5
    )  # a quarter of 60 images, two of them as dear as one: 7 times 4
    assert resolved.INPUT.MIN_SIZE_TRAIN == (64,)
    assert resolved.MODEL.ROI_HEADS.NUM_CLASSES == 2
    data, values = lines
    assert data == (
        "Data: 4 images of 64 x 64 px, 8 objects of 2 classes, most of 17-25 px, up to 2 in an image; evaluated on 4 "
        "images"
    )
    assert values == (
        "Chosen: shorter side 64 px, anchors 17-69 px, 30 iterations of 2 images, evaluated every 5 by segm/AP, 50 "
        f"detections; reasons in {tmp_path / 'run' / 'suggested.yaml'}"
    )


def test_data_sets_are_named_like_their_files(place, tmp_path):
    names = begun(place, tmp_path / "run", val=place).names
    assert all(name.startswith("instances") for name in names)
    assert len(set(names)) == 2
    assert begun(place, tmp_path / "again", val=place).names == names


def test_without_val_a_share_is_held_out_and_written(place, tmp_path):
    chosen = begun(place, tmp_path / "run")
    parts = [
        json.loads((tmp_path / f"run/split/instances_{part}.json").read_text())
        for part in ("train", "val")
    ]
    assert [len(part["images"]) for part in parts] == [3, 1]
    assert chosen.names[0].startswith("instances_train")
    assert chosen.figures.endswith("evaluated on 1 image, held out with seed 0")


def test_a_set_of_one_image_is_evaluated_on_that_image(place, tmp_path):
    def keep_the_first(tree):
        tree["images"] = tree["images"][:1]
        tree["annotations"] = tree["annotations"][:2]

    chosen = begun(rewritten(place, keep_the_first), tmp_path / "run")
    assert chosen.figures.endswith("evaluated on 1 image, the same, as no other has objects")


def test_a_run_that_goes_on_reads_what_was_chosen(place, tmp_path):
    chosen = begun(place, tmp_path / "run")
    own = OwnData(place)
    cfg = base(tmp_path / "run")
    assert choose(cfg, own, fresh=False, training=True).apply(cfg, own.given) == chosen.apply(
        cfg, own.given
    )
    record = yaml.safe_load((tmp_path / "run/suggested.yaml").read_text())
    assert record["values"]["SOLVER.MAX_ITER"] == {
        "value": 220,
        "reason": "3 images, each 147 times",
    }


@pytest.mark.parametrize(
    ("val", "option"), [(False, "--data"), (True, "--val")], ids=["other data", "a val file now"]
)
def test_other_data_is_refused_when_a_run_goes_on(place, tmp_path, val, option):
    begun(place, tmp_path / "run")
    other = rewritten(place, lambda tree: tree["images"].pop())
    own = OwnData(place, other) if val else OwnData(other)
    with pytest.raises(UserError, match=f"was begun with other data for {option}"):
        choose(base(tmp_path / "run"), own, fresh=False, training=True)


@pytest.mark.parametrize("text", ["", "names: 3", "{", "values: {A: 1}"])
def test_a_damaged_record_is_named(place, tmp_path, text):
    begun(place, tmp_path / "run")
    (tmp_path / "run/suggested.yaml").write_text(text)
    with pytest.raises(UserError, match=r"suggested\.yaml is damaged"):
        choose(base(tmp_path / "run"), OwnData(place), fresh=False, training=True)


def test_an_evaluation_needs_a_run(place, tmp_path):
    with pytest.raises(UserError, match="holds no training with --data"):
        choose(base(tmp_path), OwnData(place), fresh=False, training=False)


def test_a_set_without_objects_teaches_nothing(place, tmp_path):
    empty = rewritten(place, lambda tree: tree["annotations"].clear())
    for val in (None, place):
        with pytest.raises(DataError, match=r"other\.json has no object to train on"):
            choose(base(tmp_path), OwnData(empty, val), fresh=True, training=True)


def test_a_set_without_annotations_teaches_nothing(place, tmp_path):
    bare = rewritten(place, lambda tree: tree.pop("annotations"))
    with pytest.raises(DataError, match=r"other\.json has no object to train on"):
        choose(base(tmp_path), OwnData(bare), fresh=True, training=True)


def test_a_folder_of_images_that_is_not_there_is_named_with_the_users_file(place, tmp_path):
    with pytest.raises(UserError, match=f"{place[0]}: Image folder .*nowhere does not exist"):
        begun((place[0], str(tmp_path / "nowhere")), tmp_path / "run")
    assert not (tmp_path / "run/split").exists()


def test_an_evaluation_alone_takes_what_was_trained_unless_weights_are_given(place):
    assert run.takes_last_checkpoint(False, OwnData(place))
    assert not run.takes_last_checkpoint(False, OwnData(place, given=frozenset({"MODEL.WEIGHTS"})))
    assert not run.takes_last_checkpoint(False, None)
    assert run.takes_last_checkpoint(True, None)


def test_what_cannot_be_read_is_named_by_its_own_name(place, tmp_path):
    with pytest.raises(UserError, match=r"^nix\.json: the COCO file cannot be read"):
        choose(base(tmp_path), OwnData(("nix.json", place[1])), fresh=True, training=True)


def test_minutes_decide_the_number_of_iterations(place, tmp_path, monkeypatch):
    # 54 seconds; ten evaluations of four images of a tenth of a second leave 50, at half a second each.
    monkeypatch.setattr(budget, "_measure_seconds", lambda cfg: (0.5, 0.1))
    own = OwnData(place, place, minutes=1)
    cfg = base(tmp_path / "run")
    resolved, _ = fit_config(cfg, own, fresh=True, training=True)
    assert resolved.SOLVER.MAX_ITER == 100
    assert resolved.TEST.EVAL_PERIOD == 10
    # Measured once: a run that goes on has the same schedule, whatever the machine does now.
    monkeypatch.setattr(budget, "_measure_seconds", lambda cfg: (50.0, 0.1))
    assert fit_config(cfg, own, fresh=False, training=True)[0].SOLVER.MAX_ITER == 100


@pytest.mark.parametrize("image", [0.125, 0.25, 0.5, 1.0])
def test_the_evaluations_of_the_chosen_training_are_those_that_fit(
    place, tmp_path, monkeypatch, image
):
    """A longer training is evaluated more often: those evaluations count, the one at the end among them."""
    monkeypatch.setattr(budget, "_measure_seconds", lambda cfg: (0.5, image))
    own = OwnData(place, place, minutes=1, given=frozenset({"TEST.EVAL_PERIOD"}))
    cfg = base(tmp_path / "run", "TEST.EVAL_PERIOD", "7")
    resolved, _ = fit_config(cfg, own, fresh=True, training=True)
    iterations = resolved.SOLVER.MAX_ITER

    def seconds(iterations):
        return iterations * 0.5 + min(-(-iterations // 7) * 4 * image, 18)

    assert seconds(iterations) <= 54 < seconds(iterations + 1)


def test_a_training_evaluated_at_its_end_alone_is_fitted_into_minutes(place, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "_measure_seconds", lambda cfg: (0.5, 0.5))
    own = OwnData(place, place, minutes=1, given=frozenset({"TEST.EVAL_PERIOD"}))
    cfg = base(tmp_path / "run", "TEST.EVAL_PERIOD", "0", "TEST.PATIENCE", "0")
    own = replace(own, given=own.given | {"TEST.PATIENCE"})
    resolved, _ = fit_config(cfg, own, fresh=True, training=True)
    assert resolved.SOLVER.MAX_ITER == 104  # 52 seconds, and 2 for an evaluation


def test_no_tracker_gets_the_measured_iterations(place, tmp_path, monkeypatch):
    built = []

    def build(cfg):
        built.append(cfg)
        raise KeyError("nothing is trained here")

    monkeypatch.setattr(budget, "trainer_of", lambda cfg: build)
    with pytest.raises(KeyError):
        budget.iterations_within(base(tmp_path, "TRACKERS", "('mlflow',)"), 1, 4, lambda _: 1)
    assert [cfg.TRACKERS for cfg in built] == [()]


def test_evaluations_take_at_most_a_third_of_the_minutes(place, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "_measure_seconds", lambda cfg: (1.0, 100.0))
    own = OwnData(place, place, minutes=1)
    assert fit_config(base(tmp_path), own, fresh=True, training=True)[0].SOLVER.MAX_ITER == 36


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--config-file", BASE, "--val", "a.json", "images"],
            "no --data JSON IMAGES, so that --val would be",
        ),
        (["--config-file", BASE, "--minutes", "3"], "so that --minutes would be"),
        (
            ["--data", "a.json", "images", "--dataset", "b", "b.json", "images"],
            "--dataset would be",
        ),
        (["--data", "a.json", "images", "--minutes", "0"], "no number from 1 upwards"),
        (["--data", "a.json"], "expected 2 arguments"),
        (["--data", "a.json", "a", "--data", "b.json", "b"], "--data: it is given twice; join"),
        (["--data", "a.json", "a", *["--val", "b.json", "b"] * 2], "--val: it is given twice"),
    ],
)
def test_options_that_do_not_go_together(words, told):
    with pytest.raises(ConfigError, match=told):
        parse(words)


def test_a_command_line_needs_no_config_and_its_pairs_and_overlays_are_given(tmp_path):
    overlay = tmp_path / "more.yaml"
    overlay.write_text("SOLVER: {IMS_PER_BATCH: 4}\n")
    words = [
        "--data",
        "a.json",
        "images",
        "--overlay",
        str(overlay),
        "SEED",
        "3",
        "TEST.PATIENCE=0",
    ]
    args = parse(words)
    assert args.config_file == BASE
    given = frozenset({"SOLVER.IMS_PER_BATCH", "SEED", "TEST.PATIENCE"})
    assert own_data_of(args) == OwnData(("a.json", "images"), None, None, given)


def test_lines_fit_a_run_that_is_evaluated_at_its_end(place, tmp_path):
    chosen = begun(place, tmp_path / "run")
    cfg = base(tmp_path / "run")
    assert "evaluated at the end," in lines_of(cfg, chosen)[1]


@pytest.mark.slow
def test_one_command_trains_resumes_and_evaluates(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--data", *place]
    # The weights of the base are of a larger model.
    tiny = [*TINY, "MODEL.WEIGHTS", ""]
    reported = []
    monkeypatch.setattr(run, "write_errors", lambda cfg, folder: reported.append(folder))
    assert maskrcnn([*words, *tiny]) == 0
    output = tmp_path / "output/instances"
    assert reported == [Path("output/instances")]
    printed = capsys.readouterr().out
    assert "Data: 3 images" in printed
    assert "Chosen: shorter side 64 px" in printed
    for name in ("results.json", "predictions.png", "model_best.pth", "suggested.yaml"):
        assert (output / name).is_file()
        if name != "suggested.yaml":
            assert f"output/instances/{name}" in printed
    assert maskrcnn([*words, "--resume", *tiny, "SOLVER.MAX_ITER", "4"]) == 0
    assert json.loads((output / "results.json").read_text())["iterations"] == 4
    # The last checkpoint, not the weights of the base, which do not fit.
    assert maskrcnn([*words, "--eval-only", *TINY, "SOLVER.MAX_ITER", "4"]) == 0
    # A run's config.yaml says all: it trains the same without the option.
    config = load_config(output / "config.yaml")
    assert config.INPUT.MIN_SIZE_TRAIN == (64,)
    assert main(["--config-file", str(output / "config.yaml"), "--eval-only"]) == 0


@pytest.mark.slow
def test_minutes_are_measured(place, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    pairs = [
        w for p in zip(TINY[::2], TINY[1::2], strict=True) if p[0] != "SOLVER.MAX_ITER" for w in p
    ]
    own = OwnData(place, place, minutes=1, given=frozenset(pairs[::2]))
    cfg = base(tmp_path / "run", *pairs, "MODEL.WEIGHTS", "")
    resolved, _ = fit_config(cfg, own, fresh=True, training=True)
    assert 10 < resolved.SOLVER.MAX_ITER < 60_000
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["suggested.yaml"]
