"""What Detectron2's own counterpart of a head of the family computes, and the same of ours.

``python -m tests.family.parity`` with a Python that has Detectron2 rewrites the stored numbers.
"""

import gzip
import json
import sys

import maskrcnn_repro
from maskrcnn_repro.benchmark import models as settings
from maskrcnn_repro.benchmark import recipe
from maskrcnn_repro.config import add_config
from maskrcnn_repro.plugins import load_plugins

import torch
from detectron2.modeling import build_model

from tests.helpers.parity import models
from tests.helpers.paths import STORED

FILE = STORED / "family" / "parity.json.gz"
CASCADE = {
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 128,
}
HEADS = {"cascade": ("CascadeROIHeads", "FamilyCascadeROIHeads", CASCADE)}
"""Name -> Detectron2's RoI heads, ours, and differences from the R50-FPN of tests/helpers/parity."""


def build(name, *, ours, seed=0):
    """Return R50-FPN with one of the heads and the recipe's weights."""
    theirs_name, our_name, overrides = HEADS[name]
    heads = {"MODEL.ROI_HEADS.NAME": our_name if ours else theirs_name}
    cfg = settings.config("R50-FPN", models.SMALL | overrides | heads)
    if ours:
        load_plugins([f"maskrcnn_family.{name}"])
        add_config(cfg)
    model = build_model(cfg)
    gains = settings.gains(cfg)
    for part in ("cls_score", "bbox_pred"):
        # A stage's number stands within these names.
        gain = gains.pop(f"box_predictor.{part}")
        gains |= {f"box_predictor.{stage}.{part}": gain for stage in range(3)}
    recipe.fill(model, gains, seed)
    return model


def measure(name, *, ours):
    model = build(name, ours=ours)
    return {"state": sorted(model.state_dict()), **models.measure(model, "R50-FPN")}


def stored(name):
    return json.loads(gzip.decompress(FILE.read_bytes()))[name]


if __name__ == "__main__":
    if maskrcnn_repro.BACKEND.name != "installed":
        sys.exit("Only an installed Detectron2 may be recorded.")
    torch.set_num_threads(1)
    measured = {name: measure(name, ours=False) for name in HEADS}
    for numbers in measured.values():
        models.check_substance(numbers)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(gzip.compress(json.dumps(measured).encode(), mtime=0))
