"""Whole models on tiny networks: batches without objects, empty proposals, output sizes, errors."""

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    GeneralizedRCNN,
    build_model,
    detector_postprocess,
)
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from torch.testing import assert_close

SIZE = (64, 80)  # height, width
KINDS = ("c4", "fpn", "keypoint")
MEAN = [103.53, 116.28, 123.675]  # of ImageNet, blue first: the default


def tiny_cfg(kind="fpn"):
    """Return a model of a few thousand weights: boxes and masks ("c4", "fpn") or keypoints."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.MASK_ON = kind != "keypoint"
    cfg.MODEL.KEYPOINT_ON = kind == "keypoint"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    # Without it the heatmaps of an untrained network reach 1000, and their scores infinity.
    cfg.MODEL.PIXEL_STD = [58.0, 57.0, 57.0]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 20
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    resnet = cfg.MODEL.RESNETS
    resnet.NORM, resnet.STEM_OUT_CHANNELS = "BN", 4
    resnet.WIDTH_PER_GROUP, resnet.RES2_OUT_CHANNELS = 2, 4
    for head in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_KEYPOINT_HEAD):
        head.POOLER_TYPE, head.POOLER_RESOLUTION = "ROIAlignV2", 4
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 4
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [4]
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 2
    if kind != "c4":
        resnet.OUT_FEATURES = ["res4", "res5"]
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS = ["res4", "res5"], 4
        cfg.MODEL.RPN.IN_FEATURES = ["p4", "p5", "p6"]
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64]]
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p4", "p5"]
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 8
    return cfg


def image_with_object(objects=1, height=SIZE[0]):
    """Return an input with a square object of 32 pixels, or with none."""
    truth = Instances((height, SIZE[1]))
    truth.gt_boxes = Boxes(torch.tensor([[8.0, 8, 40, 40]] * objects).reshape(-1, 4))
    truth.gt_classes = torch.ones(objects, dtype=torch.long)
    masks = torch.zeros(objects, height, SIZE[1], dtype=torch.bool)
    masks[:, 8:40, 8:40] = True
    truth.gt_masks = BitMasks(masks)
    truth.gt_keypoints = Keypoints(
        torch.tensor([[[10.0, 10, 2], [30, 30, 2]]] * objects) if objects else torch.zeros(0, 2, 3)
    )
    return {"image": torch.rand(3, height, SIZE[1]) * 255, "instances": truth}


def train_step(model, batch):
    with EventStorage() as storage:
        losses = model(batch)
        sum(losses.values()).backward()
    return losses, {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_batch_without_any_object_still_gives_every_parameter_a_gradient(kind):
    model = build_model(tiny_cfg(kind)).train()
    losses, _ = train_step(model, [image_with_object(0), image_with_object(0, height=48)])
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    third = "loss_keypoint" if kind == "keypoint" else "loss_mask"
    for name in ("loss_box_reg", "loss_rpn_loc", third):
        assert losses[name].item() == 0
    assert losses["loss_cls"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_scalars_of_a_batch_in_which_one_image_is_empty(kind):
    model = build_model(tiny_cfg(kind)).train()
    losses, scalars = train_step(model, [image_with_object(2), image_with_object(0)])
    branch = "keypoint" if kind == "keypoint" else "mask"
    names = ["loss_cls", "loss_box_reg", f"loss_{branch}", "loss_rpn_cls", "loss_rpn_loc"]
    assert list(losses) == names
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    expected = {"roi_head/num_fg_samples", "roi_head/num_bg_samples", "fast_rcnn/cls_accuracy"}
    expected.add("keypoint_head/num_fg_samples" if kind == "keypoint" else "mask_rcnn/accuracy")
    assert expected <= set(scalars)


@pytest.mark.parametrize("kind", KINDS)
def test_detection_of_images_of_several_sizes(kind):
    model = build_model(tiny_cfg(kind)).eval()
    batch = [{"image": torch.rand(3, *SIZE) * 255, "height": 128, "width": 160}]
    batch.append({"image": torch.rand(3, 50, 40) * 255})
    with torch.no_grad():
        outputs = model(batch)
    for output, (height, width) in zip(outputs, [(128, 160), (50, 40)], strict=True):
        detections = output["instances"]
        assert detections.image_size == (height, width)
        assert 0 < len(detections) <= 5
        assert (detections.pred_boxes.tensor <= torch.tensor([width, height] * 2)).all()
        assert (detections.scores.diff() <= 0).all()
        if kind == "keypoint":
            assert detections.pred_keypoints.shape == (len(detections), 2, 3)
            assert detections.pred_keypoints.isfinite().all()
        else:
            assert detections.pred_masks.shape == (len(detections), height, width)
            assert detections.pred_masks.dtype == torch.bool


@pytest.mark.parametrize("kind", KINDS)
def test_no_proposals_give_no_detections(kind):
    cfg = tiny_cfg(kind)
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    model = build_model(cfg).eval()
    empty = Instances(SIZE, proposal_boxes=Boxes(torch.zeros(0, 4)))
    empty.objectness_logits = torch.zeros(0)
    with torch.no_grad():
        [output] = model([{"image": torch.rand(3, *SIZE), "proposals": empty}])
    detections = output["instances"]
    assert len(detections) == 0
    if kind == "keypoint":
        assert detections.pred_keypoints.shape == (0, 2, 3)
    else:
        assert detections.pred_masks.shape == (0, *SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_given_boxes_get_the_same_masks_or_keypoints(kind):
    model = build_model(tiny_cfg(kind)).eval()
    batch = [{"image": torch.rand(3, *SIZE) * 255}]
    with torch.no_grad():
        [detections] = model.inference(batch, do_postprocess=False)
        given = Instances(
            SIZE, pred_boxes=detections.pred_boxes, pred_classes=detections.pred_classes
        )
        [again] = model.inference(batch, detected_instances=[given], do_postprocess=False)
    field = "pred_keypoints" if kind == "keypoint" else "pred_masks"
    assert len(detections) > 0
    assert_close(again.get(field), detections.get(field))


def test_padding_does_not_change_what_is_fed_to_the_network():
    model = build_model(tiny_cfg())
    images = [torch.rand(3, *SIZE) * 255, torch.rand(3, 40, 40) * 255]
    batch = model.preprocess_image([{"image": image} for image in images])
    assert batch.tensor.shape == (2, 3, 64, 96)  # multiples of 32
    assert batch.image_sizes == [SIZE, (40, 40)]
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, [58.0, 57.0, 57.0]))
    assert_close(batch.tensor[1, :, :40, :40], (images[1] - mean) / std)
    assert batch.tensor[1, :, 40:].abs().sum() == 0


def test_training_on_predicted_boxes_moves_the_masks_alone():
    cfg = tiny_cfg()
    cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = True
    model = build_model(cfg).train()
    with torch.no_grad():
        model.roi_heads.box_predictor.bbox_pred.bias.fill_(1)
    batch, losses = [image_with_object()], {}
    for model.roi_heads.train_on_pred_boxes in (False, True):
        torch.manual_seed(0)
        losses[model.roi_heads.train_on_pred_boxes], _ = train_step(model, batch)
    assert losses[True]["loss_box_reg"] == losses[False]["loss_box_reg"]
    assert losses[True]["loss_mask"] != losses[False]["loss_mask"]


def test_the_normalisation_is_not_in_the_state_dict():
    keys = list(build_model(tiny_cfg()).state_dict())
    assert not [key for key in keys if "pixel" in key]
    assert {key.split(".")[0] for key in keys} == {"backbone", "proposal_generator", "roi_heads"}


def test_proposal_network_trains_and_proposes():
    cfg = tiny_cfg()
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    model = build_model(cfg).train()
    losses, _ = train_step(model, [image_with_object()])
    assert sorted(losses) == ["loss_rpn_cls", "loss_rpn_loc"]
    with torch.no_grad():
        [output] = model.eval()([{"image": torch.rand(3, *SIZE) * 255, "height": 128}])
    proposals = output["proposals"]
    assert proposals.image_size == (128, 80)
    assert len(proposals) > 0
    assert proposals.has("objectness_logits")


@pytest.mark.embedded_only
def test_errors_name_what_is_missing():
    cfg = tiny_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    model = build_model(cfg)
    image = {"image": torch.rand(3, *SIZE)}
    with pytest.raises(RuntimeError, match=r"call eval\(\) first"):
        model.inference([image])
    with pytest.raises(ValueError, match=r"needs 'proposals'; the first has \['image'\]"):
        model.eval()([image])
    with pytest.raises(ValueError, match="Given detections need pred_classes"):
        model.inference([image], [Instances(SIZE, pred_boxes=Boxes(torch.zeros(1, 4)))])
    image["proposals"] = Instances(SIZE, proposal_boxes=Boxes(torch.zeros(1, 4)))
    with pytest.raises(ValueError, match="Training needs ground truth"):
        model.train()([image])
    with pytest.raises(RuntimeError, match="evaluation mode only"):
        model.roi_heads.forward_with_given_boxes({}, [])
    with pytest.raises(KeyError, match="RetinaNet"):
        META_ARCH_REGISTRY.get("RetinaNet")
    parts = {"backbone": None, "proposal_generator": None, "roi_heads": None}
    with pytest.raises(ValueError, match="differ in length"):
        GeneralizedRCNN(**parts, pixel_mean=[1.0, 2.0], pixel_std=[1.0])
    with pytest.raises(NotImplementedError, match=r"VIS_PERIOD.*install Detectron2"):
        GeneralizedRCNN(**parts, pixel_mean=[1.0], pixel_std=[1.0], vis_period=5)


# Postprocessing


def test_results_are_scaled_to_the_output_size():
    detections = Instances((10, 20))  # to 20 x 60: three times as wide, twice as high
    detections.pred_boxes = Boxes(torch.tensor([[1.0, 2, 3, 4], [21, 0, 25, 9], [5, 5, 30, 10]]))
    detections.pred_keypoints = torch.tensor([[[1.0, 2.0, 0.5]]] * 3)
    detections.pred_masks = torch.ones(3, 1, 4, 4)
    detections.scores = torch.tensor([0.9, 0.8, 0.7])
    out = detector_postprocess(detections, 20, 60)
    # The second lies outside of the image, the third is cut at its right edge.
    assert out.pred_boxes.tensor.tolist() == [[3, 4, 9, 8], [15, 10, 60, 20]]
    assert_close(out.scores, torch.tensor([0.9, 0.7]))
    assert out.pred_keypoints.tolist() == [[[3, 4, 0.5]]] * 2
    expected = torch.zeros(20, 60, dtype=torch.bool)
    expected[4:8, 3:9] = True
    assert (out.pred_masks[0] == expected).all()


def test_masks_are_cut_at_the_threshold():
    detections = Instances((8, 8), pred_boxes=Boxes(torch.tensor([[0.0, 0, 8, 8]])))
    detections.pred_masks = torch.full((1, 1, 4, 4), 0.6)
    assert detector_postprocess(detections, 8, 8, mask_threshold=0.5).pred_masks[0, 4, 4]
    assert not detector_postprocess(detections, 8, 8, mask_threshold=0.7).pred_masks.any()


def test_proposals_are_scaled_too():
    proposals = Instances((10, 10), proposal_boxes=Boxes(torch.tensor([[1.0, 2, 3, 4]])))
    out = detector_postprocess(proposals, 5, 20)
    assert out.proposal_boxes.tensor.tolist() == [[2, 1, 6, 2]]
    assert out.image_size == (5, 20)


@pytest.mark.embedded_only
def test_postprocessing_leaves_its_input_as_it_is():
    detections = Instances((10, 10), pred_boxes=Boxes(torch.tensor([[1.0, 2, 3, 4]])))
    detections.pred_keypoints = torch.ones(1, 1, 3)
    detector_postprocess(detections, 20, 20)
    assert detections.pred_boxes.tensor.tolist() == [[1, 2, 3, 4]]
    assert detections.pred_keypoints.tolist() == [[[1, 1, 1]]]


@pytest.mark.embedded_only
def test_results_without_boxes_are_refused():
    with pytest.raises(ValueError, match=r"No pred_boxes .* in \['scores'\]"):
        detector_postprocess(Instances((9, 9), scores=torch.ones(1)), 9, 9)


def test_semantic_scores_lose_their_padding():
    scores = torch.zeros(2, 4, 6)
    scores[1, :2, :3] = 5
    out = sem_seg_postprocess(scores, (2, 3), 8, 9)
    assert out.shape == (2, 8, 9)
    assert_close(out[1], torch.full((8, 9), 5.0))
