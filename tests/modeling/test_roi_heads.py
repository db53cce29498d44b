"""The paper's RoI heads: sizes of Figure 4, agreement with Detectron2's heads, empty batches, messages."""

from maskrcnn_repro.config import get_config, load_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.box_predictor import BoxPredictor
from maskrcnn_repro.roi_ops import RoIOpPooler, RoIPool

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_roi_heads
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import BitMasks, Boxes, Instances
from torch.testing import assert_close

FPN = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (2, 3, 4, 5)}
C5 = {"res5": ShapeSpec(channels=8, stride=32)}
C4 = {"res4": ShapeSpec(channels=32, stride=16)}
SIZE = 128  # pixels of the network's input, both sides

PAPER_C4 = {"MODEL.ROI_HEADS.RES5_STRIDE": 1, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7}
DETECTRON2_C4 = {"MODEL.ROI_HEADS.RES5_STRIDE": 2, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14}


def config(shapes, name, **keys):
    """Narrow heads on the maps of ``shapes``; RoI operation and sizes are Detectron2's."""
    cfg = get_config()
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    heads, box = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
    heads.NAME, heads.IN_FEATURES, heads.NUM_CLASSES = name, [*shapes], 3
    heads.SCORE_THRESH_TEST = 0.0
    box.NAME, box.NUM_FC, box.FC_DIM, box.POOLER_RESOLUTION = "FastRCNNConvFCHead", 1, 16, 7
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.merge_from_list([word for pair in keys.items() for word in pair])
    return cfg


def build(shapes, name, **keys):
    torch.manual_seed(5)
    return build_roi_heads(config(shapes, name, **keys), shapes)


def maps(shapes):
    return {
        name: torch.randn(2, shape.channels, SIZE // shape.stride, SIZE // shape.stride)
        for name, shape in shapes.items()
    }


def boxes(count):
    corner = torch.rand(count, 2) * 80
    return Boxes(torch.cat([corner, corner + 8 + torch.rand(count, 2) * 40], dim=1))


def proposals(*counts):
    return [
        Instances((SIZE, SIZE), proposal_boxes=boxes(n), objectness_logits=torch.randn(n))
        for n in counts
    ]


def truth(*counts):
    return [
        Instances(
            (SIZE, SIZE),
            gt_boxes=boxes(count),
            gt_classes=torch.arange(count) % 3,
            gt_masks=BitMasks(torch.rand(count, SIZE, SIZE) < 0.5),
        )
        for count in counts
    ]


def losses(heads, features):
    """The losses of a fixed batch, whose proposals are the ground truth and random boxes."""
    torch.manual_seed(6)
    return heads.train()(None, features, proposals(5, 7), truth(3, 2))[1]


@torch.no_grad()
def detections(heads, features):
    torch.manual_seed(6)
    results = heads.eval()(None, features, proposals(5, 7))[0]
    return [
        instances.get_fields() | {"pred_boxes": instances.pred_boxes.tensor}
        for instances in results
    ]


def sizes_seen(module):
    """Shapes of a module's inputs and outputs from now on."""
    seen = []
    module.register_forward_hook(
        lambda _, args, out: seen.append((tuple(args[0].shape), tuple(out.shape)))
    )
    return seen


def test_c4_of_figure_4_keeps_7x7_through_res5_and_shares_it(storage):
    heads = build(C4, "PaperRes5ROIHeads", **PAPER_C4)
    res5, masks = sizes_seen(heads.res5), sizes_seen(heads.mask_head.predictor)
    losses(heads, maps(C4))
    # 5 + 3 and 7 + 2 RoIs, 32 channels of res4 and 64 of res5: once, for both branches.
    assert res5 == [((17, 32, 7, 7), (17, 64, 7, 7))]
    (seen,) = masks
    assert seen[0][1:] == (8, 14, 14)
    assert seen[1][1:] == (3, 14, 14)
    assert seen[0][0] < 17  # positive RoIs alone


def test_c4_of_detectron2_halves_14x14(storage):
    heads = build(C4, "PaperRes5ROIHeads", **DETECTRON2_C4)
    res5 = sizes_seen(heads.res5)
    losses(heads, maps(C4))
    assert res5 == [((17, 32, 14, 14), (17, 64, 7, 7))]


def test_res5_keeps_its_first_blocks(storage):
    whole = build(C4, "PaperRes5ROIHeads", **PAPER_C4)
    heads = build(C4, "PaperRes5ROIHeads", **PAPER_C4, **{"MODEL.ROI_HEADS.RES5_BLOCKS": 1})
    # 32 channels inside: 32 of res4 to 32 (1x1), 3x3, 32 to 64 (1x1); a 1x1 shortcut; norms are frozen.
    block = 32 * 32 + 32 * 32 * 9 + 32 * 64 + 32 * 64
    assert sum(p.numel() for p in heads.res5.parameters()) == block
    # Each further block reads 64 channels and has no shortcut of its own.
    further = 64 * 32 + 32 * 32 * 9 + 32 * 64
    assert sum(p.numel() for p in whole.res5.parameters()) == block + 2 * further
    assert {name.partition(".")[0] for name in heads.res5.state_dict()} == {"0"}
    x = torch.rand(3, 32, 7, 7)
    heads.res5.load_state_dict(whole.res5[:1].state_dict())
    assert_close(heads.res5(x), whole.res5[0](x), rtol=0, atol=0)
    assert losses(heads, maps(C4))["loss_mask"] > 0


@pytest.mark.parametrize("shapes", [FPN, C5])
def test_own_heads_of_figure_4_pool_7x7_and_14x14(storage, shapes):
    heads = build(shapes, "PaperStandardROIHeads", **{"MODEL.ROI_OP.NAME": "RoIAlignAve"})
    box, mask = sizes_seen(heads.box_head), sizes_seen(heads.mask_head.predictor)
    losses(heads, maps(shapes))
    assert box[0][0] == (17, 8, 7, 7)
    assert mask[0][1][1:] == (3, 28, 28)


def test_stride_in_the_first_1x1_reads_every_other_cell():
    """With the stride there, 14x14 and stride 2 are 7x7 and stride 1 on the even cells."""
    stride2 = build(C4, "PaperRes5ROIHeads", **DETECTRON2_C4).res5
    stride1 = build(C4, "PaperRes5ROIHeads", **PAPER_C4).res5
    x = torch.rand(3, 32, 14, 14)
    assert_close(stride2(x), stride1(x[:, :, ::2, ::2]))


@pytest.mark.parametrize(
    ("shapes", "names", "keys"),
    [
        (C4, ("Res5ROIHeads", "PaperRes5ROIHeads"), DETECTRON2_C4),
        (FPN, ("StandardROIHeads", "PaperStandardROIHeads"), {}),
        (C5, ("StandardROIHeads", "PaperStandardROIHeads"), {}),
    ],
)
def test_with_detectron2s_settings_the_heads_are_detectron2s(storage, shapes, names, keys):
    theirs, ours = (build(shapes, name, **keys) for name in names)
    assert_close(theirs.state_dict(), ours.state_dict(), rtol=0, atol=0)
    features = maps(shapes)
    expected = losses(theirs, features)
    assert expected["loss_mask"] > 0
    assert_close(expected, losses(ours, features), rtol=0, atol=0)
    expected = detections(theirs, features)
    assert min(len(fields["scores"]) for fields in expected) > 0
    assert_close(expected, detections(ours, features), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shapes", "name"),
    [(C4, "PaperRes5ROIHeads"), (FPN, "PaperStandardROIHeads"), (C5, "PaperStandardROIHeads")],
)
def test_roi_op_takes_the_place_of_detectron2s_pooler_type(storage, shapes, name):
    theirs = {f"MODEL.ROI_{head}_HEAD.POOLER_TYPE": "ROIAlign" for head in ("BOX", "MASK")}
    theirs |= {f"MODEL.ROI_{head}_HEAD.POOLER_SAMPLING_RATIO": 2 for head in ("BOX", "MASK")}
    features = maps(shapes)
    expected = losses(build(shapes, name, **theirs), features)
    ours = build(shapes, name, **{"MODEL.ROI_OP.NAME": "RoIAlignAve"})
    assert_close(losses(ours, features), expected, rtol=1e-4, atol=1e-5)
    other = build(shapes, name, **{"MODEL.ROI_OP.NAME": "RoIPool"})
    assert abs(losses(other, features)["loss_mask"] - expected["loss_mask"]) > 1e-7


def test_each_branch_may_have_an_operation_of_its_own(storage):
    keys = {"MODEL.KEYPOINT_ON": True, "MODEL.ROI_OP.NAME": "RoIAlignAve"}
    keys |= {
        "MODEL.ROI_MASK_HEAD.ROI_OP": "RoIPool",
        "MODEL.ROI_KEYPOINT_HEAD.ROI_OP": "RoIWarpMax",
    }
    heads = build(FPN, "PaperStandardROIHeads", **keys)
    poolers = heads.box_pooler, heads.mask_pooler, heads.keypoint_pooler
    names = [type(pooler.level_poolers[0]).__name__ for pooler in poolers]
    assert names == ["RoIAlignAve", "RoIPool", "RoIWarpMax"]
    assert [pooler.output_size for pooler in poolers] == [(7, 7), (14, 14), (14, 14)]


def test_an_roi_operation_of_one_branch_leaves_the_other_branches_detectron2s(storage):
    heads = build(C5, "PaperStandardROIHeads", **{"MODEL.ROI_MASK_HEAD.ROI_OP": "RoIPool"})
    assert isinstance(heads.mask_pooler, RoIOpPooler)
    assert isinstance(heads.box_pooler, ROIPooler)


def test_a_config_from_a_file_has_the_heads_of_one_from_python():
    """In a file's config Detectron2's keys are silent: it must not be asked to build from them."""
    cfg = load_config("coco/r50_fpn_roipool.yaml", ["MODEL.KEYPOINT_ON", "True"])
    with torch.device("meta"):
        heads = build_roi_heads(
            cfg, {k: ShapeSpec(channels=256, stride=s.stride) for k, s in FPN.items()}
        )
    for pooler in (heads.box_pooler, heads.mask_pooler, heads.keypoint_pooler):
        assert isinstance(pooler.level_poolers[0], RoIPool)


def test_c4_pools_once_for_boxes_alone_by_their_key(storage):
    keys = {"MODEL.ROI_OP.NAME": "RoIAlignAve", "MODEL.ROI_BOX_HEAD.ROI_OP": "RoIPool"}
    heads = build(C4, "PaperRes5ROIHeads", **keys, **{"MODEL.MASK_ON": False})
    assert isinstance(heads.pooler.level_poolers[0], RoIPool)


@pytest.mark.parametrize(
    ("shapes", "name", "theirs"),
    [(C4, "PaperRes5ROIHeads", "Res5ROIHeads"), (FPN, "PaperStandardROIHeads", "StandardROIHeads")],
)
def test_full_size_heads_have_detectron2s_names_and_shapes(shapes, name, theirs):
    channels = 1024 if shapes is C4 else 256
    real = {key: ShapeSpec(channels=channels, stride=s.stride) for key, s in shapes.items()}
    built = []
    for head_name in (name, theirs):
        cfg = config(shapes, head_name, **{"MODEL.RESNETS.RES2_OUT_CHANNELS": 256})
        cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 64
        with torch.device("meta"):
            built.append(build_roi_heads(cfg, real))
    ours, theirs = ({k: v.shape for k, v in heads.state_dict().items()} for heads in built)
    assert ours == theirs
    if shapes is C4:
        assert ours["res5.0.conv1.weight"] == (512, 1024, 1, 1)


@pytest.mark.parametrize(
    ("keys", "side"),
    [
        (PAPER_C4, 7),
        (DETECTRON2_C4, 7),
        # Of 7 cells a stride of 2 reads the first, third, fifth and seventh.
        (DETECTRON2_C4 | {"MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7}, 4),
    ],
)
def test_an_mlp_on_res5_knows_the_side_behind_it(storage, keys, side):
    mlp = {"MODEL.ROI_MASK_HEAD.NAME": "MLPMaskHead", "MODEL.ROI_MASK_HEAD.FC_DIM": 8}
    heads = build(C4, "PaperRes5ROIHeads", **keys, **mlp)
    assert heads.mask_head.hidden[0].in_features == 64 * side**2
    assert losses(heads, maps(C4))["loss_mask"] > 0


@pytest.mark.parametrize(
    ("shapes", "name"), [(C4, "PaperRes5ROIHeads"), (FPN, "PaperStandardROIHeads")]
)
@pytest.mark.parametrize("mask_head", ["FCNMaskHead", "MLPMaskHead"])
def test_empty_batches(storage, shapes, name, mask_head):
    small = {"MODEL.ROI_MASK_HEAD.NAME": mask_head, "MODEL.ROI_MASK_HEAD.FC_DIM": 8}
    heads = build(shapes, name, **{"MODEL.ROI_OP.NAME": "RoIAlignAve"}, **small)
    features = maps(shapes)
    _, loss_dict = heads(None, features, proposals(4, 0), truth(0, 0))
    assert loss_dict["loss_mask"] == 0
    sum(loss_dict.values()).backward()
    assert all(p.grad is not None for p in heads.parameters() if p.requires_grad)
    results = heads.eval()(None, features, proposals(0, 0))[0]
    assert [instances.pred_masks.shape[:2] for instances in results] == [(0, 1), (0, 1)]


@pytest.mark.parametrize("agnostic", [False, True])
def test_small_detections_are_left_out_and_an_image_may_have_no_proposals(agnostic):
    regression = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    layers = BoxPredictor(
        ShapeSpec(channels=2),
        box2box_transform=regression,
        num_classes=3,
        cls_agnostic_bbox_reg=agnostic,
        min_size=6.0,
    )
    large, small = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[0.0, 0, 9, 5]])
    images = [
        Instances((SIZE, SIZE), proposal_boxes=Boxes(rois))
        for rois in (torch.zeros(0, 4), large, small, torch.cat([small, large]))
    ]
    with torch.no_grad():
        found, rows = layers.inference(layers(torch.zeros(4, 2)), images)
    assert [sorted(set(kept.tolist())) for kept in rows] == [[], [0], [], [1]]
    assert [len(instances) for instances in found] == [0, 3, 0, 3]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.ROI_HEADS.RES5_STRIDE": 3}, "RES5_STRIDE 3 does not exist. It may be 1, 2"),
        ({"MODEL.ROI_HEADS.RES5_BLOCKS": 0}, "RES5_BLOCKS 0 does not exist. It may be 1, 2, 3"),
        ({"MODEL.ROI_HEADS.RES5_BLOCKS": 4}, "RES5_BLOCKS 4 does not exist. It may be 1, 2, 3"),
        ({"MODEL.KEYPOINT_ON": True}, "KEYPOINT_ON True, but .*choose 'PaperStandardROIHeads'"),
        ({"MODEL.ROI_OP.NAME": "RoIAlign"}, "'RoIAlign'.*Did you mean 'RoIAlignMax'"),
        (
            {"MODEL.ROI_OP.NAME": "RoIAlignAve", "MODEL.ROI_MASK_HEAD.ROI_OP": "RoIPool"},
            "mask branch, 'RoIPool', is not that of the box branch, 'RoIAlignAve'.*pools once for both",
        ),
    ],
)
def test_messages(keys, message):
    with pytest.raises(ConfigError, match=message):
        build(C4, "PaperRes5ROIHeads", **keys)
