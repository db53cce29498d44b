"""The numbers that a run logs: cut back to the iteration that it is resumed from, so that none stands twice."""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

logger = logging.getLogger(__name__)
METRICS = "metrics.json"
_HEADER, _FOOTER = 12, 4
"""Bytes around a record of an event file: its length (8) and a checksum (4), then another one."""


def cut_back(folder: Path, first: int, *, repeats: bool) -> None:
    """Cut ``metrics.json`` and TensorBoard's event files off where a resumed training begins.

    In ``metrics.json`` the evaluation after the last iteration bears the number of the iteration that would come
    next; it stays if the training goes on.

    Args:
        folder: of the run.
        first: the iteration that comes next.
        repeats: nothing is left to train, so that this evaluation is repeated.
    """
    _truncate(folder / METRICS, _end_of_lines(folder / METRICS, first, repeats=repeats))
    for file in folder.glob("events.out.tfevents.*"):
        _truncate(file, _end_of_events(file, first))


def _truncate(path: Path, size: int) -> None:
    if path.is_file() and size < path.stat().st_size:
        logger.info("%s is cut back from %d to %d bytes", path.name, path.stat().st_size, size)
        os.truncate(path, size)


def _end_of_lines(path: Path, first: int, *, repeats: bool) -> int:
    """Return where the first line begins that is of a later iteration, or broken."""
    end = 0
    if not path.is_file():
        return end
    with path.open("rb") as file:
        for line in file:
            try:
                entry: Any = json.loads(line)
                iteration = int(entry["iteration"])
            except (ValueError, KeyError, TypeError):
                break
            of_evaluation = iteration == first and "total_loss" not in entry and not repeats
            if not line.endswith(b"\n") or (iteration >= first and not of_evaluation):
                break
            end += len(line)
    return end


def _end_of_events(path: Path, first: int) -> int:
    """Return where the first event begins that is of a later iteration, or broken."""
    content, end = path.read_bytes(), 0
    while end + _HEADER <= len(content):
        (length,) = struct.unpack_from("<Q", content, end)
        record = content[end + _HEADER : end + _HEADER + length]
        behind = end + _HEADER + length + _FOOTER
        if behind > len(content) or _step(record) >= max(first, 1):
            break
        end = behind
    return end


def _step(record: bytes) -> float:
    try:
        return int(Event.FromString(record).step)
    except DecodeError:
        return math.inf
