"""Why the numbers of a step are not finite: likely causes in the order in which they are asked, with remedies.

A cause that the data or the weights show outright comes before one that the course of the losses suggests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.engine.guard.evidence import Evidence, Image, image_name, wrong_fields
from maskrcnn_repro.errors import listing
from maskrcnn_repro.utils.finite import not_finite

PAPER_RATE, PAPER_BATCH = 0.02, 16
"""Sec. 3.1: the rate of SGD for a batch of 16 images; the rate of another batch is proportional."""
ADAMW_RATE = 2e-3
"""That of the small models; AdamW's step is as long as its rate, whatever the batch."""
GROWTH = 3.0
"""A sum of losses this many times its lowest value so far has grown, beyond noise: medians of twenty steps
stayed below 1.5 times their lowest in 19 trainings of small models."""
HALF = 65504.0
"""The largest number of float16."""
NORMS = ("MODEL.RESNETS.NORM", "MODEL.FPN.NORM")


@dataclass(frozen=True)
class Cause:
    """A likely cause, and what to do."""

    code: str
    sentence: str
    remedy: str


def cause_of(evidence: Evidence) -> Cause:
    """Return the likely cause of numbers that are not finite."""
    return next(cause for ask in ASKED if (cause := ask(evidence)))


def _weights_file(evidence: Evidence) -> Cause | None:
    # Buffers do not tell: the first forward pass has moved them already.
    names = evidence.weights
    if not (names and evidence.first and evidence.wrong_losses):
        return None
    source = evidence.cfg.MODEL.WEIGHTS or "the checkpoint"
    return Cause(
        "weights",
        f"{source} itself holds numbers that are not finite, in {listing(names, 3)}",
        "take another file",
    )


def _pixel_std(evidence: Evidence) -> Cause | None:
    std = [float(value) for value in evidence.cfg.MODEL.PIXEL_STD]
    mean = [float(value) for value in evidence.cfg.MODEL.PIXEL_MEAN]
    if all(math.isfinite(value) and value > 1e-6 for value in std) and all(
        map(math.isfinite, mean)
    ):
        return None
    return Cause(
        "pixel_std",
        f"images are divided by MODEL.PIXEL_STD {std} after MODEL.PIXEL_MEAN {mean} is taken away",
        "give the deviation of the channels, such as [1.0, 1.0, 1.0] or [57.4, 57.1, 58.4]",
    )


def _pixels(evidence: Evidence) -> Cause | None:
    wrong = [image for image in evidence.images if not_finite([("image", image["image"])])]
    if not wrong:
        return None
    return Cause(
        "pixels",
        f"pixels of {_names(wrong)} are NaN or infinite",
        "look at the mapper or the augmentation that made them",
    )


def _annotations(evidence: Evidence) -> Cause | None:
    wrong = {
        image_name(image): fields for image in evidence.images if (fields := [*wrong_fields(image)])
    }
    if not wrong:
        return None
    fields = sorted({name for names in wrong.values() for name in names})
    return Cause(
        "annotations",
        f"{' and '.join(fields)} of {listing(wrong, 3)} are not finite, or boxes without an area",
        "correct the annotations (maskrcnn check names them), or the mapper that changed them",
    )


def _pixel_range(evidence: Evidence) -> Cause | None:
    extremes = {}
    for image in evidence.images:
        low, high = (value.item() for value in image["image"].aminmax())
        if low < 0 or high > 255:
            extremes[image_name(image)] = (low, high)
    if not extremes:
        return None
    name, (low, high) = max(extremes.items(), key=lambda item: item[1][1] - item[1][0])
    return Cause(
        "pixel_range",
        f"pixels of {len(extremes)} image(s) lie outside 0 to 255, those of {name!r} from {low:g} to {high:g}",
        "scale them to 8 bits, or set MODEL.PIXEL_MEAN and MODEL.PIXEL_STD for their range",
    )


def _precision(evidence: Evidence) -> Cause | None:
    if evidence.scale is None or (evidence.scale > 1 and not evidence.wrong_losses):
        return None
    return Cause(
        "precision",
        f"activations do not fit into float16 (up to {HALF:g}); the losses' scale is {evidence.scale:g}",
        "set SOLVER.AMP.ENABLED False, or lower SOLVER.BASE_LR",
    )


def _weights_not_loaded(evidence: Evidence) -> Cause | None:
    cfg = evidence.cfg
    frozen = [key for key in NORMS if value_of(cfg, key) == "FrozenBN"]
    if cfg.MODEL.WEIGHTS or not frozen:
        return None
    return Cause(
        "no_weights",
        f"MODEL.WEIGHTS is empty, and {frozen[0]} FrozenBN normalises nothing in a network of random weights",
        "name the weights of a backbone with MODEL.WEIGHTS FILE, or set the norm to BN",
    )


def _rate(evidence: Evidence) -> Cause | None:
    solver = evidence.cfg.SOLVER
    adamw = solver.OPTIMIZER == "AdamW"
    usual = ADAMW_RATE if adamw else PAPER_RATE * solver.IMS_PER_BATCH / PAPER_BATCH
    growing = _has_grown(evidence.history, list(evidence.losses.values()))
    # A rate may be so high that one step is enough, before any loss has grown.
    if not growing and solver.BASE_LR <= 4 * usual:
        return None
    return Cause(
        "rate",
        f"{'the losses grew before' if growing else 'the first steps are too long'}: SOLVER.BASE_LR "
        f"{solver.BASE_LR:g} is too high here for a batch of {solver.IMS_PER_BATCH} "
        f"({'a usual rate of AdamW is' if adamw else 'the paper has, in proportion,'} {usual:g}), with "
        f"{solver.WARMUP_ITERS} iterations of warm-up",
        f"set SOLVER.BASE_LR {min(usual, solver.BASE_LR / 10):g}, a longer SOLVER.WARMUP_ITERS, or "
        "SOLVER.CLIP_GRADIENTS.ENABLED True",
    )


def _update(evidence: Evidence) -> Cause | None:
    if not evidence.weights or evidence.wrong_losses or evidence.gradients:
        return None
    return Cause(
        "update",
        f"losses and gradients are finite, and {listing(evidence.weights, 3)} not: the optimiser's update, or a hook "
        "behind it, made them so",
        "look at hooks and at an optimiser of your own, or lower SOLVER.BASE_LR",
    )


def _single_loss(evidence: Evidence) -> Cause | None:
    wrong = evidence.wrong_losses
    if not wrong or len(wrong) == len(evidence.losses):
        return None
    return Cause(
        "loss",
        f"{' and '.join(wrong)} alone of {len(evidence.losses)} losses {_is_or_are(wrong)} not finite"
        f"{_own_parts(evidence)}",
        "look for a logarithm or a division of zero there, such as a mean over no RoIs",
    )


def _backward(evidence: Evidence) -> Cause | None:
    if evidence.wrong_losses or not evidence.gradients:
        return None
    # Gradients flow from the losses to the input: the module nearest to the losses is the last.
    module = evidence.gradients[-1].rpartition(".")[0]
    return Cause(
        "backward",
        f"the losses are finite, the gradients of {len(evidence.gradients)} parameters, those of "
        f"{module!r} among them, are not{_own_parts(evidence)}",
        "look for a square root, a norm or a division at zero in what follows that module",
    )


def _statistics(evidence: Evidence) -> Cause | None:
    # Where losses or gradients are wrong, too, the statistics follow from the same activations.
    if not evidence.buffers or evidence.weights or evidence.gradients or evidence.wrong_losses:
        return None
    return Cause(
        "statistics",
        f"running statistics of batch norm are not finite ({listing(evidence.buffers, 3)}): activations "
        "overflowed in an earlier step",
        "lower SOLVER.BASE_LR, or freeze them with the norm FrozenBN",
    )


def _unknown(evidence: Evidence) -> Cause:
    where = listing([*evidence.weights, *evidence.gradients], 3)
    return Cause(
        "unknown",
        f"its cause does not show from outside (not finite: {where})",
        "replay the step, which names the first module with such an output",
    )


ASKED: Sequence[Callable[[Evidence], Cause | None]] = (
    _weights_file,
    _pixel_std,
    _pixels,
    _annotations,
    _pixel_range,
    _precision,
    _weights_not_loaded,
    _rate,
    _statistics,
    _update,
    _single_loss,
    _backward,
    _unknown,
)


def _has_grown(history: Sequence[float], last: Sequence[float]) -> bool:
    sums = [*history[-10:], *([sum(last)] if last and math.isfinite(sum(last)) else [])]
    return len(history) > 1 and max(sums, default=0.0) > GROWTH * max(min(history), 1e-3)


def _own_parts(evidence: Evidence) -> str:
    """Name the modules that are neither Detectron2's, nor ours, nor PyTorch's."""
    known_packages = ("detectron2", "maskrcnn_repro", "torch", "torchvision", "fvcore")
    own = sorted(
        {name for name in evidence.classes.values() if name.partition(".")[0] not in known_packages}
    )
    return f"; of your own are {', '.join(own)}" if own else ""


def _is_or_are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _names(images: Sequence[Image]) -> str:
    return listing(map(image_name, images), 3)
