"""Sizes of models beside those of Detectron2's nearest configs, with the reasons for the differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.sizes import Size, build_on_meta, roi_counts, size_of
from maskrcnn_repro.tables.models.listing import billions, millions
from maskrcnn_repro.tables.paper.experiments import experiment_config, find_experiment

from detectron2.config import CfgNode
from tabulate import tabulate

PEERS = {
    "r50_c4": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml",
    "r50_fpn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "r101_fpn": "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml",
    "keypoints_r50_fpn": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
}
"""Experiment to the nearest of Detectron2's own configs."""


@dataclass(frozen=True)
class SizeComparison:
    """Sizes of an experiment's model and of its peer in Detectron2.

    Attributes:
        experiment: id of the experiment.
        peer: name of Detectron2's config.
        ours: size of the experiment's model.
        theirs: size of the peer.
        reasons: sentences that explain all differences.
    """

    experiment: str
    peer: str
    ours: Size
    theirs: Size
    reasons: tuple[str, ...]


def compare(folder: Path | None = None, names: Iterable[str] = PEERS) -> list[SizeComparison]:
    """Return each experiment's model compared with its peer in :data:`PEERS`.

    Args:
        folder: Detectron2's folder ``configs``; None for the configs of its ``model_zoo``.
        names: experiments; by default all that have a peer.

    Raises:
        ConfigError: Detectron2's configs are not there.
    """
    comparisons = []
    for name in names:
        peer = PEERS[name]
        own = experiment_config(find_experiment(name))
        other = load_config(_peer_file(peer, folder))
        reasons = _explain(own, other)
        comparisons.append(SizeComparison(name, peer, size_of(own), size_of(other), reasons))
    return comparisons


def as_table(comparisons: Sequence[SizeComparison], style: str = "simple") -> str:
    """Return comparisons as a text table with the reasons below; ``style`` is one of tabulate's."""
    headers = ["experiment", "part", "parameters: ours (M)", "Detectron2's"]
    headers += ["multiply-adds: ours (G)", "Detectron2's"]
    cells = [row for comparison in comparisons for row in _rows(comparison)]
    align = ("left",) * 2 + ("right",) * 4
    text = tabulate(cells, headers, style, colalign=align, disable_numparse=True)
    reasons = []
    for pair in comparisons:
        reasons += ["", f"{pair.experiment} and {pair.peer}:", *(f"- {r}" for r in pair.reasons)]
    return "\n".join([text, *reasons])


def as_json(comparisons: Sequence[SizeComparison]) -> list[dict[str, Any]]:
    """Return the comparisons as plain values."""
    return [
        {
            "experiment": pair.experiment,
            "detectron2": pair.peer,
            "ours": dict(pair.ours.parameters),
            "theirs": dict(pair.theirs.parameters),
            "our_multiply_adds": dict(pair.ours.multiply_adds),
            "their_multiply_adds": dict(pair.theirs.multiply_adds),
            "reasons": list(pair.reasons),
        }
        for pair in comparisons
    ]


def _rows(comparison: SizeComparison) -> list[list[str]]:
    ours, theirs = comparison.ours, comparison.theirs
    rows = [
        [
            comparison.experiment,
            "all",
            millions(ours.total_parameters),
            millions(theirs.total_parameters),
            billions(ours.total_multiply_adds),
            billions(theirs.total_multiply_adds),
        ]
    ]
    for part in dict.fromkeys([*ours.parameters, *theirs.parameters]):
        sizes = [millions(size.parameters.get(part)) for size in (ours, theirs)]
        rows.append(["", part, *sizes, "", ""])
    for part in dict.fromkeys([*ours.multiply_adds, *theirs.multiply_adds]):
        sizes = [billions(size.multiply_adds.get(part)) for size in (ours, theirs)]
        rows.append(["", part, "", "", *sizes])
    return rows


def _explain(own: CfgNode, other: CfgNode) -> tuple[str, ...]:
    ours, theirs = (dict(build_on_meta(cfg).state_dict()) for cfg in (own, other))
    reasons = []
    for here, there, whose in ((ours, theirs, "ours"), (theirs, ours, "Detectron2's")):
        alone = here.keys() - there.keys()
        if alone:
            count = sum(here[name].numel() for name in alone)
            parts = sorted({name.split(".")[0] for name in alone})
            reasons.append(f"only {whose} has {count:,} numbers in {', '.join(parts)}.")
    both = ours.keys() & theirs.keys()
    same = sum(ours[name].shape == theirs[name].shape for name in both)
    reasons.append(
        f"{same} tensors have the same names and shapes in both, {len(both) - same} the same names alone."
    )
    for part, own_count in roi_counts(own).items():
        other_count = roi_counts(other).get(part, own_count)
        if other_count != own_count:
            seen = [f"{number} RoIs of {side}x{side}" for number, side in (own_count, other_count)]
            reasons.append(f"{part}: ours sees {seen[0]}, Detectron2's {seen[1]}.")
    return tuple(reasons)


def _peer_file(name: str, folder: Path | None) -> str:
    if folder is not None:
        if not (folder / name).is_file():
            raise ConfigError(f"{folder / name} does not exist; name Detectron2's folder configs.")
        return str(folder / name)
    try:
        from detectron2 import model_zoo

        return str(model_zoo.get_config_file(name))
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"This Detectron2 comes without its configs ({error}); name the folder configs of its source: "
            "--compare FOLDER."
        ) from error
