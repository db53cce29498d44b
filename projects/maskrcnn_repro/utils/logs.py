"""Logging of a run: everything to a file per process, a selection to the console."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskrcnn_cli.output import drop_stdout, is_of_stdout, tell
from maskrcnn_repro.errors import UserError
from maskrcnn_repro.utils.files import NO_ROOM
from maskrcnn_repro.utils.memory import is_lack

# Below a warning, records of these loggers go to the file only; the engine logs the same in short.
DETAILS = (
    "detectron2.checkpoint",
    "detectron2.data",
    "detectron2.evaluation.coco_evaluation",
    "fvcore",
)
# PyTorch's warnings about code of an installed Detectron2, which a user cannot change.
HARMLESS = ("The given NumPy array is not writable", "torch.meshgrid")
LOGGERS = ("detectron2", "fvcore", "maskrcnn_repro")
OF_PEERS = ("Connection closed by peer", "Connection reset by peer")
"""What PyTorch raises in a process whose peer has ended."""
FORMAT = logging.Formatter(
    "[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt="%m/%d %H:%M:%S"
)
CONSOLE_FORMAT = logging.Formatter("[%(asctime)s] %(message)s", datefmt="%H:%M:%S")


class LogFile(logging.FileHandler):
    """A log that stops, and says so once, where the disk is full: a line of it is worth no training."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop what cannot be written."""
        if getattr(sys.exc_info()[1], "errno", None) not in NO_ROOM:
            super().handleError(record)
        elif not self.filters:
            self.addFilter(lambda record: False)
            tell(f"{self.baseFilename} cannot be written: no room")


class _Console(logging.StreamHandler):
    """Shows records on stdout until that cannot be written, and says so once; the log file has them all."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Show nothing more if the stream is at fault."""
        if not is_of_stdout(sys.exc_info()[1]):
            super().handleError(record)
            return
        drop_stdout()
        tell("stdout cannot be written; the log file goes on")


class _Held(logging.Handler):
    """Keeps records in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def hand_over(self) -> None:
        """Give the records to the loggers' other handlers."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
        for record in self.records:
            logging.getLogger(record.name).handle(record)
        self.records.clear()


@contextmanager
def records_held() -> Iterator[None]:
    """Hold records back until :func:`logging_to` opens a log, which then has them too, or until the end."""
    held = _Held()
    for name in LOGGERS:
        logging.getLogger(name).addHandler(held)
        logging.getLogger(name).propagate = False
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).propagate = True
        held.hand_over()


def log_name(rank: int) -> str:
    """Return the name of a process's log."""
    return "log.txt" if rank == 0 else f"log.txt.rank{rank}"


@contextmanager
def logging_to(folder: Path, rank: int) -> Iterator[None]:
    """Log to ``folder/log.txt`` (other ranks: ``log.txt.rankN``) and, from rank 0, to stdout.

    Unlike Detectron2's ``setup_logger`` it removes its handlers after the block, so that a program may run
    several trainings, each with its own file.
    """
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    folder.mkdir(parents=True, exist_ok=True)
    file = LogFile(folder / log_name(rank), encoding="utf-8")
    file.setFormatter(FORMAT)
    handlers: list[logging.Handler] = [file]
    if rank == 0:
        console = _Console(sys.stdout)
        console.setLevel(logging.INFO)
        console.setFormatter(CONSOLE_FORMAT)
        console.addFilter(_worth_showing)
        handlers.append(console)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.propagate = False  # handlers of the root logger would repeat each record
        for handler in handlers:
            logger.addHandler(handler)
    for held in {h for logger in loggers for h in logger.handlers if isinstance(h, _Held)}:
        held.hand_over()
    try:
        yield
    finally:
        for logger in loggers:
            logger.propagate = True
            for handler in handlers:
                logger.removeHandler(handler)
        file.close()


def _worth_showing(record: logging.LogRecord) -> bool:
    # Detectron2 warns at every loading of a data set whose category ids are not 1 to K.
    if "We'll apply a mapping for you" in record.getMessage():
        return False
    # Detectron2's loop logs what ended it with its traceback; the sentence for it is told elsewhere: a mistake's at the
    # end, that for losses that are not finite by the guard.
    error = record.exc_info[1] if record.exc_info else None
    if (
        isinstance(error, UserError | FloatingPointError)
        or getattr(error, "errno", None) in NO_ROOM
    ):
        return False
    if error and is_lack(error):
        return False
    # The process that failed says why.
    if any(sign in str(error) for sign in OF_PEERS):
        return False
    return record.levelno >= logging.WARNING or not record.name.startswith(DETAILS)
