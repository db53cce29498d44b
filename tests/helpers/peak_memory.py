"""Peak memory of reading each malicious file, in a process of its own that may have little more than it has.

``python -m tests.helpers.peak_memory FOLDER`` prints a JSON object: case to [message, peak in MiB above the start].
"""

import json
import os
import resource
import sys
from pathlib import Path

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.errors import CheckpointError

from torch import nn

from tests.helpers.malicious_files import CASES

ALLOWED = 64 << 20
"""Bytes of addresses that a process may take beyond those that it begins with."""


def status(key):
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{key}:"))


def message(path):
    try:
        Checkpointer(nn.ModuleDict({"body": nn.Linear(3, 4)}), "").load(path)
    except CheckpointError as error:
        return str(error)
    return "NOT REFUSED"


def measure(path):
    """Read a file in a fork of this process."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        limit = status("VmSize") + ALLOWED
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = status("VmRSS")
        try:
            text = message(path)
            os.write(send, json.dumps([text, (status("VmHWM") - before) / 2**20]).encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return json.loads(content) if content else ["NOT REFUSED: the process died", 0]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    # Written here, because writing a bomb takes the memory that reading it must not take.
    paths = {name: write(folder) for name, write in CASES.items()}
    print(json.dumps({name: measure(path) for name, path in paths.items()}))
