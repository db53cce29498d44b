"""An RPN's proposals for whole data sets, written into stores, and how much of the truth they find.

Detectors of the paper's ablations are trained and tested on them (Sec. 3.1).
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.weight_file import local_file
from maskrcnn_repro.data.proposals.prepare import PRECOMPUTED
from maskrcnn_repro.data.proposals.store import SUFFIX, ProposalStore, digest_of
from maskrcnn_repro.data.proposals.writer import StoreWriter
from maskrcnn_repro.engine.launch import of_main, run_agreed
from maskrcnn_repro.engine.places import check_places
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.engine.setup import enter_folder, start
from maskrcnn_repro.engine.stall import watching_evaluation
from maskrcnn_repro.engine.trained import load_trained, weights_of
from maskrcnn_repro.engine.trainer_name import trainer_of
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.evaluation.recall import proposal_recall
from maskrcnn_repro.evaluation.table import PROPOSALS, metrics_table
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.logs import records_held
from maskrcnn_repro.utils.provenance import code_origin, file_hash, machine, replace_nan

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

logger = logging.getLogger(__name__)
RECALL = "recall.json"
# Keys below MODEL from which proposals do not follow.
OF_DETECTORS = (
    *("DEVICE", "KEYPOINT_ON", "LOAD_PROPOSALS", "MASK_ON", "META_ARCHITECTURE", "WEIGHTS"),
    *("INFERENCE", "PANOPTIC_FPN", "RETINANET", "SEM_SEG_HEAD"),
)


def store_all(cfg: CfgNode, datasets: Sequence[str] = ()) -> None:
    """Store the proposals of all images; called in every process of a run.

    Writes ``<OUTPUT_DIR>/proposals/<data set>.proposals/`` for each data set and ``recall.json``. Stores
    that were written by the same weights with the same keys are kept, others are written anew.

    Args:
        cfg: of an RPN or of a detector with one. ``MODEL.RPN.POST_NMS_TOPK_TEST`` proposals per image are
            kept, at test scale. Weights: ``MODEL.WEIGHTS``, or else the last checkpoint of OUTPUT_DIR.
        datasets: registered names; by default all of ``DATASETS.TRAIN`` and ``DATASETS.TEST``.

    Raises:
        UserError: something that the user can mend.
    """
    with ExitStack() as stack:
        stack.enter_context(records_held())
        cfg = run_agreed(lambda: _of_rpn_alone(cfg, datasets))
        folder = Path(cfg.OUTPUT_DIR) / "proposals"
        run_agreed(lambda: enter_folder(stack, folder, fresh=False))
        run_agreed(lambda: check_places(cfg, folder, training=False))
        cfg = start(stack, cfg, folder)
        origin = of_main(lambda: origin_of(cfg))
        names = cfg.DATASETS.TEST
        missing = [name for name in names if not run_agreed(_is_written, folder, name, origin)]
        if missing:
            (folder / RECALL).unlink(missing_ok=True)
            model, _ = load_trained(cfg, origin["weights"]["path"])
            with watching_evaluation(model, folder, cfg.SOLVER.STALL_SECONDS):
                for name in missing:
                    _store(cfg, model, folder, name, origin)
        if comm.is_main_process():
            _report_recall(folder, names, origin, cfg.MODEL.DEVICE)
        comm.synchronize()


def store_folder(folder: Path, dataset: str) -> Path:
    """Return where the proposals of a data set lie in a folder of stores."""
    return folder / f"{dataset}{SUFFIX}"


def origin_of(cfg: CfgNode) -> dict[str, Any]:
    """Return what the proposals of an RPN follow from, apart from the images.

    Raises:
        CheckpointError: there are no weights.
    """
    weights = weights_of(cfg, resume=False)
    return {
        "rpn_config_sha256": rpn_hash(cfg),
        "weights": {"path": weights, "sha256": file_hash(str(local_file(weights)))},
        "proposals_per_image": cfg.MODEL.RPN.POST_NMS_TOPK_TEST,
        "code": code_origin(),
    }


def rpn_hash(cfg: CfgNode) -> str:
    """Return the SHA-256 of the keys from which the proposals of given weights follow."""
    model = {
        key: value
        for key, value in cfg.MODEL.items()
        if key not in OF_DETECTORS and not key.startswith("ROI_")
    }
    image = {key: cfg.INPUT[key] for key in ("FORMAT", "MIN_SIZE_TEST", "MAX_SIZE_TEST")}
    if cfg.INPUT.PIXEL_RANGE:  # later than the first hashes
        image["PIXEL_RANGE"] = cfg.INPUT.PIXEL_RANGE
    if cfg.INPUT.RESIZE != "pillow":  # later, too
        image["RESIZE"] = cfg.INPUT.RESIZE
    return hashlib.sha256(CfgNode({**model, **image}).dump().encode()).hexdigest()


class ProposalWriter(DatasetEvaluator):
    """Takes a model's proposals batch by batch and writes them, in the place of an evaluator."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        """Write the ``proposals`` of images, in pixels of the original image."""
        for image, output in zip(inputs, outputs, strict=True):
            proposals = output["proposals"].to("cpu")
            boxes, logits = proposals.proposal_boxes.tensor, proposals.objectness_logits
            self.writer.add(
                image["image_id"], np.asarray(boxes.float()), np.asarray(logits.float())
            )


def _of_rpn_alone(cfg: CfgNode, datasets: Sequence[str]) -> CfgNode:
    if cfg.MODEL.PROPOSAL_GENERATOR.NAME == PRECOMPUTED:
        raise ConfigError(
            f"MODEL.PROPOSAL_GENERATOR.NAME is {PRECOMPUTED!r}: this model reads proposals and makes none; "
            "give the config of an RPN."
        )
    if cfg.MODEL.META_ARCHITECTURE == "BackboneClassifier":
        raise ConfigError(
            "MODEL.META_ARCHITECTURE is 'BackboneClassifier': this model makes no proposals; give the config of an RPN."
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = cfg.MODEL.LOAD_PROPOSALS = False
    names = datasets or (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), tuple(dict.fromkeys(names))
    return resolve_config(cfg, training=False)


def _is_written(folder: Path, dataset: str, origin: Mapping[str, Any]) -> bool:
    path = store_folder(folder, dataset)
    try:
        index = ProposalStore(path).index
    except DataError as error:
        logger.debug("%s", error)
        return False
    same = _same_rpn(index["origin"], origin) and (
        index["images_sha256"] == digest_of(DatasetCatalog.get(dataset))
    )
    logger.info("%s %s", path, "is there" if same else "is of another RPN or data: written anew")
    return same


def _same_rpn(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    def identity(origin: Mapping[str, Any]) -> tuple[Any, ...]:
        return origin.get("rpn_config_sha256"), origin.get("weights", {}).get("sha256")

    return identity(first) == identity(second)


def _store(
    cfg: CfgNode, model: nn.Module, folder: Path, dataset: str, origin: Mapping[str, Any]
) -> None:
    """Run the model over a data set; each process writes its images, the main one joins them."""
    rank, processes = comm.get_rank(), comm.get_world_size()
    loader = trainer_of(cfg).build_test_loader(cfg, dataset)
    path = store_folder(folder, dataset)
    writer = StoreWriter(path, part=rank)
    logger.info("Proposals of %s", dataset)
    inference_on_dataset(model, loader, ProposalWriter(writer))
    if rank:
        writer.close()
    comm.synchronize()
    if rank == 0:
        # A test sampler gives each process a run of images, in the order of the processes.
        for part in range(1, processes):
            writer.absorb(part)
        digest = digest_of(DatasetCatalog.get(dataset))
        writer.finish(dataset=dataset, images_sha256=digest, origin=origin)
        logger.info("%s: %d images", path, len(ProposalStore(path)))


def _report_recall(
    folder: Path, names: Sequence[str], origin: Mapping[str, Any], device: str
) -> None:
    """Print the recall of each data set and write ``recall.json``; what stands there is not measured again."""
    file = folder / RECALL
    measured = _measured_recall(file, origin)
    recall: dict[str, Mapping[str, float]] = {}
    for name in names:
        store = ProposalStore(store_folder(folder, name))
        if name not in measured:
            logger.info("Recall of %s", store.path)
        recall[name] = measured.get(name) or proposal_recall(store, name, folder)
        text = (
            metrics_table({PROPOSALS: recall[name]})
            if recall[name]
            else "no annotations, no recall"
        )
        logger.info("%s:\n%s", name, text)
    content = {
        "recall": replace_nan({**measured, **recall}),
        "origin": {**origin, "machine": machine(device)},
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")
    logger.info("Recall: %s", file)


def _measured_recall(file: Path, origin: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Return the recall that a file holds of the same RPN; empty without one, and if it is damaged."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        measured = content["recall"] if _same_rpn(content["origin"], origin) else {}
        return {str(name): dict(metrics) for name, metrics in measured.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s is damaged and written anew: %s", file, type(error).__name__)
        return {}
