"""Losses and metrics of a training for MLflow and Weights & Biases, beside TensorBoard; imported when asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.config import leaves
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.files import write_text

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

logger = logging.getLogger(__name__)
IDS = "trackers.json"
"""In OUTPUT_DIR: tracker -> its id of this run, so that a resumed training goes on in it."""
WINDOW = 20
"""Iterations that the median of a noisy value is taken over, as in ``metrics.json``."""
LONGEST = 500
"""Characters of a config value; MLflow refuses longer ones."""


class Tracker(EventWriter, ABC):
    """Sends what is new in the event storage to a service.

    A service that fails is told of once and left out from then on: a training does not depend on it.

    Args:
        folder: OUTPUT_DIR of the run.
        config: dotted keys and values of the run's config.
    """

    name: str
    package: str
    """To import."""
    extra: str
    """Of pyproject.toml."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._sent: dict[str, int] = {}
        self._broken = False
        with self._excused():
            ids = _ids(folder)
            ids[self.name] = self.open(folder, config, ids.get(self.name))
            write_text(folder / IDS, json.dumps(ids) + "\n")

    @abstractmethod
    def open(self, folder: Path, config: Mapping[str, Any], former: str | None) -> str:
        """Begin a run, or go on with the one whose id is ``former``; return its id."""

    @abstractmethod
    def send(self, values: Mapping[str, float], iteration: int) -> None:
        """Send values of one iteration."""

    @abstractmethod
    def end(self) -> None:
        """Send what waits, and end."""

    def write(self) -> None:
        """Send the values that came since the last call."""
        by_iteration: dict[int, dict[str, float]] = {}
        latest = get_event_storage().latest_with_smoothing_hint(WINDOW)
        for key, (value, iteration) in latest.items():
            if iteration > self._sent.get(key, -1):
                self._sent[key] = iteration
                by_iteration.setdefault(iteration, {})[key] = float(value)
        for iteration in sorted(by_iteration):
            if not self._broken:
                with self._excused():
                    self.send(by_iteration[iteration], iteration)

    def close(self) -> None:
        """End the run."""
        self.write()
        if not self._broken:
            with self._excused():
                self.end()

    @contextlib.contextmanager
    def _excused(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a service may raise anything
            self._broken = True
            logger.warning(
                "%s failed and is left out from here on (%s: %.200s)",
                self.name,
                type(error).__name__,
                str(error).replace("\n", " "),
            )


class MLflow(Tracker):
    """A run of MLflow: where ``MLFLOW_TRACKING_URI`` says, by default in ``mlflow.db`` beside OUTPUT_DIR."""

    name = "mlflow"
    package = "mlflow"
    extra = "mlflow"

    def open(self, folder: Path, config: Mapping[str, Any], former: str | None) -> str:
        """Begin or go on with a run; its experiment has the name of OUTPUT_DIR's parent."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        folder = folder.resolve()
        default = f"sqlite:///{folder.parent / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or default)
        if former is not None:
            self._run = former
            self._client.update_run(former, status="RUNNING")
            return former
        name = folder.parent.name or "maskrcnn"
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._run = str(self._client.create_run(place, run_name=folder.name).info.run_id)
        params = [Param(key, str(value)[:LONGEST]) for key, value in config.items()]
        for start in range(0, len(params), 100):  # as many as the service takes at once
            self._client.log_batch(self._run, params=params[start : start + 100])
        return self._run

    def send(self, values: Mapping[str, float], iteration: int) -> None:
        """Send values of one iteration."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_plain(key), value, now, iteration) for key, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def end(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


class WandB(Tracker):
    """A run of Weights & Biases, kept below OUTPUT_DIR and sent only if ``WANDB_MODE`` says so."""

    name = "wandb"
    package = "wandb"
    extra = "wandb"

    def open(self, folder: Path, config: Mapping[str, Any], former: str | None) -> str:
        """Begin or go on with a run; its project has the name of OUTPUT_DIR's parent."""
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        folder = folder.resolve()
        settings = wandb.Settings(
            console="off", disable_git=True, save_code=False, x_disable_stats=True
        )
        self._run = wandb.init(
            project=folder.parent.name or "maskrcnn",
            name=folder.name,
            dir=str(folder),
            config={key: str(value)[:LONGEST] for key, value in config.items()},
            id=former,
            resume="allow" if former else None,
            settings=settings,
        )
        if os.environ["WANDB_MODE"] == "offline":
            logger.info(
                "Weights & Biases: kept in %s; WANDB_MODE=online sends it", folder / "wandb"
            )
        return str(self._run.id)

    def send(self, values: Mapping[str, float], iteration: int) -> None:
        """Send values of one iteration."""
        self._run.log(dict(values), step=iteration)

    def end(self) -> None:
        """Send what waits."""
        self._run.finish()


TRACKERS: Mapping[str, type[Tracker]] = {tracker.name: tracker for tracker in (MLflow, WandB)}
"""Entry of ``TRACKERS`` -> what it means."""


def check_trackers(cfg: CfgNode) -> None:
    """Raise ConfigError if the package of an entry of ``TRACKERS`` is not installed."""
    for name in cfg.TRACKERS:
        tracker = TRACKERS[name]
        if importlib.util.find_spec(tracker.package) is None:
            raise ConfigError(
                f"TRACKERS {name!r} needs the package {tracker.package}: "
                f"pip install 'maskrcnn-repro[{tracker.extra}]', or leave it out."
            )


def build_trackers(cfg: CfgNode) -> list[EventWriter]:
    """Return the writers of ``cfg.TRACKERS``, for the main process."""
    folder, config = Path(cfg.OUTPUT_DIR), dict(leaves(cfg))
    return [TRACKERS[name](folder, config) for name in cfg.TRACKERS]


def _ids(folder: Path) -> dict[str, str]:
    try:
        ids = json.loads((folder / IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return ids if isinstance(ids, dict) else {}


def _plain(key: str) -> str:
    """Return a name that MLflow takes: ``segm/AP-a b (c)`` has signs that it refuses."""
    return re.sub(r"[^\w\-./ ]", "_", key)
