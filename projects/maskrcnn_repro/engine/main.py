"""Training and evaluation as a command line asks for them; the options are those of ``maskrcnn train``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_cli.parsing import UsageError
from maskrcnn_cli.training import TRAIN
from maskrcnn_repro.config import keys_in, load_config, pairs_of
from maskrcnn_repro.data.custom import find_unused
from maskrcnn_repro.engine.checks import check_training
from maskrcnn_repro.engine.launch import Processes, launch
from maskrcnn_repro.engine.own_data import OwnData
from maskrcnn_repro.engine.own_data import name_of as name_of_data
from maskrcnn_repro.engine.resolve import resolve_device
from maskrcnn_repro.engine.run import run
from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.engine.trainer_name import name_of
from maskrcnn_repro.errors import ConfigError, DataError, did_you_mean
from maskrcnn_repro.utils.command_line import exit_status

from detectron2.config import CfgNode


def main(argv: Sequence[str] | None = None, trainer: type[Trainer] | None = None) -> int:
    """Train or evaluate as the command line says.

    Args:
        argv: the arguments without the program's name; by default the process's own.
        trainer: a subclass of :class:`Trainer` at the top of its module, in place of the config's ``TRAINER``.

    Returns:
        The exit status: 0, or 2 after a user's error, which is told in one sentence on stderr.
    """
    return exit_status(lambda: start(parse(argv), trainer))


def start(args: argparse.Namespace, trainer: type[Trainer] | None = None) -> None:
    """Train or evaluate in the processes that a parsed command line asks for; see :func:`main`."""
    if getattr(args, "on", "local") != "local":
        raise ConfigError(f"--on {args.on} goes with maskrcnn train and train_net.py.")
    cfg = config_from(args)
    if args.accept_change:
        if not (args.resume or args.eval_only):
            raise ConfigError("--accept-change goes with --resume or --eval-only.")
        cfg.ACCEPTED_CHANGES = tuple(args.accept_change)
    if trainer is not None:
        cfg.TRAINER = name_of(trainer)
    own = own_data_of(args)
    processes = processes_of(args, cfg)
    # With --data the schedule follows from the data, and is checked then.
    if not (args.eval_only or own):
        check_training(cfg, processes.world_size)
    launch(run, processes, (cfg, args.resume, args.eval_only, own, args.checkpoints))


def own_data_of(args: argparse.Namespace) -> OwnData | None:
    """Return the data of ``--data``, with the keys that pairs and overlays set; None without it."""
    if not getattr(args, "data", None):
        return None
    given = {key for key, _ in pairs_of(args.opts)}
    given.update(key for name in args.overlay for key in keys_in(name))
    val = tuple(args.val) if args.val else None
    return OwnData(tuple(args.data), val, args.minutes, frozenset(given))


def processes_of(args: argparse.Namespace, cfg: CfgNode) -> Processes:
    """Return the processes that a parsed command line asks for."""
    return Processes(
        device=cfg.MODEL.DEVICE,
        per_machine=args.num_gpus,
        machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
    )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line: Detectron2's options, ``--dataset``, then ``KEY VALUE`` pairs.

    Raises:
        ConfigError: an option stands behind the first ``KEY VALUE`` pair, or the words cannot be understood.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        return TRAIN.arguments(words, prog=Path(sys.argv[0]).name)
    except UsageError as error:
        raise ConfigError(str(error)) from None


def config_from(args: argparse.Namespace) -> CfgNode:
    """Return the config of a parsed command line, with the device resolved.

    Raises:
        ConfigError: see :func:`maskrcnn_repro.config.load_config`; or the device does not exist.
        DataError: data of ``--dataset`` would not be used.
    """
    cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
    own = [(name, str(Path(json)), str(Path(images))) for name, json, images in args.dataset]
    _check_used([name for name, *_ in own], cfg, getattr(args, "datasets", []))
    cfg.DATASETS.CUSTOM = (*cfg.DATASETS.CUSTOM, *own)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    if (data := own_data_of(args)) and "OUTPUT_DIR" not in data.given:
        cfg.OUTPUT_DIR = str(Path("output") / name_of_data(data))
    return cfg


def _check_used(own: Sequence[str], cfg: CfgNode, others: Sequence[str]) -> None:
    """Raise DataError if a name of ``--dataset`` is neither in the config's data sets nor in ``others``."""
    for name in find_unused(own, cfg):
        if name not in others:
            now = {key: tuple(cfg.DATASETS[key]) for key in ("TRAIN", "TEST")}
            hint = did_you_mean(name, [*now["TRAIN"], *now["TEST"], *others])
            raise DataError(
                f"--dataset {name} would not be used: DATASETS.TRAIN is {now['TRAIN']} and DATASETS.TEST "
                f"{now['TEST']}.{hint} Write DATASETS.TRAIN \"('{name}',)\", or TEST, behind the options."
            )
