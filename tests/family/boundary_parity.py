"""What the authors' code of Boundary-preserving Mask R-CNN computes, and the same of ours.

``python -m tests.family.boundary_parity CHECKOUT`` with a Python that has Detectron2 rewrites the stored numbers;
CHECKOUT is github.com/hustvl/BMaskR-CNN, of which ``projects/BMaskR-CNN/bmaskrcnn`` runs.
"""

import gzip
import importlib
import json
import sys
from pathlib import Path

import maskrcnn_repro
from maskrcnn_repro.benchmark import models as settings
from maskrcnn_repro.benchmark import recipe
from maskrcnn_repro.config import add_config, add_keys
from maskrcnn_repro.plugins import load_plugins

import torch
from detectron2.modeling import build_model

from tests.helpers.parity import models
from tests.helpers.parity.store import rounded
from tests.helpers.paths import STORED

FILE = STORED / "family" / "boundary_preserving.json.gz"
OURS = {"MODEL.ROI_MASK_HEAD.NAME": "FamilyBoundaryPreservingMaskHead"}
THEIRS = {
    "MODEL.ROI_HEADS.NAME": "BoundaryROIHeads",
    "MODEL.ROI_MASK_HEAD.NAME": "BoundaryPreservingHead",
}
# As in the authors' config.
BOTH = {"MODEL.ROI_MASK_HEAD.NUM_CONV": 4, "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14}
GAINS = {"mask_head.mask_predictor": 0.5, "mask_head.boundary_predictor": 0.5}


def build(*, ours):
    """Return R50-FPN with the head and the recipe's weights."""
    cfg = settings.config("R50-FPN")
    if ours:
        (plugin,) = load_plugins(["maskrcnn_family.boundary_preserving"])[-1:]
        add_config(cfg)
        add_keys(cfg, plugin.keys_file)
        cfg.MODEL.ROI_HEADS.NAME = "PaperStandardROIHeads"
    else:
        importlib.import_module("bmaskrcnn").add_boundary_preserving_config(cfg)
    changes = models.SMALL | BOTH | (OURS if ours else THEIRS)
    cfg.merge_from_list([word for pair in changes.items() for word in pair])
    model = build_model(cfg)
    recipe.fill(model, settings.choose_gains(cfg) | GAINS)
    return model


def measure(*, ours):
    model, seen = build(ours=ours), []
    hook = model.roi_heads.mask_head.register_forward_hook(lambda *args: seen.append(args[-1]))
    measured = models.measure(model, "R50-FPN")
    hook.remove()
    # The last call is that of the inference; of its first image the two best.
    masks = rounded(seen[-1][0].pred_masks[:2, 0], 5)
    return {"state": sorted(model.state_dict()), "masks": masks, **measured}


def stored():
    return json.loads(gzip.decompress(FILE.read_bytes()))


if __name__ == "__main__":
    if maskrcnn_repro.BACKEND.name != "installed":
        sys.exit("Only an installed Detectron2 may be recorded.")
    sys.path.insert(0, str(Path(sys.argv[1]) / "projects" / "BMaskR-CNN"))
    torch.set_num_threads(1)
    numbers = measure(ours=False)
    models.check_substance(numbers)
    FILE.write_bytes(gzip.compress(json.dumps(numbers).encode(), mtime=0))
