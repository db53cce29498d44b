"""The list of all rows, its command line, and the two steps of training behind it."""

import json
from dataclasses import replace

from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.tables.models.comparison import PEERS, as_table, compare
from maskrcnn_repro.tables.models.listing import lines, remarks
from maskrcnn_repro.tables.models.short_training import ITERATIONS, train_briefly
from maskrcnn_repro.tables.models.tiny_data import IMAGES, PROPOSALS, SIDE, write_tiny_data
from maskrcnn_repro.tables.paper.experiments import experiment_config, experiments, find_experiment
from maskrcnn_repro.tables.paper.numbers import find_table

import pytest
import yaml

from tests.helpers.commands import list_rows

TRAINED = [experiment.id for experiment in experiments().values() if not experiment.evaluates]


def test_each_own_row_has_a_line_and_each_rpn_one():
    listed = lines([find_table("2b")])
    assert [line.row for line in listed] == ["T2b.softmax", "T2b.sigmoid", "X2b.argmax", ""]
    assert [line.experiment for line in listed][1:] == [
        "r50_c4",
        "r50_c4_softmax_argmax",
        "rpn_r50_c4",
    ]
    assert listed[2].stages == ("rpn_r50_c4", "r50_c4_softmax")
    # One more class in a 1x1 convolution of 256.
    assert listed[0].parameters - listed[1].parameters == 257


def test_a_row_without_an_experiment_says_why():
    table = find_table("9")
    (row,) = lines([replace(table, rows={"T9.4": table.rows["T9.4"]})])
    assert (row.row, row.experiment, row.parameters) == ("T9.4", "", None)
    assert remarks([row]) == [f"T9.4: {row.remark}"]
    assert row.remark.startswith("none: ")


def test_each_model_is_tried_once():
    tried = []
    listed = lines([find_table("2b")], lambda experiment: tried.append(experiment.id) or "ok")
    assert tried == ["r50_c4_softmax", "r50_c4", "rpn_r50_c4"]
    assert {line.trained for line in listed} == {"ok"}


def test_the_command_prints_and_writes_the_list(tmp_path, capsys):
    assert list_rows(["class-agnostic", "--output", str(tmp_path / "list.json")]) == 0
    printed = capsys.readouterr().out
    assert "T2x.agnostic" in printed
    assert "Multiply-adds: one image of 800x1216 px" in printed
    written = json.loads((tmp_path / "list.json").read_text())
    assert [line["row"] for line in written["lines"]] == ["T2x.agnostic", "T2x.specific", ""]
    assert (
        sum(written["sizes"]["r50_c4"]["parameters"].values()) == written["lines"][1]["parameters"]
    )
    assert written["origin"]["code"]["backend"]["name"] in ("embedded", "installed")
    assert list_rows(["class-agnostic", "--output", str(tmp_path / "list.md")]) == 0
    assert "| class-agnostic" in (tmp_path / "list.md").read_text()


def test_a_failed_training_ends_with_status_1(monkeypatch, capsys):
    def failing(experiment):
        raise FloatingPointError("a loss is not finite")

    monkeypatch.setattr("maskrcnn_repro.tables.models.listing.train_briefly", failing)
    assert list_rows(["class-agnostic", "--train"]) == 1
    assert "FloatingPointError: a loss is not finite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["2z"], "Error: Table '2z' does not exist."),
        (["2c", "--output", "list.txt"], "--output list.txt: it has to end with .json or .md."),
        (["--compare", "nowhere"], "does not exist; name Detectron2's folder configs."),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(words, message, capsys):
    assert list_rows(words) == 2
    assert message in capsys.readouterr().err


def test_a_peer_that_differs_in_what_is_known_is_explained(tmp_path):
    # Detectron2's C4 model in short: joint RPN, 1000 proposals, RoI features of 14x14.
    tree = {
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "MASK_ON": True,
            "ROI_HEADS": {"NAME": "Res5ROIHeads"},
            "ROI_BOX_HEAD": {"POOLER_RESOLUTION": 14},
            "RPN": {"POST_NMS_TOPK_TEST": 1000},
        }
    }
    for peer in PEERS.values():
        (tmp_path / peer).parent.mkdir(exist_ok=True)
        (tmp_path / peer).write_text(yaml.safe_dump(tree))
    first = compare(tmp_path, ["r50_c4"])[0]
    # 3x3 of 1024, then 15 scores and 60 offsets.
    rpn = 1024 * 1024 * 9 + 1024 + 15 * 1025 + 60 * 1025
    assert first.theirs.total_parameters - first.ours.total_parameters == rpn
    text = as_table([first])
    assert "boxes: ours sees 300 RoIs of 7x7, Detectron2's 1000 RoIs of 14x14." in text
    assert ", 0 the same names alone." in text


def test_tiny_data_are_coco_with_proposals_inside_the_images(tmp_path):
    json_file, images, path = write_tiny_data(tmp_path, classes=8, keypoints=("nose", "tail"))
    tree = json.loads(json_file.read_text())
    assert len(tree["categories"]) == 8
    assert len(list(images.iterdir())) == len(tree["images"]) == IMAGES
    for annotation in tree["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert 0 <= x < x + width <= SIDE
        assert 0 <= y < y + height <= SIDE
        assert x < annotation["keypoints"][0] < annotation["keypoints"][3] < x + width
    store = ProposalStore(path)
    boxes, _ = store[0]
    assert boxes.shape == (PROPOSALS, 4)
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_experiment_trains_two_iterations(name):
    model = experiment_config(find_experiment(name)).MODEL
    expected = set()
    if model.META_ARCHITECTURE == "MaskRCNN":
        expected |= {"loss_cls", "loss_box_reg"}
        expected |= {"loss_mask"} if model.MASK_ON else set()
        expected |= {"loss_keypoint"} if model.KEYPOINT_ON else set()
    if model.PROPOSAL_GENERATOR.NAME == "RPN":
        expected |= {"loss_rpn_cls", "loss_rpn_loc"}
    steps = train_briefly(find_experiment(name))
    assert len(steps) == ITERATIONS
    assert all(set(step) == expected for step in steps)
