"""The backbone of a trained model as a file that detectors start from, in the format of Detectron2's model zoo."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro._version import __version__
from maskrcnn_repro.utils.files import replaced

import numpy as np
from torch import nn

BACKBONE_FILE = "backbone.pkl"
"""Its name in the folder of the training."""


def write_backbone(backbone: nn.Module, path: Path, origin: Mapping[str, Any]) -> None:
    """Write the tensors of a backbone under its own names, such as ``res2.0.conv1.weight``.

    Detectron2 fits them to a detector by the ends of names: with C4 res5 goes to the RoI head, with FPN all goes
    below ``backbone.bottom_up``. The statistics of batch norm are among them, as frozen batch norm reads them.

    Args:
        backbone: the network.
        path: where to write; the name must end in ``.pkl``.
        origin: plain values that tell how it was trained.

    Raises:
        OutputError: the file cannot be written.
    """
    weights = {
        name: np.ascontiguousarray(tensor.detach().cpu().numpy())
        for name, tensor in backbone.state_dict().items()
        if not name.endswith("num_batches_tracked")  # frozen batch norm has no such counter
    }
    content = {
        "model": weights,
        "__author__": f"maskrcnn_repro {__version__}",
        "matching_heuristics": True,
        "origin": dict(origin),
    }
    with replaced(path) as beside, beside.open("wb") as stream:
        pickle.dump(content, stream, protocol=4)
