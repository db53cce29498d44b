"""Python code asked in a process of its own, which may hang or crash without taking the asker along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from maskrcnn_cli.location import PACKAGE

SECONDS = 120
"""After this long a probe counts as hanging: a first import from a slow disk takes half a minute."""


class ProbeError(Exception):
    """What stopped a probe, in one line.

    Attributes:
        remedy: of what has nothing to do with the thing that is probed; empty if it has.
    """

    remedy = ""


class LateError(ProbeError):
    """A probe did not end in time."""

    remedy = "try again when the machine is less busy"


def ask(code: str, seconds: float = SECONDS) -> Mapping[str, Any]:
    """Return the JSON object that ``code`` prints as its last line.

    Raises:
        ProbeError: it raised, crashed, hung or printed something else.
    """
    search = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, "PYTHONPATH": search, "PYTHONIOENCODING": "utf-8"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LateError(f"no answer within {seconds:g} seconds") from None
    if done.returncode < 0:
        raise ProbeError(f"the process was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise ProbeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise ProbeError(f"an unexpected answer: {done.stdout[:200]!r}") from None
    if not isinstance(answer, dict):
        raise ProbeError(f"an unexpected answer: {answer!r}")
    return answer
