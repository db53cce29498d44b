"""What a training script does first: arguments, logging, seeds, writers, the distributed model."""

import argparse
import logging
import os
import sys
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

_EXAMPLES = """
Examples:

One machine with 8 GPUs:
    {script} --config-file cfg.yaml --num-gpus 8

Other values for some config keys:
    {script} --config-file cfg.yaml MODEL.WEIGHTS weights.pth SOLVER.BASE_LR 0.001

Two machines, URL being an address of the first:
    {script} --num-machines 2 --machine-rank 0 --dist-url URL [other options]
    {script} --num-machines 2 --machine-rank 1 --dist-url URL [other options]
"""


def create_ddp_model(
    model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any
) -> nn.Module:
    """Wrap `model` for distributed training if there are several processes.

    Args:
        model: on the device of this process.
        fp16_compression: exchange gradients in half precision.
        **kwargs: for `DistributedDataParallel`.
    """
    if comm.get_world_size() == 1:
        return model
    kwargs.setdefault("device_ids", [comm.get_local_rank()])
    wrapped = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        wrapped.register_comm_hook(None, fp16_compress_hook)
    return wrapped


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Build a parser of the usual arguments of a training script.

    Args:
        epilog: the end of the help; None shows examples.
    """
    parser = argparse.ArgumentParser(
        epilog=epilog or _EXAMPLES.format(script=sys.argv[0]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config-file", metavar="FILE", default="", help="YAML file of the config")
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, do not train")
    add("--num-gpus", type=int, default=1, help="GPUs (processes) on each machine")
    add("--num-machines", type=int, default=1, help="machines of the job")
    add("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    add("--dist-url", default=_default_dist_url(), help="where the processes meet")
    add("opts", nargs=argparse.REMAINDER, help='"KEY VALUE" pairs that change the config')
    return parser


def _default_dist_url() -> str:
    # One port per user: a process left over from an earlier run shows itself by holding it.
    user = os.getuid() if hasattr(os, "getuid") else 1
    return f"tcp://127.0.0.1:{3 * 2**14 + hash(user) % 2**14}"


def default_setup(cfg: CfgNode, args: Any) -> None:
    """Prepare a job: log environment, arguments and config, save the config, seed, set up cuDNN.

    Args:
        cfg: reads ``OUTPUT_DIR``, where log and ``config.yaml`` go, ``SEED``, ``CUDNN_BENCHMARK`` and
            ``FLOAT32_PRECISION``.
        args: parsed command line.
    """
    rank = comm.get_rank()
    writes_files = comm.is_main_process() and cfg.OUTPUT_DIR
    if writes_files:
        PathManager.mkdirs(cfg.OUTPUT_DIR)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="fvcore")
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank)

    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line arguments: %s", args)
    config_file = getattr(args, "config_file", "")
    if config_file:
        with PathManager.open(config_file) as file:
            logger.info("Contents of args.config_file=%s:\n%s", config_file, file.read())
    if writes_files:
        path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
        logger.info("Running with full config:\n%s", cfg.dump())
        with PathManager.open(path, "w") as file:
            file.write(cfg.dump())
        logger.info("Full config saved to %s", path)

    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        # Trying out algorithms for each new size costs more than it saves in an evaluation.
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION:
        _set_float32_precision(cfg.FLOAT32_PRECISION)


def _set_float32_precision(precision: str) -> None:
    """Set how exact float32 products are on CUDA: "highest", or "high" and "medium" with TF32."""
    logging.getLogger(__name__).info("Set fp32 precision to %s", precision)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Return writers to the log, to ``metrics.json`` and to TensorBoard files in `output_dir`.

    Args:
        output_dir: created if it does not exist.
        max_iter: iterations of the training, for the remaining time in the log.
    """
    PathManager.mkdirs(output_dir)
    metrics = os.path.join(output_dir, "metrics.json")
    return [CommonMetricPrinter(max_iter), JSONWriter(metrics), TensorboardXWriter(output_dir)]
