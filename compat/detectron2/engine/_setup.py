"""What a training script does first: arguments, logging, seeds, writers, the distributed model."""

import argparse
import os
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

__all__ = ["create_ddp_model", "default_argument_parser", "default_setup", "default_writers"]


def create_ddp_model(model: nn.Module, **kwargs: Any) -> nn.Module:
    """Wrap `model` for distributed training if there are several processes.

    Args:
        model: on the device of this process.
        **kwargs: for `DistributedDataParallel`.
    """
    if comm.get_world_size() == 1:
        return model
    return DistributedDataParallel(model, **{"device_ids": [comm.get_local_rank()]} | kwargs)


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Build a parser of the usual arguments of a training script.

    Args:
        epilog: the end of the help; None leaves it out.
    """
    # One port per user: a process left over from an earlier run shows itself by holding it.
    user = os.getuid() if hasattr(os, "getuid") else 1
    url = f"tcp://127.0.0.1:{3 * 2**14 + hash(user) % 2**14}"
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(epilog=epilog, formatter_class=layout)
    add = parser.add_argument
    add("--config-file", metavar="FILE", default="", help="YAML file of the config")
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, do not train")
    add("--num-gpus", type=int, default=1, help="GPUs (processes) on each machine")
    add("--num-machines", type=int, default=1, help="machines of the job")
    add("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    add("--dist-url", default=url, help="where the processes meet")
    add("opts", nargs=argparse.REMAINDER, help='"KEY VALUE" pairs that change the config')
    return parser


def default_setup(cfg: CfgNode, args: Any) -> None:
    """Prepare a job: log environment, arguments and config, save the config, seed, set up cuDNN.

    Args:
        cfg: reads ``OUTPUT_DIR``, where log and ``config.yaml`` go, ``SEED``, ``CUDNN_BENCHMARK``
            and ``FLOAT32_PRECISION``: how exact float32 products are on CUDA, "highest", or "high"
            and "medium" with TF32.
        args: parsed command line.
    """
    rank, folder = comm.get_rank(), cfg.OUTPUT_DIR
    setup_logger(folder, distributed_rank=rank, name="fvcore")
    log = setup_logger(folder, distributed_rank=rank).info
    log("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    log("Environment info:\n%s", collect_env_info())
    log("Command line arguments: %s", args)
    if getattr(args, "config_file", ""):
        with PathManager.open(args.config_file) as file:
            log("Contents of args.config_file=%s:\n%s", args.config_file, file.read())
    if folder and comm.is_main_process():
        PathManager.mkdirs(folder)
        with PathManager.open(os.path.join(folder, "config.yaml"), "w") as file:
            file.write(cfg.dump())
        log("Running with full config, saved in %s:\n%s", folder, cfg.dump())

    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        # Trying out algorithms for each new size costs more than it saves in an evaluation.
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION and torch.cuda.is_available():
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.backends.cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Return writers to the log, to ``metrics.json`` and to TensorBoard files in `output_dir`.

    Args:
        output_dir: created if it does not exist.
        max_iter: iterations of the training, for the remaining time in the log.
    """
    PathManager.mkdirs(output_dir)
    metrics = os.path.join(output_dir, "metrics.json")
    return [CommonMetricPrinter(max_iter), JSONWriter(metrics), TensorboardXWriter(output_dir)]
