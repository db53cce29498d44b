"""The smallest files that the fuzz tests (``tests/fuzz``) found to be accepted or to raise what no user understands."""

import json
import os

from maskrcnn_repro.checkpoint.manifest import read_manifest
from maskrcnn_repro.checkpoint.model_file import read_facts
from maskrcnn_repro.checkpoint.weight_file import read_shapes
from maskrcnn_repro.data.panoptic.truth import PanopticTruth
from maskrcnn_repro.data.proposals.detectron2_format import import_pickle
from maskrcnn_repro.data.proposals.store import INDEX, ProposalStore, checksum
from maskrcnn_repro.engine.optimizer_state import check_state
from maskrcnn_repro.engine.resume import _config_in
from maskrcnn_repro.errors import CheckpointError, DataError, ExportError, TableError
from maskrcnn_repro.inference.exported import _described
from maskrcnn_repro.tables.report.curve_files import read_metrics
from maskrcnn_repro.tables.report.kept_reading import read_report
from maskrcnn_repro.tables.runs.records import read_note, read_record

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.helpers.kept_results import RESULTS
from tests.helpers.malicious_files import call, named, raw
from tests.helpers.proposal_files import random_proposals, write_pickle

KEPT = RESULTS / "mini-double_size" / "embedded"
DEEP = "[" * 10**5


def changed(file, place, value):
    """Return the text of a JSON file with one value changed."""
    tree = part = json.loads(file.read_text(encoding="utf-8"))
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("weights",), 1),
        (("code", "backend", "name"), None),
        (("machine", "cpu"), 3.5),
        (("config_sha256",), ["a"]),
        (("seed",), float("inf")),
        (("train_seconds",), float("nan")),
        (("metrics", "mini_coco_seed1_val", "bbox", "AP"), float("nan")),
    ],
)
def test_a_record_with_a_wrong_field_is_refused(tmp_path, place, value):
    file = tmp_path / "results.json"
    file.write_text(changed(KEPT / "r50_c4" / "seed1.json", place, value))
    with pytest.raises(TableError, match=r"results\.json is no result of this project"):
        read_record(file)


@pytest.mark.parametrize(
    ("changed_to", "said"),
    [
        ({"datasets": None}, "a value is of another type."),
        ({"metrics": {"a": {"segm": {"AP": "30"}}}}, "'30' is no finite number."),
        ({"weights": 1}, "1 is no text."),
        (None, "it lacks 'datasets'."),
    ],
)
def test_what_is_wrong_with_a_record_is_told_in_words(tmp_path, changed_to, said):
    tree = json.loads((KEPT / "r50_c4" / "seed1.json").read_text())
    if changed_to is None:
        del tree["datasets"]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({**tree, **(changed_to or {})}))
    with pytest.raises(TableError) as told:
        read_record(file)
    assert str(told.value) == f"{file} is no result of this project: {said}"


def test_a_pipe_in_place_of_a_record_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(TableError, match="it is a pipe"):
        read_record(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("table",), float("nan")),
        (("title",), 2),
        (("rows",), "T2c.pool"),
        (("rows", 0, "cells"), "AP"),
        (("rows", 0, "cells"), {}),
        (("rows", 0, "ours"), 1),
        (("rows", 0, "cells", "AP", "paper"), 10**400),
        (("claims", 0, "outcome"), "perhaps"),
        (("origin", 0, "seed"), True),
    ],
)
def test_a_kept_report_with_a_wrong_field_is_refused(tmp_path, place, value):
    file = tmp_path / "2c.json"
    file.write_text(changed(KEPT / "tables" / "2c.json", place, value))
    with pytest.raises(TableError, match=r"2c\.json cannot be read"):
        read_report(file)


@pytest.mark.parametrize("text", [DEEP, '{"experiment": ["r50_c4"]}', '{"inputs": "r50_c4"}'])
def test_a_note_of_a_stage_is_refused(tmp_path, text):
    (tmp_path / "stage.json").write_text(text)
    with pytest.raises(TableError, match=r"stage\.json"):
        read_note(tmp_path)


@pytest.mark.parametrize(
    "line", [DEEP, '{"iteration": 1e999}', '{"iteration": 1, "a": 1' + "0" * 400 + "}"]
)
def test_a_line_that_is_no_metrics_is_skipped(tmp_path, line):
    file = tmp_path / "metrics.json"
    file.write_text(f'{line}\n{{"iteration": 19, "lr": 0.5}}\n')
    values, problem = read_metrics(file)
    assert values["lr"] == {19: 0.5}
    assert "1 lines are no metrics" in problem


def test_a_manifest_nested_too_deep_is_none(tmp_path):
    (tmp_path / "model_0000009.json").write_text(DEEP)
    assert read_manifest(tmp_path / "model_0000009.pth") == {}


def test_panoptic_labels_nested_too_deep_are_refused(tmp_path):
    (tmp_path / "labels.json").write_text(DEEP)
    with pytest.raises(DataError, match=r"labels\.json is not in COCO's panoptic format"):
        PanopticTruth.read(tmp_path / "labels.json", tmp_path)


def test_facts_of_a_model_nested_too_deep_are_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata={"class_names": DEEP})
    with pytest.raises(CheckpointError, match=r"model\.safetensors says .* what is no JSON"):
        read_facts(file)
    with pytest.raises(ExportError, match=r"The metadata of model\.onnx are damaged"):
        _described("model.onnx", {"config": "", "export": "{}", "class_names": DEEP})


def test_a_config_nested_too_deep_is_none(tmp_path):
    (tmp_path / "config.yaml").write_text(DEEP[:1000])
    assert _config_in(tmp_path) == {}


@pytest.mark.parametrize(
    "instructions",
    [
        b"cos\nsystem\n",
        call("numpy.core.multiarray:_reconstruct", raw(0)) + raw(tuple(range(6))) + b"b",
        call("numpy.core.numeric:_frombuffer", raw(0)),
        call("numpy.core.numeric:_frombuffer", raw(b""), raw(0), raw(4), raw("C")),
    ],
    ids=["a class", "six parts of a state", "one argument", "a number as shape"],
)
def test_what_is_no_array_has_no_shape(tmp_path, instructions):
    file = tmp_path / "weights.pkl"
    file.write_bytes(named(instructions))
    assert read_shapes(file) == {}


@pytest.fixture
def store(tmp_path):
    file = write_pickle(tmp_path / "a.pkl", random_proposals(count=2))
    return import_pickle(file, tmp_path / "a.proposals").path


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x93NUMPY\1\0\2\0{\n", b"\x80\4N."])
def test_an_array_of_a_store_that_is_none(store, content):
    change(store, "boxes.npy", content)
    with pytest.raises(DataError, match=r"boxes\.npy: the file was altered"):
        ProposalStore(store)


@pytest.mark.parametrize(
    "content", [b"[10, 11, 12]", b"[[], 1, 2, 3]", b'{"a": 1}', b"5", DEEP.encode()]
)
def test_ids_of_a_store_that_are_none(store, content):
    change(store, "image_ids.json", content)
    with pytest.raises(
        DataError, match=r"image_ids\.json: the file was altered \(it is no list of"
    ):
        ProposalStore(store).image_ids()


def change(store, name, content):
    """Change a file of a store, its size and checksum with it."""
    (store / name).write_bytes(content)
    index = json.loads((store / INDEX).read_text())
    index["files"][name] = {"bytes": len(content), "crc32": checksum(store / name)}
    (store / INDEX).write_text(json.dumps(index))


def test_an_import_that_fails_leaves_nothing(tmp_path):
    boxes = [(np.zeros((2, 4), np.float32), np.array([1, np.nan], np.float32))]
    file = write_pickle(tmp_path / "a.pkl", boxes, ids=[1])
    with pytest.raises(DataError, match="infinite or NaN"):
        import_pickle(file, tmp_path / "a.proposals")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("param_groups",), "lr"),
        (("param_groups", 0, "params"), [1, 0]),
        (("param_groups", 0, "lr"), None),
        (("param_groups", 0, "betas"), (0.9,)),
        (("param_groups", 0, "weight_decay"), float("nan")),
        (("state",), []),
        (("state", 0), None),
        (("state", 0, "exp_avg"), None),
        (("state", 1, "step"), "1"),
    ],
)
def test_a_damaged_state_of_an_optimiser_is_refused(place, value):
    model = nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    part = state = optimizer.state_dict()
    check_state(optimizer, state)
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(CheckpointError, match="The checkpoint's optimiser is damaged"):
        check_state(optimizer, state)
