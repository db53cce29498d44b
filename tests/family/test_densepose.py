"""DensePose: losses and results by hand, gradients, the reference's numbers, nobody, predictions, mistakes."""

import json
import math
from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.targets import SurfaceTargets
from maskrcnn_repro.data.synthetic.dataset import SPLITS
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.visualization.densepose import draw_surfaces, surface_colors

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

import maskrcnn_family
from maskrcnn_family.densepose.losses import Weights, densepose_losses, parts_in_boxes
from maskrcnn_family.densepose.maps import SurfaceMaps
from tests.family import densepose_parity
from tests.helpers.parity import compare
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import tiny_config
from tests.helpers.tiny_predictor import write_pictures, write_tiny_model

CONFIG = Path(maskrcnn_family.__file__).parent / "densepose" / "config.yaml"
HEAD = "MODEL.ROI_DENSEPOSE_HEAD"
KEYS = {
    "PLUGINS": ["maskrcnn_family.densepose"],
    "MODEL.DENSEPOSE_ON": True,
    "MODEL.ROI_HEADS.NAME": "FamilyDensePoseROIHeads",
    f"{HEAD}.NUM_PATCHES": 4,
    f"{HEAD}.NUM_STACKED_CONVS": 2,
    f"{HEAD}.CONV_HEAD_DIM": 4,
    f"{HEAD}.POOLER_RESOLUTION": 4,
    f"{HEAD}.DECODER_COMMON_STRIDE": 16,
    f"{HEAD}.DECODER_CONV_DIMS": 4,
    f"{HEAD}.DECODER_NUM_CLASSES": 4,
}
BOX = torch.tensor([[10.0, 20.0, 26.0, 28.0]])


def surface(*rows, parts=None):
    """Return points: x and y in the box in [0, 1], chart, u and v."""
    points = np.array([(x * SIDE, y * SIDE, *rest) for x, y, *rest in rows], float).reshape(-1, 5)
    return SurfacePoints(points, parts)


def zero_maps(side=4, charts=3):
    shape = 1, charts, side, side
    return SurfaceMaps(torch.zeros(1, 2, side, side), *(torch.zeros(shape) for _ in range(3)))


def losses(maps, *surfaces, boxes=BOX, weights=(1, 1, 1)):
    truth = BOX.expand(len(surfaces), 4)
    targets = SurfaceTargets.of(surfaces)
    found = densepose_losses(maps, targets, truth, boxes, Weights(*weights))
    return {name[-1]: loss.item() for name, loss in found.items()}


def test_losses_are_those_of_the_points():
    maps = zero_maps()
    # Of chart 1 u is the column, 0 to 3; v is 5 everywhere. The background's logit is log 3, of chart 1 0, of chart 2 -inf.
    maps.u[0, 1] = torch.arange(4.0)
    maps.v[0, 1] = 5.0
    maps.fine[0, 0], maps.fine[0, 2] = math.log(3), -1e9
    points = surface((0.375, 0.5, 1, 0.5, 0.25), (0.875, 0, 1, 1, 1), (0.1, 0.1, 0, 0, 0))
    found = losses(maps, points, weights=(2, 3, 0.1))
    # At columns 1.5 and, beyond the last, 3: smooth L1 of 1 is 0.5, of 2 is 1.5; v: 4.75 and 4 less a half each.
    assert found["U"] == pytest.approx(0.1 * (0.5 + 1.5))
    assert found["V"] == pytest.approx(0.1 * (4.25 + 3.5))
    assert found["I"] == pytest.approx(3 * (2 * math.log(4) + math.log(4 / 3)) / 3)
    assert found["S"] == 0
    body = np.zeros((SIDE, SIDE), np.uint8)
    body[:, : SIDE // 2] = 3
    maps.coarse[0, 1] = math.log(3)
    # Half of the cells are body, of probability 3/4.
    expected = 2 * (math.log(4 / 3) + math.log(4)) / 2
    both = surface((0.375, 0.5, 1, 0.5, 0.25), parts=body)
    assert losses(maps, both, weights=(2, 3, 1))["S"] == pytest.approx(expected)


def test_places_are_those_of_the_roi():
    maps = zero_maps()
    maps.u[0, 1] = torch.arange(4.0)
    # The right half of the person's box: its middle is the left edge; what is left of it does not count.
    right = torch.tensor([[18.0, 20.0, 26.0, 28.0]])
    points = surface((0.75, 0.5, 1, 0, 0), (0.25, 0.5, 1, 9, 9))
    assert losses(maps, points, boxes=right)["U"] == pytest.approx(1.5)
    parts = torch.arange(SIDE, dtype=torch.uint8).expand(1, SIDE, SIDE)
    # Columns of the RoI's cells begin at 128, 160, 192 and 224 of 256, stretched to 255 steps.
    assert parts_in_boxes(parts, BOX, right, 4)[0, 0].tolist() == [128, 159, 191, 223]
    outside = torch.tensor([[26.0, 20.0, 58.0, 28.0]])
    assert parts_in_boxes(parts, BOX, outside, 4)[0, 1, 1:].tolist() == [0, 0, 0]


def test_without_a_point_on_a_body_all_losses_are_zero_and_part_of_the_graph():
    maps = SurfaceMaps(*(tensor.requires_grad_() for tensor in zero_maps().tensors()))
    left = torch.tensor([[0.0, 20.0, 10.0, 28.0]])
    for points, boxes in (
        (surface((0.5, 0.5, 0, 0, 0)), BOX),
        (surface((0.5, 0.5, 1, 1, 1)), left),
    ):
        targets = SurfaceTargets.of([points])
        found = densepose_losses(maps, targets, BOX, boxes, Weights(1, 1, 1))
        assert all(loss == 0 for loss in found.values())
        sum(found.values()).backward()
        assert all(tensor.grad is not None for tensor in maps.tensors())


def test_gradients_are_those_of_differences():
    torch.manual_seed(0)
    parts = np.arange(SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint8) % 3
    points = surface((0.3, 0.4, 1, 0.5, 0.2), (0.8, 0.7, 2, 0.1, 0.9), parts=parts)
    targets = SurfaceTargets.of([points])
    tensors = [torch.randn_like(t, dtype=torch.float64) for t in zero_maps(side=2).tensors()]

    def total(*maps):
        found = densepose_losses(SurfaceMaps(*maps), targets, BOX, BOX, Weights(1, 1, 1))
        return sum(found.values())

    assert torch.autograd.gradcheck(total, [t.requires_grad_() for t in tensors])


def test_a_pixel_has_the_likeliest_chart_with_its_coordinates_where_there_is_a_body():
    maps = zero_maps(side=2)
    maps.coarse[0, 1, :, 0] = 1.0
    maps.fine[0, 2] = 1.0
    maps.u[0, 2], maps.u[0, 1], maps.v[0, 2] = 0.5, 0.9, 1.5
    (found,) = maps.surfaces(torch.tensor([[3.2, 4.7, 5.9, 6.8]]))
    assert found.dtype == torch.uint8
    # 2.7 by 2.1 pixels are 2 by 2.
    assert found.tolist() == [[[2, 0], [2, 0]], [[127, 0], [127, 0]], [[255, 0], [255, 0]]]
    assert maps.surfaces(torch.tensor([[3.2, 4.7, 3.3, 4.8]]))[0].shape == (3, 1, 1)
    assert maps[:0].surfaces(torch.zeros(0, 4)) == []
    assert len(maps[-1]) == 1


# --- the reference's numbers


@pytest.mark.parametrize("variant", densepose_parity.VARIANTS)
def test_numbers_are_those_of_detectron2_s_densepose_project(variant):
    ours, stored = densepose_parity.measure(variant, ours=True), densepose_parity.stored()[variant]
    assert ours["state"] == stored["state"]
    assert compare.losses(ours["losses"], stored["losses"]) == []
    assert compare.gradients(ours["gradients"], stored["gradients"]) == []
    for image, expected in zip(ours["surfaces"], stored["surfaces"], strict=True):
        for (chart, *uv), (chart_, *uv_) in zip(image, expected, strict=True):
            same = np.array(chart) == np.array(chart_)
            assert same.mean() > 0.99
            difference = np.abs(np.array(uv, int) - np.array(uv_, int))[:, same]
            # Coordinates are cut off to 255ths.
            assert difference.max(initial=0) <= 1


# --- a whole model


def model(**changes):
    torch.manual_seed(0)
    return build_model(tiny_config("box", **(KEYS | changes)))


def sample(people, annotated=True):
    instances = Instances((64, 80), gt_boxes=Boxes(torch.tensor([[8.0, 8, 40, 56]] * people)))
    instances.gt_boxes.tensor = instances.gt_boxes.tensor.view(-1, 4)
    instances.gt_classes = torch.zeros(people, dtype=torch.long)
    parts = np.ones((SIDE, SIDE), np.uint8)
    points = surface((0.5, 0.5, 1, 0.5, 0.5), (0.2, 0.2, 2, 0.1, 0.9), parts=parts)
    instances.gt_densepose = SurfaceTargets.of([points if annotated else None] * people)
    return {"image": torch.zeros(3, 64, 80, dtype=torch.uint8), "instances": instances}


@pytest.mark.parametrize("decoder", [True, False])
@pytest.mark.parametrize(
    "batch", [[sample(2), sample(0)], [sample(0)], [sample(1, annotated=False)]], ids=len
)
def test_every_parameter_has_a_gradient_whoever_is_there(batch, decoder):
    module = model(**{f"{HEAD}.DECODER_ON": decoder}).train()
    with EventStorage():
        found = module(batch)
    sum(found.values()).backward()
    total = sum(found[f"loss_densepose_{letter}"].item() for letter in "UVIS")
    annotated = any(item["instances"].gt_densepose.annotated.any() for item in batch)
    assert (total > 0) == annotated
    lost = [n for n, p in module.roi_heads.named_parameters() if p.grad is None]
    assert [name for name in lost if not name.startswith("box_")] == []


@pytest.mark.slow
def test_losses_fall_in_thirty_steps():
    module, batch = model().train(), [sample(2)]
    steps = torch.optim.Adam(module.roi_heads.parameters(), lr=0.01)
    history = []
    for _ in range(30):
        with EventStorage():
            found = module(batch)
        total = sum(loss for name, loss in found.items() if "densepose" in name)
        steps.zero_grad()
        total.backward()
        steps.step()
        history.append(total.item())
    assert history[-1] < 0.3 * history[0]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    load_config(CONFIG, [])
    return write_tiny_model(tmp_path_factory.mktemp("model"), "box", **KEYS)


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_predictor_gives_surfaces_and_draws_them(file, tmp_path, fast):
    (path,) = write_pictures(tmp_path, [(64, 80)])
    predictor = Predictor(file, threshold=0.0, device="cpu", precision="float32", fast=fast)
    prediction = predictor(path)
    assert len(prediction.surfaces) == len(prediction) > 1
    for shape, box in zip(prediction.surfaces, prediction.boxes, strict=True):
        width, height = np.maximum((box[2:] - box[:2]).astype(int), 1)
        assert shape.shape == (3, height, width)
    assert len(prediction[:1].surfaces) == 1
    assert np.array_equal(prediction[1].surfaces[0], prediction.surfaces[1])
    assert prediction.draw().shape == (64, 80, 3)


def test_coordinates_are_drawn_in_the_colours_of_their_charts():
    shape = np.zeros((3, 4, 5), np.uint8)
    shape[0, :, 1:3], shape[1:, :, 1:3] = 1, 60
    colors = surface_colors(shape)
    assert (colors[:, [0, 3, 4]] == 0).all()
    assert colors[0, 1].argmax() == 0  # the first colour is a red
    image = np.full((10, 10, 3), 100, np.uint8)
    # Half outside of the image.
    drawn = draw_surfaces(image, [shape], np.array([[-2.0, 8, 3, 12]]))
    changed = (drawn != image).any(axis=2)
    assert changed[8:, :1].all()
    assert changed.sum() == 2
    assert not (image != 100).any()


def test_the_middle_of_a_chart_stands_for_its_coordinates(file):
    module = model(**{"TEST.DENSEPOSE_COORDINATES": "middle"}).eval()
    with torch.no_grad():
        (output,) = module([{"image": torch.zeros(3, 64, 80, dtype=torch.uint8)}])
    maps = output["instances"].pred_densepose
    assert len(maps) == len(output["instances"])
    assert (maps.u == 0.5).all()
    assert (maps.v == 0.5).all()


def test_off_it_is_the_paper_s_model():
    module = build_model(tiny_config("box", **(KEYS | {"MODEL.DENSEPOSE_ON": False})))
    names = [name for name, _ in module.roi_heads.named_parameters()]
    assert names
    assert all(name.startswith("box_") for name in names)


TRAINED = {
    "MODEL.LOAD_PROPOSALS": False,
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0, 2.0]],
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 16,
    "DATASETS.TRAIN": ("mini_people_seed77_train",),
    "DATASETS.TEST": ("mini_people_seed77_val",),
    "INPUT.MIN_SIZE_TRAIN": (128,),
    "INPUT.MIN_SIZE_TEST": 128,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.IMS_PER_BATCH": 2,
    "TEST.SHEET_IMAGES": 2,
}


def run_mini(output, **changes):
    """Train two iterations at level mini."""
    overlays = [ROOT / "configs/mini/level/fpn.yaml", CONFIG.with_name("mini.yaml")]
    words = ["--config-file", str(CONFIG)]
    words += [word for file in overlays for word in ("--overlay", str(file))]
    keys = TRAINED | changes | {"OUTPUT_DIR": str(output)}
    return main([*words, *(str(word) for pair in keys.items() for word in pair)])


@pytest.mark.slow
def test_level_mini_trains_and_measures(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_REPRO_CACHE", str(tmp_path / "cache"))
    for split in SPLITS:
        monkeypatch.setitem(SPLITS, split, 4)
    assert run_mini(tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    metrics = metrics.get("mini_people_seed77_val", metrics)
    assert set(metrics) == {"bbox", "densepose_gps", "densepose_gpsm"}
    assert 0 <= metrics["densepose_gps"]["AP"] <= 100
    assert (tmp_path / "cache/mini_people/v2/seed77_val_4_densepose/densepose.json").is_file()


def test_data_without_coordinates_end_before_training(tmp_path, capsys):
    names = {"DATASETS.TRAIN": ("keypoints_coco_2017_train",), "DATASETS.TEST": ()}
    assert run_mini(tmp_path / "run", **names) == 2
    assert "'keypoints_coco_2017_train' has no surface coordinates" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{HEAD}.DECONV_KERNEL": 3}, "DECONV_KERNEL 3 must be an even number"),
        ({f"{HEAD}.CONV_HEAD_KERNEL": 2}, "CONV_HEAD_KERNEL 2 must be an odd number"),
        ({f"{HEAD}.DECODER_NORM": "GN"}, "DECODER_CONV_DIMS 4 must be a multiple of 32"),
        ({f"{HEAD}.DECODER_COMMON_STRIDE": 12}, "DECODER_COMMON_STRIDE 12 is not the stride 16"),
    ],
)
def test_keys_that_no_head_can_have_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        model(**changes)


def test_the_config_is_the_paper_s_with_this_head():
    cfg = load_config(CONFIG, [])
    assert cfg.MODEL.DENSEPOSE_ON
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
    assert {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST} <= set(DatasetCatalog.list())
