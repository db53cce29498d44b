"""Hooks that decide which checkpoints are written and kept: periodic ones, the last one, the best one."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection
from pathlib import Path

from maskrcnn_repro.checkpoint.folder import BEST, FINAL
from maskrcnn_repro.engine.step_end import Action, Request
from maskrcnn_repro.errors import ConfigError, did_you_mean, listing
from maskrcnn_repro.utils.files import write_text

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)
HISTORY = "best.json"


def check_saving(cfg: CfgNode) -> None:
    """Raise ConfigError if the keys that say which checkpoints are kept contradict each other."""
    test = cfg.TEST
    for key in ("BEST_METRIC", "EVAL_PERIOD"):
        if test.PATIENCE and not test[key]:
            raise ConfigError(
                f"TEST.PATIENCE {test.PATIENCE} needs TEST.{key}, which says what is looked at, and how often."
            )


class PeriodicCheckpointer(HookBase):
    """Saves every so many iterations and after the last one; old periodic checkpoints may go.

    Args:
        period: iterations between two checkpoints.
        keep: periodic checkpoints that stay; 0 for all.
    """

    def __init__(self, period: int, keep: int = 0) -> None:
        self.period, self.keep = period, keep

    def after_step(self) -> None:
        """Save, if it is time; called in every process."""
        trainer = self.trainer
        if trainer.done % self.period == 0:
            trainer.save()
            if self.keep and comm.is_main_process():
                trainer.checkpointer.folder.prune(self.keep, trainer.checkpointer.run)
        if trainer.done >= trainer.max_iter:
            trainer.save(FINAL)


class BestModel(HookBase):
    """Saves ``model_best.pth`` whenever an evaluation is the best so far, and ends a training without progress.

    It stands behind the hook that evaluates. The numbers of all evaluations are in ``best.json``, because the
    checkpoint of an iteration is written before its evaluation.

    Args:
        metric: its name in the event storage, such as ``segm/AP``; greater is better.
        period: iterations between two evaluations.
        patience: evaluations in a row that may be no better than the best one before them; 0 for any number.
        folder: OUTPUT_DIR.
    """

    def __init__(self, metric: str, period: int, patience: int, folder: Path) -> None:
        self.metric, self.period, self.patience = metric, period, patience
        self.file = folder / HISTORY
        self.values: dict[int, float] = {}
        """Iterations that were done to value of the metric."""

    @property
    def exhausted(self) -> bool:
        """Whether the training has got no better for as long as it may."""
        return 0 < self.patience <= self._in_vain()

    def resume(self, done: int) -> None:
        """Read what evaluations said up to an iteration; later ones are forgotten. Called in every process."""
        values: dict[int, float] = {}
        if comm.is_main_process() and done:
            values = {k: v for k, v in self._read().items() if k <= done}
        self.values = comm.all_gather(values)[0]

    def after_step(self) -> None:
        """Look at a periodic evaluation; called in every process."""
        trainer = self.trainer
        if self.period > 0 and trainer.done % self.period == 0 and trainer.done < trainer.max_iter:
            if problem := self._look():
                trainer.step_end.ask(Request(Action.STOP, 2, problem))
                trainer.step_end.decide()
            elif self.exhausted:
                reason = f"{self._in_vain()} evaluations in a row with no better {self.metric}"
                trainer.step_end.ask(Request(Action.STOP, 0, reason))
                trainer.step_end.decide()

    def after_train(self) -> None:
        """Look at the last evaluation, if the training was completed."""
        if self.trainer.is_complete and (problem := self._look()):
            logger.error("%s", problem)

    def _look(self) -> str:
        """Save the weights if they are the best; return what is wrong if no evaluation gives the metric."""
        latest = self.trainer.storage.latest()
        problem = "" if self.metric in latest else self._unknown(latest)
        # The main process alone has evaluated.
        news = comm.all_gather((latest.get(self.metric, (math.nan, 0))[0], problem))
        value, problem = float(news[0][0]), news[0][1]
        done = self.trainer.done
        if problem:
            return problem
        if not math.isfinite(value):
            logger.warning(
                "TEST.BEST_METRIC %s is no number after %d iterations", self.metric, done
            )
        best = max((v for k, v in self.values.items() if k != done), default=-math.inf)
        self.values[done] = value if math.isfinite(value) else -math.inf
        if comm.is_main_process():
            rows = [[k, v if math.isfinite(v) else None] for k, v in self.values.items()]
            write_text(self.file, json.dumps({"metric": self.metric, "evaluations": rows}) + "\n")
        if value > best:
            logger.info("Best %s so far: %.4g after %d iterations", self.metric, value, done)
            self.trainer.save(BEST)
        return ""

    def _unknown(self, latest: Collection[str]) -> str:
        names = [name for name in latest if "/" in name]
        alike = [name for name in names if name.endswith(f"/{self.metric}")]
        hint = f"There are {listing(alike)}." if alike else did_you_mean(self.metric, names).strip()
        words = f"TEST.BEST_METRIC {self.metric!r} is given by no evaluation"
        return f"{words} ({hint})" if hint else words

    def _in_vain(self) -> int:
        """Return how many evaluations there were since the best one."""
        numbers = list(self.values.values())
        return len(numbers) - 1 - numbers.index(max(numbers)) if numbers else 0

    def _read(self) -> dict[int, float]:
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            if content["metric"] != self.metric:
                return {}
            rows = content["evaluations"]
            return {int(k): -math.inf if v is None else float(v) for k, v in rows}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def best_model(cfg: CfgNode) -> BestModel | None:
    """Return the hook that keeps the best weights; None without ``TEST.BEST_METRIC``."""
    test = cfg.TEST
    if not test.BEST_METRIC:
        return None
    return BestModel(test.BEST_METRIC, test.EVAL_PERIOD, test.PATIENCE, Path(cfg.OUTPUT_DIR))
