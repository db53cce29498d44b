"""Several views of an image (test-time augmentation) of Panoptic FPN and DensePose."""

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.densepose.surface import Mirror
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.modeling.tta import boxes_only

import numpy as np
import pytest
import torch
from detectron2.structures import Instances

from maskrcnn_family.densepose.head import mirror_for
from maskrcnn_family.densepose.maps import SurfaceMaps
from tests.family import test_densepose
from tests.family.test_combinations import SIZE, augmented
from tests.family.test_exports import KINDS, tiny
from tests.helpers.tiny_models import assert_same, picture, tiny_config
from tests.helpers.tiny_predictor import write_pictures, write_tiny_model

PARTS = np.arange(256, dtype=np.uint8)
PARTS[[1, 2]] = 2, 1
MIRROR = Mirror(np.array([0, 1, 3, 2, 4]), PARTS, lambda chart, u, v: (u, 1 - v))
"""Charts 2 and 3 are those of the left and the right side."""


def maps(**cells):
    """Return maps of 0 with 5 charts and 3 parts on 1 x 2 cells, but for those of ``cells``, as name_channel."""
    whole = {"coarse": torch.zeros(1, 3, 1, 2)}
    whole |= {name: torch.zeros(1, 5, 1, 2) for name in ("fine", "u", "v")}
    for name, values in cells.items():
        kind, channel = name.split("_")
        whole[kind][0, int(channel), 0] = torch.tensor(values)
    return SurfaceMaps(**whole)


def test_maps_of_a_mirrored_image_by_hand():
    # Seen in the mirror: on the left cell a left arm (chart 2) with u 0.25 and v 0.75, beyond the table on the right one.
    seen = maps(coarse_1=(7.0, 3.0), fine_2=(5.0, 1.0), u_2=(0.25, -0.5), v_2=(0.75, 1.5))
    turned = seen.mirrored(MIRROR)
    # A right arm on the right cell; v runs the other way, from 1.
    assert turned.coarse[0, :, 0].tolist() == [[0, 0], [0, 0], [3, 7]]
    assert turned.fine[0, :, 0].tolist() == [[0, 0], [0, 0], [0, 0], [1, 5], [0, 0]]
    assert turned.u[0, 3, 0].tolist() == [0, 0.25]
    assert turned.v[0, 3, 0].tolist() == [0, 0.25]
    assert turned.v[0, 2, 0].tolist() == [1, 1]
    # Body and background are no sides.
    both = SurfaceMaps(seen.coarse[:, :2], *seen.tensors()[1:]).mirrored(MIRROR)
    assert both.coarse[0, :, 0].tolist() == [[0, 0], [3, 7]]
    assert len(seen[:0].mirrored(MIRROR)) == 0


def test_the_mean_of_maps_by_hand():
    mean = SurfaceMaps.mean([maps(u_1=(1.0, 0.0)), maps(u_1=(0.0, 0.0)), maps(fine_1=(3.0, 6.0))])
    assert mean.u[0, 1, 0].tolist() == [pytest.approx(1 / 3), 0]
    assert mean.fine[0, 1, 0].tolist() == [1, 2]


def test_views_are_merged_by_their_mirror():
    heads = tiny("densepose")[0].roi_heads
    with boxes_only(heads):
        assert not heads.densepose_on
    assert heads.densepose_on
    outputs = [Instances(SIZE, pred_densepose=maps(u_2=(0.5, 0.0))) for _ in range(2)]
    with pytest.raises(ConfigError, match=r"need a mirror: .* TEST.AUG.FLIP True"):
        heads.merge_views(outputs, [False, True])
    heads.mirror = MIRROR
    merged = heads.merge_views(outputs, [False, True])["pred_densepose"]
    assert merged.u[0, 2, 0].tolist() == [0.25, 0]
    assert merged.u[0, 3, 0].tolist() == [0, 0.25]
    heads.coordinates = "middle"
    assert (heads.merge_views(outputs, [False, True])["pred_densepose"].v == 0.5).all()
    heads.densepose_on = False
    assert heads.merge_views(outputs, [False, True]) == {}


@pytest.mark.parametrize("name", KINDS)
def test_one_view_is_the_same_to_the_last_bit_as_none(name):
    model, given = tiny(name, **{"MODEL.INFERENCE.MASK_OUTPUT": "bitmap"})[0], picture(SIZE)
    with torch.no_grad():
        (expected,) = model([given])
    (output,) = augmented(model, (0,), flip=False)([given])
    ours, theirs = output["instances"], expected["instances"]
    assert len(ours) > 1
    if name == "densepose":
        pairs = zip(*(i.pred_densepose.tensors() for i in (ours, theirs)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        for instances in (ours, theirs):
            instances.remove("pred_densepose")
    else:
        assert torch.equal(output["sem_seg"], expected["sem_seg"])
        assert torch.equal(output["panoptic_seg"][0], expected["panoptic_seg"][0])
        assert output["panoptic_seg"][1] == expected["panoptic_seg"][1] != []
    assert_same(ours, theirs)


@pytest.mark.slow
def test_a_mirrored_image_has_a_mirrored_map():
    model, given = (
        tiny("panoptic_fpn", **{"MODEL.INFERENCE.MASK_OUTPUT": "bitmap"})[0],
        picture(SIZE),
    )
    wrapped = augmented(model, (64, 96), flip=True)
    (upright,) = wrapped([given])
    (mirrored,) = wrapped([{"image": given["image"].flip(dims=[2])}])
    assert upright["sem_seg"].shape == (4, *SIZE)
    torch.testing.assert_close(mirrored["sem_seg"].flip(dims=[2]), upright["sem_seg"])
    (ids, segments), (own_ids, own) = mirrored["panoptic_seg"], upright["panoptic_seg"]
    assert [(s["isthing"], s["category_id"]) for s in segments] == [
        (s["isthing"], s["category_id"]) for s in own
    ]
    # A pixel of a mask at 0.5 may fall to either side.
    assert (ids.flip(dims=[1]) == own_ids).float().mean() > 0.99


@pytest.mark.slow
def test_labels_of_two_views_are_those_of_their_mean():
    model, given = tiny("panoptic_fpn")[0], picture(SIZE)
    with torch.no_grad():
        one, other = (
            model([{"image": given["image"].flip(dims=dims)}])[0]["sem_seg"] for dims in ([], [2])
        )
    (output,) = augmented(model, (0,), flip=True)([given])
    torch.testing.assert_close(output["sem_seg"], (one + other.flip(dims=[2])) / 2)
    assert not torch.equal(one, other.flip(dims=[2]))
    ids, segments = output["panoptic_seg"]
    labels = output["sem_seg"].argmax(dim=0)
    for segment in segments:
        if not segment["isthing"]:
            assert (labels[ids == segment["id"]] == segment["category_id"]).all()


@pytest.mark.slow
def test_a_mirrored_person_has_the_coordinates_of_the_other_side():
    model, given = tiny("densepose")[0], picture(SIZE)
    model.roi_heads.mirror = MIRROR
    with torch.no_grad():
        # Coordinates in [0, 1], where a mirror is one.
        for layer in (
            model.roi_heads.densepose_predictor.u_lowres,
            model.roi_heads.densepose_predictor.v_lowres,
        ):
            layer.weight.mul_(1e-4)
            layer.bias.fill_(0.4)
    wrapped = augmented(model, (64, 96), flip=True)
    (upright,) = wrapped([given])
    (mirrored,) = wrapped([{"image": given["image"].flip(dims=[2])}])
    maps, own = (r["instances"].pred_densepose for r in (mirrored, upright))
    assert len(own) == 5
    assert own.v.std() > 1e-4
    for ours, theirs in zip(maps.mirrored(MIRROR).tensors(), own.tensors(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_mirror_is_that_of_the_training_data():
    keys = test_densepose.KEYS | {
        "TEST.AUG.ENABLED": True,
        "DATASETS.TRAIN": ("mini_people_seed9_train",),
    }
    patches = f"{test_densepose.HEAD}.NUM_PATCHES"
    load_config(test_densepose.CONFIG, [])
    mirror = mirror_for(tiny_config("box", **keys | {patches: 12}))
    assert len(mirror.charts) == 13
    assert mirror_for(tiny_config("box", **keys | {"TEST.AUG.FLIP": False})) is None
    with pytest.raises(ConfigError, match=r"'mini_people_seed9_train' has 12 charts .* is 4 "):
        mirror_for(tiny_config("box", **keys))
    with pytest.raises(ConfigError, match=r"DATASETS.TRAIN names no data set"):
        mirror_for(tiny_config("box", **keys | {"DATASETS.TRAIN": (), "DATASETS.TEST": ()}))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_predictor_takes_several_views(name, tmp_path):
    kind, module = KINDS[name]
    load_config(module.CONFIG, [])
    keys = module.KEYS | {"TEST.AUG.MIN_SIZES": (64, 96), "TEST.AUG.MAX_SIZE": 200}
    if name == "densepose":
        keys |= {"DATASETS.TRAIN": ("mini_people_seed9_train",)}
        keys[f"{test_densepose.HEAD}.NUM_PATCHES"] = 12
    source = write_tiny_model(tmp_path, kind, **keys)
    (image,) = write_pictures(tmp_path / "pictures", [SIZE])
    prediction = Predictor(source, threshold=None, device="cpu", tta=True)(image)
    assert len(prediction) == 5
    if name == "densepose":
        assert len(prediction.surfaces) == 5
    else:
        assert prediction.panoptic_seg.shape == SIZE
        assert prediction.segments_info
    assert prediction.draw().shape == (*SIZE, 3)
