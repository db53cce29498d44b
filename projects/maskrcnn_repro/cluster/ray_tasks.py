"""Tasks of Ray: on a cluster that runs already, or on one of this machine. Nothing is reported home.

A task ends with the process that started it; a machine that is lost costs the time since the last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.cluster.job import Job, Task, plain_name
from maskrcnn_repro.cluster.options import parse_options
from maskrcnn_repro.cluster.work import Work, search_path
from maskrcnn_repro.errors import ConfigError

OPTIONS: Mapping[str, type] = {"address": str, "cpus": float, "gpus": float, "retries": int}
"""Keys of ``--ray``: of the cluster, and per training; ``retries`` after machines that were lost."""
DEFAULTS = {"cpus": 1.0, "gpus": 0.0, "retries": 100}
_PASSED_ON = re.compile(r"MASKRCNN_REPRO_|DETECTRON2_|OMP_|FVCORE_|HF_|TORCH_HOME")
"""Environment variables that the machines of a cluster need, too."""


class RayExecutor:
    """Starts tasks on Ray.

    Args:
        logs: folder on a file system that all machines share.
        options: see :data:`OPTIONS`.
        environment: variables for all tasks.

    Raises:
        ConfigError: Ray is missing, or there is no cluster at the address.
    """

    lives_on = False
    """Whether its jobs outlive this process."""
    restarts = True
    """Whether a task that saved because of USR1 is started again."""

    def __init__(
        self, logs: Path, options: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self.logs = logs.resolve()
        self._environment = dict(environment or {})
        self._options = {**DEFAULTS, **options}
        # Read when Ray is imported.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._ray = _import()
        address = self._options.get("address")
        variables = {k: v for k, v in os.environ.items() if _PASSED_ON.match(k)}
        variables["PYTHONPATH"] = search_path()
        here = {} if address else {"include_dashboard": False}
        try:
            self._ray.init(
                address or "local",
                runtime_env={"env_vars": variables},
                log_to_driver=False,
                logging_level="error",
                **here,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"--ray address={address}: {reason}") from None

    def start(self, task: Task) -> RayJob:
        """Start a task as soon as a machine has room for it."""
        self.logs.mkdir(parents=True, exist_ok=True)
        whole = replace(task, environment={**self._environment, **task.environment})
        work = Work(whole, self.logs / f"{plain_name(task.name)}-{uuid.uuid4().hex[:8]}.started")
        remote = self._ray.remote(
            num_cpus=self._options["cpus"],
            num_gpus=self._options["gpus"],
            max_retries=self._options["retries"],
        )(_run)
        return RayJob(self._ray, task, remote.options(name=task.name).remote(work))


class RayJob(Job):
    """A task of Ray's."""

    place = "a task of Ray"
    """Where it runs, for people."""

    def __init__(self, ray: Any, task: Task, reference: Any) -> None:
        super().__init__(task.folder)
        self._ray, self._reference = ray, reference

    def poll(self) -> int | None:
        """Return the exit status, or None while it waits or runs; 1 if Ray gave it up, and why on the console."""
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.RayError as error:
            with self.console.open("a", encoding="utf-8") as file:
                file.write(f"{type(error).__name__}: {error}\n")
            return 1

    def ask_to_stop(self) -> None:
        """Cancel it: the training saves."""
        self._ray.cancel(self._reference, force=False)

    def end(self, deadline: float) -> None:
        """Wait for its end until ``deadline``, then kill it."""
        left = max(0.0, deadline - time.monotonic())
        if not self._ray.wait([self._reference], timeout=left)[0]:
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(self._reference, force=True)


def ray_options(text: str) -> dict[str, Any]:
    """Return the values of ``--ray``.

    Raises:
        ConfigError: see :func:`parse_options`.
    """
    return parse_options(text, "--ray", OPTIONS)


def _run(work: Work) -> int:
    return work()


def _import() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("--on ray needs Ray: pip install 'maskrcnn-repro[ray]'.") from None
    return ray
