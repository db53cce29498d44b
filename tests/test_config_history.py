"""Configs of earlier versions are read in today's spelling and hashed in the first one."""

import hashlib
import json

from maskrcnn_repro import BACKEND
from maskrcnn_repro.config import get_config, leaves, load_config
from maskrcnn_repro.config_history import ADDED, is_earlier, spelled_first, spelled_today
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.paper.experiments import all_experiments
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.records import State, differences, hashes_of_file, read_config
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.utils.provenance import config_hash

import pytest
import yaml
from detectron2.config import get_cfg
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.config_dump import DUMP, read_dump, resolve_stored_names
from tests.helpers.fake_runs import write_run
from tests.helpers.paths import ROOT

RESULTS = sorted((ROOT / "results").glob("*/*/*/seed*.json"))


def nested(values):
    """Return dotted keys as a tree."""
    tree = {}
    for key, value in values.items():
        *place, name = key.split(".")
        node = tree
        for part in place:
            node = node.setdefault(part, {})
        node[name] = value
    return tree


def first_config(name="mini r50-c4-roipool", **changed):
    """Return a config as the first version wrote it into a run's folder."""
    return nested(read_dump(DUMP)[name] | {"MODEL.DEVICE": "cpu"} | changed)


def config(opts=(), name="coco/r50_c4_roipool.yaml"):
    return load_config(name, opts)


def test_by_hand():
    tree = {
        "MODEL": {
            "ROI_OP": {"NAME": "RoIPool"},
            "ROI_HEADS": {"NAME": "PaperRes5ROIHeads"},
            "ROI_BOX_HEAD": {"POOLER_TYPE": "ROIAlign", "POOLER_SAMPLING_RATIO": 2},
            "ROI_MASK_HEAD": {"ROI_OP": "RoIPool", "POOLER_TYPE": "", "POOLER_SAMPLING_RATIO": 0},
        },
        "SEED": 3,
    }
    today = spelled_today(tree)
    silent = {"POOLER_TYPE": "", "POOLER_SAMPLING_RATIO": 0}
    assert today["MODEL"]["ROI_BOX_HEAD"] == silent
    assert today["MODEL"]["ROI_MASK_HEAD"] == {"ROI_OP": "RoIPool", **silent}
    first = spelled_first(tree)
    written = {"POOLER_TYPE": "ROIAlign", "POOLER_SAMPLING_RATIO": 2}
    assert first["MODEL"]["ROI_BOX_HEAD"] == first["MODEL"]["ROI_MASK_HEAD"] == written
    assert (first["SEED"], tree["MODEL"]["ROI_MASK_HEAD"]["ROI_OP"]) == (3, "RoIPool")


def test_detectron2s_own_poolers_keep_their_keys():
    cfg = load_config("detectron2/r50_fpn.yaml")
    assert cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE == "ROIAlignV2"
    assert spelled_today(cfg) == spelled_today(spelled_today(cfg))
    assert spelled_today(cfg)["MODEL"]["ROI_MASK_HEAD"]["POOLER_TYPE"] == "ROIAlignV2"
    assert spelled_first(cfg)["MODEL"]["ROI_MASK_HEAD"]["POOLER_TYPE"] == "ROIAlignV2"


def test_values_that_two_keys_share_do_not_change_the_hash():
    shared = (1.0, 2.0)
    assert config_hash({"A": shared, "B": shared}) == config_hash(
        {"A": (1.0, 2.0), "B": [1.0, 2.0]}
    )


def hash_of_text(tree):
    """Return the hash of the text that Detectron2 writes, by PyYAML's writer in Python."""
    return hashlib.sha256(yaml.safe_dump(tree | {"OUTPUT_DIR": ""}).encode()).hexdigest()


# PyYAML's writer in C folds long texts elsewhere, and writes an empty key in another way.
@pytest.mark.parametrize("value", ['a "b\t' * 20, "ä b" * 40, {"": 1}, "1e-5", None])
def test_the_hash_is_that_of_the_text_that_detectron2_writes(value):
    assert config_hash({"A": {"B": value}}) == hash_of_text({"A": {"B": value}})


TEXTS = st.text(max_size=20) | st.text("ab :#'-é\n" + '"', max_size=300)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
TREES = st.recursive(
    st.dictionaries(st.text(max_size=9), LEAVES | st.lists(LEAVES)),
    lambda tree: st.dictionaries(st.text("ABC_é", max_size=200), tree | LEAVES | st.lists(tree)),
)


@pytest.mark.slow
@given(TREES)
@settings(deadline=None, max_examples=200)
def test_the_hash_of_any_values_is_that_of_their_text(tree):
    assert config_hash(tree) == hash_of_text(tree)


def test_a_config_without_the_nodes_of_heads_passes():
    assert spelled_today({"SEED": 1}) == spelled_first({"SEED": 1}) == {"SEED": 1}


@pytest.mark.skipif(BACKEND.name == "installed", reason="has keys that the records' backend lacked")
def test_every_experiment_has_the_hash_of_the_first_version():
    """Of the stored configs of the first version the hash was that of their text, with no OUTPUT_DIR."""
    stored = read_dump(DUMP)
    for name, values in resolve_stored_names().items():
        if name.startswith(("paper ", "mini ")):
            # The device is resolved when a run starts, or today when its config is loaded.
            first = stored[name] | {"OUTPUT_DIR": "", "MODEL.DEVICE": values["MODEL.DEVICE"]}
            # The C writer gives the same text in a tenth of the time.
            text = yaml.dump(nested(first), Dumper=yaml.CSafeDumper)
            assert config_hash(nested(values)) == hashlib.sha256(text.encode()).hexdigest(), name


def stage_of(name, chosen, seed=1):
    """Return the stage of an experiment by its name of today or a former one."""
    return plan([current_experiment(name)], [seed], chosen, all_experiments()).stages[-1]


def kept(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    return record, stage_of(record["experiment"], setting(record), record["seed"])


def setting(record):
    overlays = tuple(ROOT / "examples" / name for name in record["overlays"])
    level = record["level"].partition("-")[0]
    return Setting(level, tuple(record["overrides"]), overlays=overlays)


def names_no_folder(record):
    # Proposals and weights of earlier stages are named by the folder of the machine that made a record,
    # which it leaves out; the data of nucleus.yaml are no part of the repository.
    return not record["inputs"] and "nucleus.yaml" not in record["overlays"]


HASHED = [path for path in RESULTS if names_no_folder(json.loads(path.read_text()))]


def test_some_kept_records_name_no_folder():
    assert len(HASHED) >= 13


@pytest.mark.parametrize("path", HASHED, ids=lambda path: str(path.relative_to(ROOT / "results")))
def test_kept_records_have_the_hash_of_todays_config(path):
    record, stage = kept(path)
    cfg = stage.config.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = record["machine"]["device"]
    assert config_hash(cfg) == record["config_sha256"]


def test_kept_records_name_the_kept_runs_that_they_were_made_from():
    records = {path: json.loads(path.read_text(encoding="utf-8")) for path in RESULTS}
    made_from = [
        (path.parents[1] / f"{name.removesuffix('/proposals')}.json", identity)
        for path, record in records.items()
        for name, identity in record["inputs"].items()
    ]
    assert len(made_from) > 100
    assert all(records[source]["record"] == identity for source, identity in made_from)


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.ROI_MASK_HEAD.ROI_OP", "RoIPool"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool"),
        ("OUTPUT_DIR", "elsewhere"),
    ],
)
def test_another_spelling_of_a_model_has_its_hash(opts):
    assert config_hash(config(opts)) == config_hash(config())


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.ROI_MASK_HEAD.ROI_OP", "RoIAlignAve"),
        ("MODEL.ROI_OP.NAME", "RoIAlignAve"),
        ("MODEL.ROI_OP.SAMPLES", "3"),
        ("SEED", "7"),
    ],
)
def test_another_model_has_another_hash(opts):
    assert config_hash(config(opts)) != config_hash(config())


@pytest.mark.parametrize("name", ["mini r50-c4-roipool", "mini r50-fpn", "paper kp-r50-fpn"])
def test_a_runs_config_of_the_first_version_is_read_as_todays(tmp_path, name):
    tree = first_config(name)
    assert is_earlier(tree)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree))
    level, experiment = name.split()
    planned = stage_of(experiment, Setting(level)).config
    folders = {"DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST"}
    assert differences(planned, read_config(file), folders) == []
    read = load_config(file)
    assert differences(read, read_config(file)) == []
    # The hash that stands in the results beside such a file, and today's.
    assert set(hashes_of_file(file)) == {config_hash(read)}
    # A file that a run writes today is its own config again.
    file.write_text(read.dump())
    assert not is_earlier(yaml.safe_load(file.read_text()))
    assert load_config(file).dump() == read.dump()


@pytest.mark.parametrize("changed", [{}, {"SOLVER.BASE_LR": 0.5}])
def test_a_runs_folder_of_the_first_version_counts(tmp_path, changed):
    stage = stage_of("r50-c4-roipool", Setting("mini", root=tmp_path))
    write_run(stage, iterations=stage.config.SOLVER.MAX_ITER)
    stage.write_note()
    file = stage.folder / "config.yaml"
    text = yaml.safe_dump(first_config(OUTPUT_DIR="", **changed))
    file.write_text(text)
    results = json.loads(stage.results.read_text())
    results["config_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    stage.results.write_text(json.dumps(results))
    status = stage.status()
    assert status.state is (State.STALE if changed else State.DONE)
    assert status.note == ("SOLVER.BASE_LR is 0.5, planned 0.002" if changed else "")
    stage.results.unlink()
    assert stage.status().state is (State.STALE if changed else State.INTERRUPTED)


def test_a_run_whose_config_left_the_types_at_their_defaults_counts_too(tmp_path):
    file = tmp_path / "config.yaml"
    tree = first_config("file mini/mask_rcnn_fpn.yaml", OUTPUT_DIR="")
    assert tree["MODEL"]["ROI_BOX_HEAD"]["POOLER_TYPE"] == "ROIAlignV2"
    file.write_text(yaml.safe_dump(tree))
    hashes = hashes_of_file(file)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in hashes
    assert config_hash(load_config(file, ["OUTPUT_DIR", "elsewhere"])) in hashes


def test_every_key_that_the_first_version_lacked_is_listed():
    """A new key that is not listed changes the hash of every config."""
    first = set(read_dump(DUMP)["defaults"]) | {key for key, _ in leaves(get_cfg())}
    now = dict(leaves(get_config()))
    assert now.keys() - first == {change.key for change in ADDED}
    assert {change.key: change.default for change in ADDED} == {
        change.key: now[change.key] for change in ADDED
    }


def test_a_file_of_a_person_is_not_taken_for_a_runs(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "_BASE_: coco/r50_c4_roipool.yaml\nMODEL: {ROI_BOX_HEAD: {POOLER_TYPE: ROIAlign}}\n"
    )
    with pytest.raises(ConfigError, match="POOLER_TYPE 'ROIAlign'"):
        load_config(tmp_path / "own.yaml")
