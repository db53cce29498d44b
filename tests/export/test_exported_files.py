"""Exported files: written, verified, and run by their runtimes, by the predictor, and without PyTorch."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace

from maskrcnn_cli.dispatch import main
from maskrcnn_repro import Predictor
from maskrcnn_repro.checkpoint.convert import convert
from maskrcnn_repro.checkpoint.model_source import find_model
from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.errors import ConfigError, ExportError
from maskrcnn_repro.export import exporting
from maskrcnn_repro.export.exporting import Exporter
from maskrcnn_repro.export.formats import WRITERS
from maskrcnn_repro.export.metadata import Target
from maskrcnn_repro.export.pictures import draw_picture
from maskrcnn_repro.inference.exported import (
    ExportedDetector,
    _damage,
    import_library,
    open_exported,
)
from maskrcnn_repro.serving.answers import model_card
from maskrcnn_repro.serving.limits import Limits
from maskrcnn_repro.utils.provenance import config_hash

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import torchvision_models as tv
from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import write_tiny_coco
from tests.helpers.tiny_predictor import LABELS, TORCHVISION, write_tiny_model

OPERATIONS = ("RoIPool", "RoIWarpMax", "RoIWarpAve", "RoIAlignMax", "RoIAlignAve")
CASES = [
    *((kind, {"MODEL.ROI_OP.NAME": name}) for kind in ("mask", "c4") for name in OPERATIONS),
    ("c4", {"MODEL.ROI_OP.NAME": "RoIPool", "MODEL.ROI_OP.HALF_PIXEL": True}),
    ("mask", {"MODEL.ROI_OP.NAME": ""}),
    ("c4", {"MODEL.ROI_OP.NAME": ""}),
    (
        "mask",
        {
            "MODEL.ROI_OP.NAME": "",
            "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool",
            "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIPool",
        },
    ),
    ("keypoint", {}),
    ("both", {}),
    ("box", {}),
    ("mask", {"MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True}),
    ("mask", {"MODEL.ROI_MASK_HEAD.LOSS": "softmax"}),
    ("mask", TORCHVISION),
    ("mask", {"MODEL.ROI_MASK_HEAD.NAME": "MLPMaskHead"}),
    ("mask", {"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}),
]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": {"a": 1}}, "'class_names' is no list of names"),
        ({"stuff_names": [1]}, "'stuff_names' is no list of names"),
        ({"export": []}, "'export' is no object"),
        ({"export": {"threshold": "x"}}, "'export' has no number as its 'threshold'"),
        ({"export": {"threshold": 0, "outputs": 3}}, "'outputs' of 'export' are no list of names"),
        ({"export": {"threshold": 0, "outputs": [["boxes"]]}}, "are no list of names"),
        (
            {"export": {"threshold": 0, "outputs": ["boxes"]}},
            "lacks the outputs 'classes', 'scores'",
        ),
    ],
)
def test_damaged_metadata_are_named(changes, words):
    facts = {"export": {"threshold": 0.05, "outputs": ["boxes", "scores", "classes"]}}
    assert not _damage(facts)
    assert words in _damage(facts | changes)


def exported(folder, target, kind="mask", **keys):
    """Export a tiny model; return the exporter, the file and its comparison with the model."""
    source = find_model(write_tiny_model(folder, kind, **keys))
    exporter = Exporter(source, target)
    file = folder / f"model{WRITERS[target.format][0]}"
    return exporter, file, exporter.write(file)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    exporter, file, comparison = exported(
        tmp_path_factory.mktemp("onnx"), Target(threshold=0.0, pasted=True)
    )
    assert comparison.holds
    assert comparison.matched == comparison.detections == 15
    return exporter, file


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A set registers itself by its name, once."""
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


def assert_near(prediction, expected):
    assert len(prediction) == len(expected) > 0
    np.testing.assert_allclose(prediction.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(prediction.scores, expected.scores, atol=1e-4)
    assert prediction.names == expected.names
    assert (prediction.masks == expected.masks).mean() > 0.999


def test_the_predictor_runs_an_onnx_file(onnx_file, tmp_path):
    exporter, file = onnx_file
    Image.fromarray(draw_picture((90, 70), 5)).save(tmp_path / "a.png")
    checkpoint = Predictor(exporter.source.weights, threshold=0.0, device="cpu")
    predictor = Predictor(file, threshold=0.0)
    assert_near(predictor(tmp_path / "a.png"), checkpoint(tmp_path / "a.png"))
    assert predictor.labels == checkpoint.labels
    assert predictor.labels.class_names == LABELS.class_names
    assert len(Predictor(file, threshold=1.0)(tmp_path / "a.png")) == 0


@pytest.mark.slow
def test_an_onnx_file_runs_without_pytorch(onnx_file, tmp_path):
    exporter, file = onnx_file
    Image.fromarray(draw_picture((90, 70), 5)).save(tmp_path / "a.png")
    expected = Predictor(exporter.source.weights, threshold=0.0, device="cpu")(tmp_path / "a.png")
    example = ROOT / "examples/onnx_without_torch.py"
    code = f"import sys; sys.modules['torch'] = None; import runpy; sys.argv[1:] = {[str(file), str(tmp_path / 'a.png')]}; "
    code += f"runpy.run_path({str(example)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == expected.names
    np.testing.assert_allclose(
        [[float(side) for side in row[2:]] for row in rows], expected.boxes, atol=0.06
    )
    assert len(example.read_text("utf-8").splitlines()) <= 40


def test_pasted_masks_are_those_of_the_predictor(onnx_file, tmp_path):
    exporter, file = onnx_file
    detect = runpy.run_path(str(ROOT / "examples/onnx_without_torch.py"))["detect"]
    import onnxruntime

    picture = Image.fromarray(draw_picture((90, 70), 5))
    outputs = detect(onnxruntime.InferenceSession(file), picture)
    expected = Predictor(exporter.source.weights, threshold=0.0, device="cpu")(picture)
    assert outputs["pasted"].shape == expected.masks.shape
    assert (outputs["pasted"] == expected.masks).mean() > 0.999


def test_metadata_say_all_that_a_user_needs(onnx_file):
    exporter, file = onnx_file
    facts = open_exported(file).facts
    assert (facts["min_size"], facts["max_size"], facts["opset"]) == (64, 128, 17)
    assert facts["std"] == [58.0, 57.0, 57.0]
    assert (facts["threshold"], facts["precision"]) == (0.0, "fp32")
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["config_hash"] == config_hash(exporter.trained.cfg)
    assert facts["outputs"] == ["boxes", "scores", "classes", "masks", "pasted"]


@pytest.mark.slow
def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    exporter = Exporter(
        find_model(write_tiny_model(tmp_path)), Target("torchscript", threshold=0.0)
    )
    with torch.no_grad():
        exporter.graph.branches.detections.predictor.bbox_pred.bias += 1.0
    # Graph and model share their layers; when they are compared the bias is as it was.
    before = exporting.compare_on

    def with_other_weights(pictures, model, exported):
        with torch.no_grad():
            exporter.graph.branches.detections.predictor.bbox_pred.bias.fill_(0.0)
        return before(pictures, model, exported)

    monkeypatch.setattr(exporting, "compare_on", with_other_weights)
    (tmp_path / "model.ts").write_text("what was there")
    with pytest.raises(ExportError, match=r"differs from the model and was not kept: 0 of 15"):
        exporter.write(tmp_path / "model.ts")
    assert (tmp_path / "model.ts").read_text() == "what was there"
    assert not list(tmp_path.glob(".export*"))


@pytest.mark.parametrize("name", ["a.pt2", "a.ts"])
def test_a_program_is_loaded_only_where_it_is_trusted(name, tmp_path):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ExportError, match=r"is a program.*trust=True"):
        Predictor(tmp_path / name)
    with pytest.raises(ExportError, match="cannot be opened"):
        Predictor(tmp_path / name, trust=True)


@pytest.mark.parametrize("command", ["predict", "serve --port 0"])
def test_a_command_tells_how_to_trust_a_program(command, tmp_path, capsys):
    (tmp_path / "a.pt2").write_bytes(b"anything")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    name, *words = command.split()
    words = [name, str(tmp_path / "a.pt2"), *words]
    words += [str(tmp_path / "a.png"), "--out", str(tmp_path)] if name == "predict" else []
    assert main(words) == 2
    assert "is a program" in (error := capsys.readouterr().err)
    assert "load it with --trust" in error
    assert main([*words, "--trust"]) == 2
    assert "cannot be opened" in capsys.readouterr().err


def test_a_server_tells_what_it_serves(onnx_file):
    exporter, file = onnx_file
    predictor = Predictor(file, threshold=None, precision="auto")
    predictor.facts = {**predictor.facts, "precision": "int8"}
    card = model_card(predictor, "model.onnx", Limits())
    assert (card["format"], card["precision"], card["device"]) == ("onnx", "int8", "cpu")
    assert (card["threshold"], card["classes"]) == (0.0, list(LABELS.class_names))
    assert card["input"] == {"min_size": 64, "max_size": 128}
    checkpoint = Predictor(exporter.source.weights, device="cpu")
    assert model_card(checkpoint, "model", Limits())["format"] == "checkpoint"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cuda"}, "device 'cuda': an exported file takes 'auto' or 'cpu'"),
        ({"precision": "bfloat16"}, "has its own; export with --precision"),
        ({"tta": True}, "looks at an image once"),
    ],
)
def test_what_a_file_has_decided_cannot_be_chosen(arguments, message, onnx_file):
    with pytest.raises(ConfigError, match=message):
        Predictor(onnx_file[1], **arguments)


def test_detections_below_the_threshold_of_a_file_are_not_there(onnx_file):
    opened = open_exported(onnx_file[1])
    opened = replace(opened, facts={**opened.facts, "threshold": 0.05})
    with pytest.raises(ConfigError, match=r"threshold 0.01 is below 0.05.*--threshold 0.01"):
        ExportedDetector(opened, 0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "pt2", "--precision", "fp16"], "'fp16' is not offered for pt2"),
        (["--precision", "int8"], "needs --calibrate JSON IMAGES"),
        (["--opset", "9"], "--opset 9 does not exist"),
        (["--out", "model.pb"], "let its name end in .onnx"),
        (["--out", "model.ONNX"], "let its name end in .onnx, in lower case"),
        (["--out", "/"], "let its name end in .onnx"),
        (["--out", "folder.onnx"], "it is a folder; name a file"),
        (["--format", "openvino", "--out", "folder.xml"], "folder.bin' cannot be written"),
        (["--threshold", "2"], "threshold 2.0 must be"),
    ],
)
def test_a_mistake_is_a_sentence(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for ending in (".onnx", ".bin"):
        (tmp_path / f"folder{ending}").mkdir()
    assert main(["export", str(write_tiny_model(tmp_path)), *words]) == 2
    assert message in capsys.readouterr().err


def test_another_onnx_file_is_named(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["a"], ["b"])],
        "other",
        [onnx.helper.make_tensor_value_info("a", 1, [1])],
        [onnx.helper.make_tensor_value_info("b", 1, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(ExportError, match="was not written by maskrcnn export"):
        Predictor(tmp_path / "other.onnx")
    with pytest.raises(ExportError, match="There is no exported file"):
        Predictor(tmp_path / "absent.onnx")


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"pip install 'maskrcnn-repro\[export\]'"):
        import_library("onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript"])
@pytest.mark.parametrize(("kind", "keys"), CASES)
def test_every_model_in_every_format(form, kind, keys, tmp_path):
    target = Target(form, threshold=0.0, pasted=True)
    _, file, comparison = exported(tmp_path, target, kind, **keys)
    assert comparison.holds
    assert comparison.detections >= 9
    assert comparison.matched + comparison.ties >= comparison.detections
    predictor = Predictor(file, threshold=0.0, trust=True)
    assert len(predictor(draw_picture((40, 300), 3))) > 0


@pytest.mark.slow
def test_a_detector_of_torchvision_goes_all_the_way(tmp_path):
    torch.manual_seed(0)
    theirs = tv.narrow(91).eval()
    picture = draw_picture((90, 130), 3)
    tv.spread(theirs, torch.from_numpy(picture).permute(2, 0, 1) / 255)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", tmp_path / "own.pth")
    source = find_model(tmp_path / "own.pth")
    source.cfg.INPUT.MIN_SIZE_TEST, source.cfg.INPUT.MAX_SIZE_TEST = 64, 96
    file = tmp_path / "model.onnx"
    comparison = Exporter(source, Target()).write(file)
    assert comparison.detections >= 60
    assert comparison.misses == 0
    expected = Predictor(source, threshold=None, device="cpu")(picture)
    assert_near(Predictor(file, threshold=None)(picture), expected)
    facts = open_exported(file).facts
    assert facts["pixels"] == "float32"
    assert "not antialiased" in facts["resize"]
    detect = runpy.run_path(str(ROOT / "examples/onnx_without_torch.py"))["detect"]
    import onnxruntime

    outputs = detect(onnxruntime.InferenceSession(file), Image.fromarray(picture))
    np.testing.assert_allclose(outputs["scores"], expected.scores, atol=1e-4)
    np.testing.assert_allclose(outputs["boxes"], expected.boxes, atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mask", "c4", "both"])
def test_every_kind_as_a_program_of_torch_export(kind, tmp_path):
    keys = {"INPUT.MIN_SIZE_TEST": 96, "INPUT.MAX_SIZE_TEST": 160}
    _, file, comparison = exported(tmp_path, Target("pt2", threshold=0.0), kind, **keys)
    assert comparison.holds
    predictor = Predictor(file, threshold=0.0, trust=True)
    assert len(predictor(draw_picture((80, 100), 3))) > 0
    if kind == "mask":
        with pytest.raises(ImageError, match=r"An input of 160 x 40 px is too small for .* pt2"):
            predictor(draw_picture((40, 160), 3))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lower_precisions_have_their_ap_beside(form, precision, data, tmp_path, capsys):
    labels = LABELS.__class__(class_names=("disc", "bar"))
    keys = {"MODEL.ROI_HEADS.NUM_CLASSES": 2}
    model = write_tiny_model(tmp_path, "mask", labels, **keys)
    full = tmp_path / f"full{WRITERS[form][0]}"
    words = ["export", str(model), "--format", form, "--threshold", "0"]
    assert main([*words, "--out", str(full)]) == 0
    small = tmp_path / f"small{WRITERS[form][0]}"
    words += ["--precision", precision, "--out", str(small), "--calibrate", *map(str, data)]
    assert main(words) == 0
    assert "AP segm:" in capsys.readouterr().out
    assert open_exported(small).facts["precision"] == precision


@pytest.mark.slow
def test_openvino_is_imported_without_its_telemetry():
    code = (
        "import sys; from maskrcnn_repro.inference.exported import imported; imported('openvino'); "
        "print([name for name in sys.modules if 'openvino_telemetry' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "projects",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []
