"""Exported files of Panoptic FPN and DensePose: what the model says, nothing found, formats, commands of the docs."""

import json
import runpy
import shlex
import sys
from dataclasses import replace

from maskrcnn_cli.dispatch import main
from maskrcnn_repro import Predictor
from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ExportError
from maskrcnn_repro.export.graph import ExportGraph
from maskrcnn_repro.export.pictures import draw_picture
from maskrcnn_repro.export.verify import Comparison, compare_on
from maskrcnn_repro.inference.exported import ExportedDetector, file_input
from maskrcnn_repro.inference.exported_branches import FURTHER

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_family.densepose import FamilyDensePoseROIHeads
from maskrcnn_family.panoptic_fpn.export import PanopticExport, classes_of
from maskrcnn_family.panoptic_fpn.model import FamilyPanopticFPN
from tests.family import test_densepose, test_panoptic_fpn
from tests.helpers.code_blocks import blocks_of
from tests.helpers.exports import export_tiny_model, graph_as_file
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import picture, tiny_config, tiny_model

KINDS = {"panoptic_fpn": ("mask", test_panoptic_fpn), "densepose": ("box", test_densepose)}
LABELS = Labels(("disc", "bar", "ring"), (4, 7, 9), stuff_names=("things", "sky", "sea", "sand"))
SIZES = (((64, 80), (64, 80)), ((50, 97), (75, 145)))
"""Height and width of an input, and of the results."""


def tiny(name, **changes):
    """Return a tiny model and its config."""
    kind, module = KINDS[name]
    load_config(module.CONFIG, [])
    keys = module.KEYS | {"MODEL.INFERENCE.MASK_OUTPUT": "rle"} | changes
    return tiny_model(kind, **keys), tiny_config(kind, **keys)


def pairs(model, exported, threshold=None):
    """Yield the model's and the file's result of each size."""
    detector = ExportedDetector(exported, threshold)
    for size, (height, width) in SIZES:
        given = picture(size, height=height, width=width)
        with torch.no_grad():
            yield model([given])[0], detector([given])[0]


def test_classes_of_a_map_by_hand():
    ids = torch.tensor([[0, 1], [2, 3]], dtype=torch.int32)
    segments = [
        {"id": 1, "isthing": True, "category_id": 0},
        {"id": 2, "isthing": True, "category_id": 2},
        {"id": 3, "isthing": False, "category_id": 2},
    ]
    assert classes_of((ids, segments)).tolist() == [[0, 1], [3, -3]]


def test_labels_of_a_file_are_held_against_the_model_s_probabilities():
    branch = FURTHER[FamilyPanopticFPN]
    # Of two pixels the first is 0.5 to 0.25 to 0.25 likely, the second 0.4 to 0.4 to 0.2.
    logits = torch.tensor([[[0.5, 0.4]], [[0.25, 0.4]], [[0.25, 0.2]]]).log()
    segment = [{"id": 1, "isthing": False, "category_id": 1, "area": 1}]
    expected = {"sem_seg": logits, "panoptic_seg": (torch.tensor([[0, 1]]), segment)}
    given = {"panoptic_seg": (torch.tensor([[1, 1]]), segment)}
    same = branch.differences(expected, expected, {"semantic": np.array([[0, 1]])})
    assert same == {"semantic": 0.0, "panoptic": 0.0}
    other = branch.differences(expected, given, {"semantic": np.array([[2, 0]])})
    assert other == {"semantic": pytest.approx(0.25), "panoptic": 0.5}
    assert not Comparison(largest=other, limits=branch.limits).holds


def test_labels_and_panoptic_maps_are_the_model_s():
    model, cfg = tiny("panoptic_fpn")
    for expected, given in pairs(model, graph_as_file(model, cfg)):
        (ids, segments), (own_ids, own_segments) = (r["panoptic_seg"] for r in (given, expected))
        assert torch.equal(ids, own_ids)
        assert {segment["isthing"] for segment in segments} == {True, False}
        for segment, own in zip(segments, own_segments, strict=True):
            assert segment == own | (
                {"score": pytest.approx(own["score"], abs=1e-6)} if own["isthing"] else {}
            )


@pytest.mark.slow
def test_the_threshold_is_that_of_things_in_the_map():
    model, cfg = tiny("panoptic_fpn")
    exported, scores = graph_as_file(model, cfg), {}
    for threshold in (None, 0.0, 0.288):
        _, result = next(pairs(model, exported, threshold))
        things = [s for s in result["panoptic_seg"][1] if s["isthing"]]
        scores[threshold] = [segment["score"] for segment in things]
    # Its config has 0.2, below which no score lies.
    assert min(scores[None]) < 0.288 < max(scores[None])
    assert scores[0.0] == scores[None]
    assert scores[0.288] == [score for score in scores[None] if score > 0.288]


@pytest.mark.parametrize("decoder", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_surface_coordinates_are_the_model_s(decoder):
    model, cfg = tiny("densepose", **{f"{test_densepose.HEAD}.DECODER_ON": decoder})
    for expected, given in pairs(model, graph_as_file(model, cfg)):
        maps, own = (r["instances"].pred_densepose.tensors() for r in (given, expected))
        assert len(own[0]) > 1
        for tensor, own_tensor in zip(maps, own, strict=True):
            torch.testing.assert_close(tensor, own_tensor, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["densepose", pytest.param("panoptic_fpn", marks=pytest.mark.slow)]
)
def test_nothing_found_is_nothing(name):
    model, cfg = tiny(name)
    exported = graph_as_file(model, cfg, threshold=1.0)
    given = picture()
    outputs = exported.run(*file_input(given, "BGR"))
    assert len(outputs["scores"]) == 0
    result = ExportedDetector(exported)([given])[0]
    if name == "densepose":
        assert outputs["densepose_u"].shape == (0, 5, 16, 16)
        assert result["instances"].pred_densepose.surfaces(torch.zeros(0, 4)) == []
    else:
        assert {segment["isthing"] for segment in result["panoptic_seg"][1]} == {False}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tensor", "largest"),
    [("densepose", "densepose_u", "densepose_u"), ("panoptic_fpn", "semantic", "panoptic")],
)
def test_a_file_with_another_branch_does_not_hold(name, tensor, largest):
    model, cfg = tiny(name)
    exported = graph_as_file(model, cfg)
    given = [picture(size, height=h, width=w) for size, (h, w) in SIZES]
    assert compare_on(given, model, exported).holds

    def run(*inputs):
        outputs = exported.run(*inputs)
        return outputs | {tensor: (outputs[tensor] + 1) % 4}

    comparison = compare_on(given, model, replace(exported, run=run))
    assert comparison.matched == comparison.detections > 0
    assert comparison.largest[largest] > comparison.limits[largest]
    assert not comparison.holds


@pytest.mark.slow
def test_a_branch_without_a_form_is_told(monkeypatch):
    for name, kind, message in (
        ("panoptic_fpn", FamilyPanopticFPN, "its semantic branch has no form .* takes the same"),
        ("densepose", FamilyDensePoseROIHeads, "with MODEL.DENSEPOSE_ON False the other"),
    ):
        model, _ = tiny(name)
        monkeypatch.delitem(FURTHER, kind)
        with pytest.raises(ExportError, match=message):
            ExportGraph(model, threshold=0.0)


@pytest.mark.slow
def test_heads_without_surface_coordinates_are_exported_as_boxes():
    model, cfg = tiny("densepose", **{"MODEL.DENSEPOSE_ON": False})
    exported = graph_as_file(model, cfg)
    assert exported.facts["outputs"] == ["boxes", "scores", "classes"]
    assert not ExportedDetector(exported)([picture()])[0]["instances"].has("pred_densepose")


@pytest.mark.slow
def test_the_example_fuses_as_the_model_does(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    fuse = runpy.run_path(str(ROOT / "examples/panoptic_without_torch.py"))["fuse"]
    model, cfg = tiny("panoptic_fpn")
    exported = graph_as_file(model, cfg)
    for size, wanted in SIZES:
        given = picture(size, height=wanted[0], width=wanted[1])
        with torch.no_grad():
            ids, own = model([given])[0]["panoptic_seg"]
            outputs = exported.run(*file_input(given, "BGR"))
        found, segments = fuse(outputs, exported.facts["fusion"])
        assert segments == [(s["isthing"], s["category_id"]) for s in own]
        assert (found == ids.numpy()).mean() > 0.999


# --- files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint and an ONNX file of each."""
    written = {}
    for name, (kind, module) in KINDS.items():
        folder = tmp_path_factory.mktemp(name)
        load_config(module.CONFIG, [])
        target = {"pasted": kind == "mask"}
        written[name] = export_tiny_model(folder, kind, "onnx", module.KEYS, LABELS, **target)
    return written


@pytest.mark.slow
@pytest.mark.parametrize("form", ["openvino", "torchscript", "pt2"])
@pytest.mark.parametrize("name", KINDS)
def test_every_format(name, form, tmp_path):
    kind, module = KINDS[name]
    load_config(module.CONFIG, [])
    # pt2 takes no smaller ones.
    keys = module.KEYS | {"INPUT.MIN_SIZE_TEST": 96, "INPUT.MAX_SIZE_TEST": 160}
    comparison, weights, file = export_tiny_model(tmp_path, kind, form, keys, LABELS)
    assert {"panoptic", "densepose_u"} & comparison.largest.keys()
    assert_alike(weights, file)


def assert_alike(weights, file):
    image = draw_picture((90, 120), 5)
    expected = Predictor(weights, threshold=0.2, device="cpu", precision="float32")(image)
    given = Predictor(file, threshold=0.2, trust=True)(image)
    assert given.names == expected.names
    if expected.surfaces is None:
        assert np.array_equal(given.panoptic_seg, expected.panoptic_seg)
        assert [i["name"] for i in given.segments_info] == [
            i["name"] for i in expected.segments_info
        ]
        assert {"sky", "sea", "sand"} & {i["name"] for i in given.segments_info}
    else:
        assert len(expected.surfaces) > 0
        for surface, own in zip(given.surfaces, expected.surfaces, strict=True):
            assert (surface == own).mean() > 0.99
    np.testing.assert_allclose(given.draw(image), expected.draw(image), atol=3)


@pytest.mark.parametrize(
    "fusion", [None, {}, {"score": 1}, {"score": "x", "overlap": 1, "stuff_area": 1}]
)
def test_damaged_numbers_of_the_fusion_are_named(fusion):
    with pytest.raises(ExportError, match="'fusion'"):
        PanopticExport().add({}, {}, {"fusion": fusion}, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_predictor_takes_the_onnx_file(name, files):
    comparison, weights, file = files[name]
    assert comparison.seconds > (0, 0)
    assert_alike(weights, file)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_documented_commands_predict_draw_and_export(name, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    title = "panoptic" if name == "panoptic_fpn" else "people"
    (tmp_path / f"{title}.safetensors").write_bytes(files[name][1].read_bytes())
    Image.fromarray(draw_picture((90, 120), 5)).save("a.png")
    (block,) = (b for b in blocks_of(ROOT / "docs/family.md", ROOT) if f"{title}.onnx" in b.code)
    pictures = []
    for command in block.commands:
        words = shlex.split(command, comments=True)[1:]
        exact = ["--threshold", "0.2", "--precision", "float32"]
        words += exact if words[0] == "predict" else ["--threshold", "0"]
        assert main(words) == 0
        overlay = tmp_path / "predictions/overlays/a.png"
        pictures.append(np.asarray(Image.open(overlay)).astype(int))
    first, last = pictures[0], pictures[-1]
    plain = np.asarray(Image.fromarray(draw_picture((90, 120), 5)).resize(first.shape[1::-1]))
    assert (np.abs(first - plain).max(axis=2) > 30).mean() > 0.1
    assert (np.abs(first - last).max(axis=2) > 3).mean() < 0.01
    if name == "panoptic_fpn":
        tree = json.loads((tmp_path / "predictions/panoptic.json").read_text())
        assert len(tree["annotations"][0]["segments_info"]) > 1


@pytest.mark.slow
def test_the_example_runs_a_file(files, tmp_path, monkeypatch, capsys):
    _, weights, file = files["panoptic_fpn"]
    Image.fromarray(draw_picture((90, 120), 5)).save(tmp_path / "a.png")
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setattr(sys, "argv", ["", str(file), str(tmp_path / "a.png")])
    runpy.run_path(str(ROOT / "examples/panoptic_without_torch.py"), run_name="__main__")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    expected = Predictor(weights, threshold=None, device="cpu")(tmp_path / "a.png")
    assert [row[0] for row in rows] == [info["name"] for info in expected.segments_info]
    areas = np.bincount(expected.panoptic_seg.ravel())[1:]
    np.testing.assert_allclose([int(row[2]) for row in rows], areas, atol=3)
