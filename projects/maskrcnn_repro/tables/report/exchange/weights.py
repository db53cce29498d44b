"""The trained models of table 2c, and the one of RoIAlign with another operation in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.engine.resolve import resolve_device
from maskrcnn_repro.engine.trained import load_trained
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.modeling.rle import encode_masks
from maskrcnn_repro.pooler_keys import HEADS
from maskrcnn_repro.roi_ops import RoIOperation
from maskrcnn_repro.tables.report.exchange.model import ALIGN, OPERATIONS
from maskrcnn_repro.tables.report.model import Origin
from maskrcnn_repro.tables.runs.records import CONFIG, run_folder
from maskrcnn_repro.tables.runs.stage import WEIGHTS
from maskrcnn_repro.utils.rle import RLE

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import nn


@dataclass(frozen=True)
class Model:
    """A C4 model that predicts masks in given boxes.

    Attributes:
        module: in evaluation mode.
        cfg: its config.
    """

    module: nn.Module
    cfg: CfgNode

    @property
    def operation(self) -> RoIOperation:
        """The RoI operation, on its one feature map."""
        roi_heads: Any = self.module.roi_heads
        operation = roi_heads.pooler.level_poolers[0]
        assert isinstance(operation, RoIOperation)
        return operation

    def masks(
        self, image: Mapping[str, Any], boxes: torch.Tensor, classes: np.ndarray
    ) -> list[RLE]:
        """Return the masks of objects in boxes, of the size of the image's file.

        Args:
            image: the model's input.
            boxes: (R, 4), x1, y1, x2, y2 in pixels of the input, each with an area.
            classes: (R,), of the objects.
        """
        given = Instances(tuple(image["image"].shape[1:]))
        given.pred_boxes = Boxes(boxes.clone())
        given.pred_classes = torch.as_tensor(classes)
        inference: Any = self.module.inference
        with torch.inference_mode():
            (output,) = inference([image], [given])
        return encode_masks(output["instances"].pred_masks)


@dataclass(frozen=True)
class Models:
    """The models that are compared, by operation.

    Attributes:
        exchanged: of the weights that were trained with RoIAlign.
        trained: of those that were trained with the operation.
    """

    exchanged: Mapping[str, Model]
    trained: Mapping[str, Model]

    @classmethod
    def load(cls, runs: Mapping[str, Origin]) -> Models:
        """Return the models of the runs of :func:`~maskrcnn_repro.tables.report.exchange.model.runs_of`.

        Raises:
            UserError: weights are missing or do not fit, or a config or its data cannot be read.
        """
        trained = {name: load_model(run) for name, run in runs.items()}
        exchanged = {
            name: trained[name] if name == ALIGN else load_model(runs[ALIGN], operation)
            for name, operation in OPERATIONS.items()
        }
        return cls(exchanged, trained)


def load_model(run: Origin, operation: str = "") -> Model:
    """Return the model that a run trained.

    Args:
        run: of a C4 model.
        operation: the RoI operation that takes the place of its own.

    Raises:
        UserError: its weights are missing or do not fit, or its config or data cannot be read.
    """
    folder = run_folder(Path(run.results))
    if not (folder / WEIGHTS).is_file():
        raise TableError(f"There are no weights {folder / WEIGHTS}.")
    cfg = load_config(folder / CONFIG)
    if operation:
        cfg.MODEL.ROI_OP.NAME = operation
        for head in HEADS:
            cfg.MODEL[head].ROI_OP = ""
    cfg.MODEL.DEVICE = resolve_device("auto")
    prepare_data(cfg, training=False)
    module, _ = load_trained(cfg, str(folder / WEIGHTS))
    return Model(module.eval(), cfg)
