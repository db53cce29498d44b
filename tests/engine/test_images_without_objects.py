"""Every experiment's model trains where the images of one process have no object: all parameters have gradients.

DistributedDataParallel waits for the gradient of every parameter in every process; a head that leaves one out
hangs the run.
"""

import json
from datetime import timedelta
from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.targets import SurfaceTargets
from maskrcnn_repro.engine.launch import Processes, launch
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.additions import parse_addition
from maskrcnn_repro.tables.paper.data_file import read_data
from maskrcnn_repro.tables.paper.experiments import experiment_config, experiments, overlays

import numpy as np
import pytest
import torch
import torch.distributed as dist
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel

import maskrcnn_family
from tests.helpers.tiny_models import given_proposals, picture

SIZE = (128, 128)
FAMILY = Path(maskrcnn_family.__file__).parent / "tables.yaml"
OF_FAMILY = parse_addition(read_data(FAMILY), FAMILY.parent).experiments
TRAINED = {
    row.id: row for row in (*experiments().values(), *OF_FAMILY.values()) if not row.evaluates
}
NARROW = {
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 4,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.WEIGHTS": "",
}
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.CHANNELS_LAST": False,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [8, 8],
}
KINDS = ("no objects", "no visible keypoints", "no proposals")


def small_config(name):
    """Config of an experiment with few channels and RoIs."""
    row = TRAINED[name]
    try:
        overlays(row, "mini")
    except TableError:  # a family without level mini
        cfg = load_config(row.config, [word for pair in NARROW.items() for word in pair])
    else:
        cfg = experiment_config(row, "mini")
    cfg.merge_from_list([word for pair in SMALL.items() for word in pair])
    if cfg.MODEL.ROI_MASK_HEAD.NAME == "FamilyHybridMaskHead":
        # It adds features of its own to pooled ones.
        cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = cfg.MODEL.FPN.OUT_CHANNELS
    return cfg


def sample(cfg, kind):
    """A model input with one object, or with the lack that ``kind`` names."""
    count = 0 if kind == "no objects" else 1
    box = [[20.0, 20.0, 100.0, 110.0]][:count]
    objects = Instances(SIZE, gt_boxes=Boxes(torch.tensor(box).reshape(-1, 4)))
    objects.gt_classes = torch.zeros(count, dtype=torch.long)
    if cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon":
        objects.gt_masks = PolygonMasks([[[20.0, 20, 100, 20, 100, 110]]][:count])
    elif cfg.MODEL.MASK_ON:
        objects.gt_masks = BitMasks(torch.ones(count, *SIZE, dtype=torch.bool))
    if cfg.MODEL.KEYPOINT_ON:
        number = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
        visible = 0.0 if kind == "no visible keypoints" else 2.0
        objects.gt_keypoints = Keypoints(
            torch.tensor([50.0, 60.0, visible]).repeat(count, number, 1)
        )
    if cfg.MODEL.DENSEPOSE_ON:
        points = np.array([[128.0, 128, 1, 0.5, 0.5]])
        surface = SurfacePoints(points, np.ones((SIDE, SIDE), np.uint8))
        objects.gt_densepose = SurfaceTargets.of([surface] * count)
    proposals = given_proposals(SIZE, 0 if kind == "no proposals" else 12)
    given = {"instances": objects, "proposals": proposals}
    # The only thing that images without objects show; of models without a semantic branch nobody reads it.
    given["sem_seg"] = torch.zeros(SIZE, dtype=torch.long)
    return picture(SIZE, height=SIZE[0], width=SIZE[1], **given)


def losses_backward(model, batch):
    """Do the passes of a step; returns names of parameters without a finite gradient."""
    model.zero_grad()
    with EventStorage():
        sum(model(batch).values()).backward()
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]


def faults_of(name, kind):
    """What is wrong with an experiment's model when the second process has images of a kind."""
    cfg = small_config(name)
    torch.manual_seed(1)
    model = build_model(cfg).train()
    batch = [sample(cfg, kind if comm.get_rank() else "")]
    alone = [name for names in comm.all_gather(losses_backward(model, batch)) for name in names]
    if alone:  # it would hang
        return alone
    spread = DistributedDataParallel(model)
    faults = losses_backward(spread, batch)
    checksum = [float(p.grad.double().sum()) for p in spread.parameters() if p.requires_grad]
    sums = comm.all_gather(checksum)
    return faults if sums[0] == sums[1] else [*faults, "the gradients of both processes differ"]


def in_two_processes(names, file):
    torch.set_num_threads(1)
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=60))
    faults = {}
    for name in names:
        for kind in KINDS:
            cfg = small_config(name)
            if kind == "no visible keypoints" and not cfg.MODEL.KEYPOINT_ON:
                continue
            if kind == "no proposals" and not cfg.MODEL.LOAD_PROPOSALS:
                continue
            faults[f"{name}: {kind}"] = faults_of(name, kind)
    if comm.is_main_process():
        file.write_text(json.dumps(faults))


@pytest.mark.slow
@pytest.mark.parametrize("names", [TRAINED.keys() - OF_FAMILY, OF_FAMILY], ids=["paper", "family"])
def test_every_experiment_trains_beside_a_process_without_objects(tmp_path, names):
    file = tmp_path / "faults.json"
    launch(in_two_processes, Processes("cpu", 2), (sorted(names), file))
    faults = json.loads(file.read_text())
    assert {name.partition(":")[0] for name in faults} == set(names)
    assert {name: wrong for name, wrong in faults.items() if wrong} == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("r50_c4", "no objects"),
        ("r50_fpn", "no objects"),
        ("keypoints_r50_fpn_mask", "no objects"),
        ("family_cascade_mask_scoring_r50_fpn", "no objects"),
        ("family_cascade_point_rend_r50_fpn", "no objects"),
    ],
)
def test_all_parameters_have_gradients_without_objects(name, kind):
    cfg = small_config(name)
    assert losses_backward(build_model(cfg).train(), [sample(cfg, kind)]) == []
