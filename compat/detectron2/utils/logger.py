"""Logging to the terminal (first process) and to a file (every process)."""

import atexit
import functools
import logging
import os
import sys
import time
from collections import Counter
from typing import IO, Any

from tabulate import tabulate
from termcolor import colored

from detectron2._absent import module_getattr
from detectron2.utils.file_io import PathManager

__all__ = ["log_every_n", "log_every_n_seconds", "log_first_n", "setup_logger"]

_TIME_FORMAT = "%m/%d %H:%M:%S"
_counts: Counter = Counter()
_last_times: dict[tuple, float] = {}


class _TerminalFormatter(logging.Formatter):
    """Shortens the package's name and paints warnings and errors."""

    def __init__(self, fmt: str, package: str, short_name: str) -> None:
        super().__init__(fmt, datefmt=_TIME_FORMAT)
        self._package = f"{package}."
        self._short_name = f"{short_name}." if short_name else ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.name = record.name.replace(self._package, self._short_name)
        text = super().formatMessage(record)
        if record.levelno < logging.WARNING:
            return text
        label = "WARNING" if record.levelno < logging.ERROR else "ERROR"
        attributes = ["blink"] if label == "WARNING" else ["blink", "underline"]
        return f"{colored(label, 'red', attrs=attributes)} {text}"


@functools.cache  # a second call with the same arguments must not add the handlers again
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Let a logger write everything from level DEBUG to the terminal and to a file.

    Args:
        output: a ``.txt`` or ``.log`` file, or a folder, for ``log.txt`` in it; None for no file.
            Processes above rank 0 write to ``<file>.rank<N>``.
        distributed_rank: rank of this process; only rank 0 writes to the terminal.
        color: paint the terminal output.
        name: the package whose loggers are meant.
        abbrev_name: what to print instead of ``name``; ``""`` leaves it out. Default: ``d2`` for
            Detectron2.
        enable_propagation: pass records on to the parent logger.
        configure_stdout: write to the terminal at all.
    """
    logger = logging.getLogger(name)
    logger.propagate = enable_propagation
    logger.setLevel(logging.DEBUG)
    plain = logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", _TIME_FORMAT)
    outputs: list[tuple[IO[str], logging.Formatter]] = []
    if configure_stdout and distributed_rank == 0:
        short_name = {"detectron2": "d2"}.get(name, name) if abbrev_name is None else abbrev_name
        painted = colored("[%(asctime)s %(name)s]: ", "green") + "%(message)s"
        formatter = _TerminalFormatter(painted, name, short_name) if color else plain
        outputs.append((sys.stdout, formatter))
    if output is not None:
        file = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        suffix = f".rank{distributed_rank}" if distributed_rank > 0 else ""
        outputs.append((_log_stream(file + suffix), plain))
    for stream, formatter in outputs:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    return logger


@functools.cache  # loggers that share a file share its stream, or they would overwrite each other
def _log_stream(file: str) -> IO[str]:
    PathManager.mkdirs(os.path.dirname(file))
    stream = PathManager.open(file, "a")
    atexit.register(stream.close)
    return stream


def _find_caller() -> tuple[str, tuple]:
    """Return module name and place (file, line, function) of whoever called into this module."""
    frame: Any = sys._getframe(1)
    while frame.f_code.co_filename == __file__:
        frame = frame.f_back
    module = frame.f_globals["__name__"]
    place = (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
    return "detectron2" if module == "__main__" else module, place


def log_first_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None, key="caller") -> None:
    """Log only the first ``n`` times.

    Args:
        lvl: level, such as ``logging.WARNING``.
        msg: the message.
        n: how many times.
        name: the logger; by default that of the calling module.
        key: what counts as the same log: ``"caller"`` (the line of code), ``"message"``, or both
            in a tuple.
    """
    module, place = _find_caller()
    values = {"caller": place, "message": msg}
    identity = tuple(values[part] for part in ([key] if isinstance(key, str) else key))
    _counts[identity] += 1
    if _counts[identity] <= n:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log the first of every ``n`` calls from the same line of code."""
    module, place = _find_caller()
    if _counts[place] % n == 0:
        logging.getLogger(name or module).log(lvl, msg)
    _counts[place] += 1


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log at most once in ``n`` seconds from the same line of code."""
    module, place = _find_caller()
    now = time.time()
    if now - _last_times.get(place, 0) >= n:
        logging.getLogger(name or module).log(lvl, msg)
        _last_times[place] = now


def create_small_table(small_dict: dict[str, Any]) -> str:
    """Return a table of one row with the keys as headers; for a handful of results."""
    row, centred = [list(small_dict.values())], {"stralign": "center", "numalign": "center"}
    return tabulate(row, headers=list(small_dict), tablefmt="pipe", floatfmt=".3f", **centred)


__getattr__ = module_getattr(__name__)
