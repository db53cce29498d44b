"""How many iterations fit into a number of minutes: measured by a few of them, which are thrown away."""

from __future__ import annotations

import bisect
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable

from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.engine.trainer_name import trainer_of

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

WARM_UP, MEASURED = 2, 8
"""Iterations; the first ones reserve memory and read images."""
EVALUATED = 4
"""Images."""
FEWEST = 10
"""Iterations, however few minutes there are."""
MOST_FOR_EVALUATIONS = 1 / 3
MEASURABLE = 0.9
"""Share of the time; the rest goes into checkpoints, COCO's code and the picture."""


def iterations_within(
    cfg: CfgNode, minutes: float, images: int, evaluations: Callable[[int], int]
) -> int:
    """Return the number of iterations of a training whose evaluations fit into ``minutes``, too; at least 10.

    Called in every process. The slowest one counts. Of evaluations that would take more than a third of the time,
    a third is counted.

    Args:
        cfg: resolved.
        minutes: from the first iteration to the last evaluation.
        images: of one evaluation.
        evaluations: returns how many a training of so many iterations has; see :func:`evaluations_of`.
    """
    step, image = _measure_seconds(cfg)
    total = 60 * minutes * MEASURABLE

    def exceeds(iterations: int) -> bool:
        spent = min(evaluations(iterations) * images * image, MOST_FOR_EVALUATIONS * total)
        return iterations * step + spent > total

    longer = range(FEWEST + 1, int(total / step) + 1)
    return FEWEST + bisect.bisect_left(longer, True, key=exceeds)


def evaluations_of(cfg: CfgNode) -> int:
    """Return how often a training evaluates: every ``TEST.EVAL_PERIOD`` iterations, and at its end in any case."""
    if not cfg.DATASETS.TEST:
        return 0
    last = cfg.SOLVER.MAX_ITER
    return int(-(-last // (cfg.TEST.EVAL_PERIOD or last)))


def _measure_seconds(cfg: CfgNode) -> tuple[float, float]:
    """Return the seconds of an iteration, and of one image of an evaluation."""
    with tempfile.TemporaryDirectory(prefix="maskrcnn-") as folder:
        short = cfg.clone()
        short.defrost()
        short.OUTPUT_DIR, short.SEED = folder, max(0, cfg.SEED)
        short.SOLVER.MAX_ITER = WARM_UP + MEASURED
        short.DATASETS.TEST, short.TEST.BEST_METRIC, short.TEST.PATIENCE = (), "", 0
        short.TRACKERS = ()  # no run of theirs is of this trial
        short.freeze()
        trainer = trainer_of(cfg)(short)
        trainer.resume_or_load(resume=False)
        trainer.train()
        times = [value for value, _ in trainer.storage.history("time").values()]
        seconds = (statistics.median(times[-MEASURED:]), _seconds_of_image(cfg, trainer))
    return tuple(max(of_all) for of_all in zip(*comm.all_gather(seconds), strict=True))


def _seconds_of_image(cfg: CfgNode, trainer: Trainer) -> float:
    if not cfg.DATASETS.TEST:
        return 0.0
    model = getattr(trainer.model, "module", trainer.model).eval()
    times = []
    with torch.no_grad():
        loader = trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
        for batch in itertools.islice(loader, EVALUATED):
            begin = time.perf_counter()
            model(batch)
            times.append((time.perf_counter() - begin) / len(batch))
    return statistics.median(times)
