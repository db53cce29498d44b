"""The executor that a command line asks for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from maskrcnn_repro.cluster.ray_tasks import RayExecutor, ray_options
from maskrcnn_repro.cluster.slurm import SlurmExecutor, slurm_options


def cluster_executor(
    args: argparse.Namespace, logs: Path, environment: Mapping[str, str], gpus: int = 0
) -> SlurmExecutor | RayExecutor:
    """Return the executor of ``--on slurm`` or ``--on ray``.

    Args:
        args: with ``on``, ``slurm`` and ``ray`` of a command line.
        logs: folder for the files of the cluster's jobs.
        environment: variables for all tasks.
        gpus: of each task, if the options do not say; 0 to ask for none.

    Raises:
        ConfigError: an option does not exist, or what is needed is missing here.
    """
    own = {"gpus": gpus} if gpus else {}
    if args.on == "slurm":
        return SlurmExecutor(logs / "slurm", {**own, **slurm_options(args.slurm)}, environment)
    return RayExecutor(logs / "ray", {**own, **ray_options(args.ray)}, environment)
