"""Jobs of SLURM through submitit, each of which requeues itself and resumes.

They outlive the process that submitted them: the next one finds their ids beside the logs and waits for them.
"""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.cluster.job import Job, Task, plain_name
from maskrcnn_repro.cluster.options import parse_options
from maskrcnn_repro.cluster.work import Work, search_path
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.files import write_text

OPTIONS: Mapping[str, type] = {
    "partition": str, "time": int, "gpus": int, "cpus": int, "mem": str, "account": str, "qos": str, "constraint": str,
    "gres": str, "nodelist": str, "exclude": str, "comment": str, "exclusive": bool, "mail_type": str,
    "mail_user": str, "signal_delay": int, "setup": list, "additional_parameters": dict,
}  # fmt: skip
"""Keys of ``--slurm``; ``setup``: lines of shell before the training, ``additional_parameters``: any of sbatch's."""
_SUBMITIT = {"gpus": "gpus_per_node", "cpus": "cpus_per_task", "signal_delay": "signal_delay_s"}
DEFAULTS = {"time": 240, "signal_delay": 120}
"""Minutes until a job is requeued, and seconds before that in which it saves."""
MOST_REQUEUES = 1000
"""A training of the paper's sizes on a partition of an hour."""


class SlurmExecutor:
    """Submits tasks to SLURM.

    Args:
        logs: folder on a file system that all machines share; gets submitit's files.
        options: see :data:`OPTIONS`.
        environment: variables for all tasks.
        cluster: submitit's name of it: ``slurm``, or ``local`` for processes on this machine, without a queue.

    Raises:
        ConfigError: submitit or SLURM is missing.
    """

    lives_on = True
    """Whether its jobs outlive this process."""
    restarts = True
    """Whether a task that saved because of USR1 is started again."""

    def __init__(
        self,
        logs: Path,
        options: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        cluster: str = "slurm",
    ) -> None:
        self.logs = logs.resolve()
        self._environment = dict(environment or {})
        self._options = {**DEFAULTS, **options}
        self._cluster = cluster
        self._submitit = _import()
        self.executor()

    def start(self, task: Task) -> SlurmJob:
        """Submit a task; or return its job, if an earlier process submitted it and it has not ended."""
        note = task.folder / "job.json"
        if earlier := self._earlier(task, note):
            return earlier
        executor = self.executor(task)
        marker = self.logs / f"{plain_name(task.name)}-{uuid.uuid4().hex[:8]}.started"
        patience = max(10.0, self._options["signal_delay"] - 20.0)
        whole = replace(task, environment={**self._environment, **task.environment})
        job = executor.submit(Work(whole, marker, patience))
        write_text(note, json.dumps({"cluster": self._cluster, "job": job.job_id}) + "\n")
        return SlurmJob(task, job)

    def executor(self, task: Task | None = None) -> Any:
        """Return submitit's executor with the parameters of a task.

        Raises:
            ConfigError: there is no SLURM here.
        """
        try:
            executor = self._submitit.AutoExecutor(
                self.logs, cluster=self._cluster, slurm_max_num_timeout=MOST_REQUEUES
            )
        except RuntimeError as error:
            raise ConfigError(
                f"--on slurm: there is no SLURM on this machine ({error}); run it where sbatch and srun are, or "
                "leave --on out."
            ) from None
        executor.update_parameters(**self._parameters(task))
        return executor

    def _parameters(self, task: Task | None) -> dict[str, Any]:
        # The process around the training imports this package, too.
        setup = [f"export PYTHONPATH={shlex.quote(search_path())}"]
        if self._cluster != "slurm":
            return {"timeout_min": self._options["time"], f"{self._cluster}_setup": setup}
        values = {_SUBMITIT.get(key, key): value for key, value in self._options.items()}
        # Not every cluster's default: after preemption and the loss of a machine SLURM itself starts it again.
        values["additional_parameters"] = {
            "requeue": True,
            **values.get("additional_parameters", {}),
        }
        values["setup"] = [*setup, *values.get("setup", ())]
        return {
            "slurm_job_name": plain_name(task.name if task else "maskrcnn"),
            # The output of the training is in console.txt; this is of the job around it.
            "stderr_to_stdout": True,
            **{f"slurm_{key}": value for key, value in values.items()},
        }

    def _earlier(self, task: Task, note: Path) -> SlurmJob | None:
        try:
            content = json.loads(note.read_text(encoding="utf-8"))
            cluster, job_id = content["cluster"], content["job"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        if cluster != self._cluster or self._cluster != "slurm" or not isinstance(job_id, str):
            return None
        job = self._submitit.SlurmJob(self.logs, job_id)
        return None if job.done(force_check=True) else SlurmJob(task, job)


class SlurmJob(Job):
    """A job of submitit's."""

    def __init__(self, task: Task, job: Any) -> None:
        super().__init__(task.folder)
        self.job = job

    @property
    def place(self) -> str:
        """Where it runs, for people."""
        return f"job {self.job.job_id}"

    def poll(self) -> int | None:
        """Return the exit status, or None while it is queued or runs; 1 if SLURM ended it, and why on the console."""
        if not self.job.done():
            return None
        error = self.job.exception()
        if error is None:
            return int(self.job.result())
        with self.console.open("a", encoding="utf-8") as file:
            file.write(f"{type(error).__name__}: {error}\n")
        return 1


def slurm_options(text: str) -> dict[str, Any]:
    """Return the values of ``--slurm``.

    Raises:
        ConfigError: see :func:`parse_options`.
    """
    return parse_options(text, "--slurm", OPTIONS)


def _import() -> Any:
    try:
        import submitit
    except ImportError:
        raise ConfigError(
            "--on slurm needs submitit: pip install 'maskrcnn-repro[slurm]'."
        ) from None
    return submitit
