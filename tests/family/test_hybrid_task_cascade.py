"""Hybrid Task Cascade: values by hand, the plain heads with one stage, mmdetection's, no objects, mistakes."""

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.model_source import find_model
from maskrcnn_repro.data.panoptic.files import IGNORED
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.export.exporting import Exporter
from maskrcnn_repro.export.formats import WRITERS
from maskrcnn_repro.export.metadata import Target
from maskrcnn_repro.modeling.fast_training.checkpointing import checkpoint_stages, kept_activations
from maskrcnn_repro.modeling.mask_head import FCNMaskHead
from maskrcnn_repro.modeling.meta_arch import UNLABELLED, LabelledImages
from maskrcnn_repro.modeling.tta import TestTimeAugmentation

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

from maskrcnn_family.hybrid_task_cascade.head import SEMANTIC, to_side
from tests.family import hybrid_parity as parity
from tests.helpers.tiny_models import picture, tiny_model
from tests.helpers.tiny_predictor import write_tiny_model

SIZE = (64, 64)
CASCADE = "MODEL.ROI_BOX_CASCADE_HEAD"
ONE_STAGE = {
    f"{CASCADE}.IOUS": (0.5,),
    f"{CASCADE}.BBOX_REG_WEIGHTS": ((10.0, 10.0, 5.0, 5.0),),
    "MODEL.HYBRID_TASK_CASCADE.LOSS_WEIGHTS": (1.0,),
}
PLAIN = {"DATASETS.WITH_SEM_SEG": False}


def heads(name="FamilyHybridTaskROIHeads", **changes):
    """Heads on two maps of 4 channels, 3 classes; 6 cells of a mask's RoI, 3 of a box's."""
    values = {
        "MODEL.ROI_HEADS.NAME": name,
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2"],
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 1.0,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 8,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 3,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 6,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3"],
    }
    cfg = parity.config(**(values | changes))
    torch.manual_seed(0)
    shapes = {f"p{k}": ShapeSpec(channels=4, stride=2**k) for k in (2, 3)}
    return ROI_HEADS_REGISTRY.get(name)(cfg, shapes)


def features(count=1):
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(count, 4, side, side, generator=generator)
        for name, side in (("p2", 16), ("p3", 8))
    }


def proposals(*boxes):
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    return Instances(SIZE, proposal_boxes=boxes, objectness_logits=torch.zeros(len(boxes)))


def truth(*boxes):
    image = Instances(SIZE, gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4)))
    image.gt_classes = torch.arange(len(boxes)) % 3
    bitmaps = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    bitmaps[:, 8:40, 8:32] = True
    image.gt_masks = BitMasks(bitmaps)
    return image


def images(labels=True, count=1):
    batch = ImageList(torch.zeros(count, 3, *SIZE), [SIZE] * count)
    return LabelledImages(batch, torch.ones(count, *SIZE, dtype=torch.int64)) if labels else batch


def train(module, candidates, targets, maps=None, labels=True):
    module.train()
    batch = images(labels, len(targets))
    with EventStorage() as storage:
        losses = module(batch, maps or features(len(targets)), candidates, targets)[1]
    return losses, storage.latest()


def test_features_of_the_stage_before_come_through_the_convolution_and_its_relu():
    head = parity.mask_head()
    first, second, _ = head.stages()
    torch.nn.init.zeros_(second.conv_res.weight)
    # An embedding of 2 and -3 in the first two channels adds 2 and 0 to them.
    second.conv_res.bias.data = torch.tensor([2.0, -3.0, 0.0, 0.0])
    x = parity.rois()
    more = x + torch.tensor([2.0, 0.0, 0.0, 0.0])[:, None, None]
    before = first.features(x)
    assert torch.equal(second.features(x, before), FCNMaskHead.features(second, more))
    logits = [stage() for stage in head.stage_logits(x)]
    assert torch.allclose(logits[1], FCNMaskHead.layers(second, more))


def test_masks_are_the_mean_of_the_stages_probabilities():
    head = parity.mask_head().eval()
    # Without weights logits are biases: of class 1 log 3, 0 and 0, whose probabilities are 3/4, 1/2 and 1/2.
    for stage, odds in zip(head.stages(), (3.0, 1.0, 1.0), strict=True):
        torch.nn.init.zeros_(stage.predictor.weight)
        stage.predictor.bias.data = torch.tensor([1.0, odds, 1.0]).log()
    image = Instances(SIZE, pred_classes=torch.tensor([1, 0]))
    with torch.no_grad():
        (image,) = head(parity.rois()[:2], [image])
    assert image.pred_masks.shape == (2, 1, 12, 12)
    expected = [(3 / 4 + 1 / 2 + 1 / 2) / 3, 1 / 2]
    assert image.pred_masks.mean(dim=(1, 2, 3)).tolist() == pytest.approx(expected)


def test_without_flow_a_stage_is_the_plain_mask_head():
    head = parity.mask_head()
    for stage in head.stages()[1:]:
        torch.nn.init.zeros_(stage.conv_res.weight)
        torch.nn.init.zeros_(stage.conv_res.bias)
    logits = [stage() for stage in head.stage_logits(parity.rois())]
    for stage, own in zip(head.stages(), logits, strict=True):
        assert torch.equal(own, FCNMaskHead.layers(stage, parity.rois()))


def test_one_stage_predicts_what_the_paper_s_heads_predict():
    ours = heads(**ONE_STAGE, **PLAIN).eval()
    plain = {"MODEL.ROI_MASK_HEAD.NAME": "FCNMaskHead"}
    parent = heads("PaperStandardROIHeads", **PLAIN, **plain).eval()
    names = {"box_head.": "box_head.0.", "box_predictor.": "box_predictor.0."}
    names["mask_head."] = "mask_head.0."
    theirs = parent.state_dict()
    for name in [*theirs]:
        part = next(part for part in names if name.startswith(part))
        theirs[name.replace(part, names[part], 1)] = theirs.pop(name)
    ours.load_state_dict(theirs)
    with torch.no_grad():
        candidates = [proposals([4, 0, 40, 60], [0, 20, 64, 50])]
        results = [m(None, features(), candidates)[0][0] for m in (ours, parent)]
    for name in ("scores", "pred_masks", "pred_classes"):
        assert torch.equal(results[0].get(name), results[1].get(name))


def test_masks_of_a_stage_train_on_the_boxes_that_it_predicts():
    module = heads(**PLAIN, **{"MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": False})
    # dx of 4 / 10, 8 / 20 and 0 / 30 of the width of 10 move it by 4, 4 and 0.
    for predictor, weight in zip(module.box_predictor, (4.0, 8.0, 0.0), strict=True):
        torch.nn.init.zeros_(predictor.bbox_pred.weight)
        predictor.bbox_pred.bias.data = torch.tensor([weight, 0, 0, 0])
    seen = []
    module.mask_pooler.register_forward_hook(lambda _, args, __: seen.append(args[1][0].tensor))
    losses, logged = train(module, [proposals([2, 0, 12, 10])], [truth([10, 0, 20, 10])])
    # From 6 to 16 it has 6 of 14 columns in common with the object: IoU 0.43 is background. From 10 on it is the object.
    assert [boxes.tolist() for boxes in seen] == [[], [[10, 0, 20, 10]], [[10, 0, 20, 10]]]
    assert losses["loss_mask_stage0"] == 0
    assert losses["loss_mask_stage2"] > 0
    assert logged["mask_stage0/roi_head/num_fg_samples"][0] == 0
    assert logged["mask_stage1/roi_head/num_fg_samples"][0] == 1


def test_losses_have_the_weight_of_their_stage():
    weights = {"MODEL.HYBRID_TASK_CASCADE.LOSS_WEIGHTS": (1.0, 1.0, 1.0)}
    given = [proposals([4, 0, 40, 40])], [truth([8, 8, 32, 40])]
    whole, _ = train(heads(**PLAIN, **weights), *given)
    weighed, _ = train(heads(**PLAIN), *given)
    assert len(whole) == 9
    for name, loss in weighed.items():
        weight = (1, 0.5, 0.25)[int(name[-1])]
        assert loss.item() == pytest.approx(weight * whole[name].item(), rel=1e-5), name


def test_the_semantic_loss_is_the_mean_of_labelled_cells():
    head = parity.semantic_head()
    # Probabilities 4, 1, 2, 2 and 1 tenths; one cell is of class 0, one of class 1, the third has no label.
    logits = torch.tensor([4.0, 1, 2, 2, 1]).log().view(1, 5, 1, 1).expand(1, 5, 1, 3)
    labels = torch.full((1, 8, 24), UNLABELLED)
    labels[0, 0, 0], labels[0, 0, 8] = 0, 1
    expected = 0.2 * -(torch.tensor(0.4).log() + torch.tensor(0.1).log()) / 2
    loss = head.losses(logits, labels)["loss_sem_seg"]
    assert loss.item() == pytest.approx(expected.item())
    nothing = torch.full((1, 8, 24), UNLABELLED)
    assert head.losses(logits, nothing)["loss_sem_seg"] == 0


def test_semantic_features_are_added_to_pooled_boxes_and_masks():
    module = heads().eval()
    maps = {**features(), SEMANTIC: torch.full((1, 4, 8, 8), 3.0)}
    boxes = [proposals([8, 8, 40, 48])]
    with torch.no_grad():
        added = module.pool_boxes(maps, boxes)
        module.semantic_pooler = None
        plain = module.pool_boxes(maps, boxes)
    assert plain.shape == (1, 4, 3, 3)
    assert torch.allclose(added, plain + 3)
    # A box has half the cells of a mask: the mean of four.
    grid = torch.arange(36.0).view(1, 1, 6, 6)
    assert to_side(grid, plain)[0, 0, 0].tolist() == [3.5, 5.5, 7.5]
    assert to_side(grid, grid) is grid


def test_gradients_are_those_of_differences():
    head, semantic = parity.mask_head().double(), parity.semantic_head().double()
    x = parity.rois()[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(head.layers, (x,), fast_mode=True)
    maps = {name: level.double().requires_grad_() for name, level in parity.pyramid().items()}

    def outputs(*levels):
        return semantic(dict(zip(maps, levels, strict=True)))

    assert torch.autograd.gradcheck(outputs, tuple(maps.values()), fast_mode=True)


@pytest.fixture(scope="module")
def pair():
    return parity.ours(), parity.stored()


@pytest.mark.parametrize("part", ["stages", "semantic"])
def test_logits_and_losses_are_mmdetection_s(pair, part):
    for ours, theirs in zip(pair[0][part], pair[1][part], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert pair[0]["losses"] == pytest.approx(pair[1]["losses"], rel=1e-5)


@pytest.mark.parametrize("part", ["gradients", "semantic_gradients"])
def test_gradients_are_mmdetection_s(pair, part):
    assert pair[0][part] == pytest.approx(pair[1][part], rel=1e-4)


def test_an_image_without_objects_trains_everything_at_no_loss_of_masks():
    module = heads()
    losses, _ = train(module, [proposals([4, 0, 18, 10])], [truth()])
    assert [losses[f"loss_mask_stage{k}"] for k in range(3)] == [0, 0, 0]
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_without_proposals_there_are_no_detections():
    with torch.no_grad():
        (detections,), _ = heads().eval()(None, features(), [proposals()])
    assert detections.pred_masks.shape == (0, 1, 12, 12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"MODEL.HYBRID_TASK_CASCADE.LOSS_WEIGHTS": (1.0, 0.5)},
            r"LOSS_WEIGHTS \(1.0, 0.5\) has 2 stages, .*IOUS 3; give one of each",
        ),
        ({f"{CASCADE}.IOUS": (0.5, 0.6)}, r"LOSS_WEIGHTS .* has 3 stages, .*IOUS 2"),
        ({"MODEL.MASK_ON": False}, "MASK_ON False, but .* set it to True"),
        ({"MODEL.ROI_MASK_HEAD.NAME": "FCNMaskHead"}, "'FCNMaskHead' has one stage, but"),
        ({"MODEL.ROI_MASK_HEAD.CONV_DIM": 8}, "CONV_DIM 8, but .* set it to 4"),
        (
            {"MODEL.SEM_SEG_HEAD.IN_FEATURES": ("p2", "p7")},
            r"IN_FEATURES \('p2', 'p7'\) must name levels of a pyramid; .* gives p2, p3\.",
        ),
        (
            {"MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 16},
            "COMMON_STRIDE 16, but p2, p3 have strides 4, 8",
        ),
        (
            {"MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead"},
            "'SemSegFPNHead' gives no features for RoIs",
        ),
        ({"MODEL.META_ARCHITECTURE": "GeneralizedRCNN"}, "'GeneralizedRCNN' does not hand labels"),
    ],
)
def test_contradictions_are_told(changes, words):
    with pytest.raises(ConfigError, match=words):
        heads(**changes)


def test_labels_that_are_no_classes_are_told():
    head, logits = parity.semantic_head(), torch.zeros(1, 5, 1, 2)
    labels = torch.tensor([[[0, 7]]])
    with pytest.raises(DataError, match=r"labels from 0 to 7, but .*NUM_CLASSES is 5: .* 0 to 4"):
        head.losses(logits, labels)


def test_images_without_labels_are_told():
    with pytest.raises(ConfigError, match="got images without semantic labels; set"):
        train(heads(), [proposals([4, 0, 18, 10])], [truth([8, 8, 32, 40])], labels=False)


KEYS = {
    "PLUGINS": ("maskrcnn_family.hybrid_task_cascade",),
    "MODEL.ROI_HEADS.NAME": "FamilyHybridTaskROIHeads",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.ROI_MASK_HEAD.NAME": "FamilyHybridMaskHead",
    "MODEL.SEM_SEG_HEAD.NAME": "FamilyFusedSemanticHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ("p4", "p5"),
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 16,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 4,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "MODEL.SEM_SEG_HEAD.NORM": "",
    "DATASETS.WITH_SEM_SEG": True,
}


def test_labels_reach_the_heads_padded_as_their_images():
    model = tiny_model(**KEYS).train()
    inputs = [picture((64, 80)), picture((50, 60))]
    for each in inputs:
        each["sem_seg"] = torch.ones(each["image"].shape[1:], dtype=torch.int64)
    batch = model.preprocess_image(inputs)
    assert batch.sem_seg.shape[1:] == batch.tensor.shape[2:]
    assert (batch.sem_seg[1] == 1).sum() == 50 * 60
    assert set(batch.sem_seg[1].unique().tolist()) == {1, UNLABELLED}
    assert UNLABELLED == IGNORED
    assert type(model.eval().preprocess_image(inputs)) is ImageList


def test_one_view_of_test_time_augmentation_is_the_model():
    model = tiny_model(**KEYS)
    views = {"min_sizes": (0,), "max_size": 100, "flip": False}
    limits = {"nms_threshold": 0.5, "max_detections": 5}
    augmented = TestTimeAugmentation(model=model, **views, **limits)
    with torch.no_grad():
        results = [detect([picture()])[0]["instances"] for detect in (model, augmented)]
    assert len(results[0]) > 0
    for name in ("scores", "pred_masks"):
        assert torch.equal(results[0].get(name), results[1].get(name))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
@pytest.mark.parametrize("semantic", [True, False])
def test_an_exported_file_gives_the_model_s_masks(tmp_path, form, semantic):
    # Semantic features of a box are those of a mask, averaged to half the side.
    sides = {"MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 4, "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 8}
    keys = KEYS | {"DATASETS.WITH_SEM_SEG": semantic, **sides}
    source = find_model(write_tiny_model(tmp_path, "mask", **keys))
    exporter = Exporter(source, Target(form, threshold=0.0))
    comparison = exporter.write(tmp_path / f"hybrid{WRITERS[form][0]}")
    assert comparison.holds
    assert comparison.matched == comparison.detections > 0


def test_masks_of_all_stages_are_computed_twice_where_activations_are_not_kept():
    given = [proposals([4, 0, 18, 10])], [truth([8, 8, 32, 40])]
    results = []
    for checkpointed in (False, True):
        model = torch.nn.ModuleDict({"roi_heads": heads()})
        if checkpointed:
            assert checkpoint_stages(model) == 1
            assert kept_activations(model) == ["roi_heads.semantic_head"]
        calls = []
        first = model["roi_heads"].mask_head.stages()[0].mask_fcn1
        first.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        losses, _ = train(model["roi_heads"], *given)
        sum(losses.values()).backward()
        results.append((len(calls), losses, first.weight.grad))
    (plain, *expected), (twice, *got) = results
    assert twice == 2 * plain > 0
    torch.testing.assert_close(got, expected)


def test_weights_with_the_semantic_branch_are_refused_without_it(tmp_path):
    file = tmp_path / "a.pth"
    torch.save(torch.nn.ModuleDict({"roi_heads": heads()}).state_dict(), file)
    without = torch.nn.ModuleDict({"roi_heads": heads(**PLAIN)})
    with pytest.raises(
        ConfigError, match=r"have a semantic_head, .*; set DATASETS.WITH_SEM_SEG True"
    ):
        Checkpointer(without, "").load(str(file))
