"""Trainings that are killed (kill -9) at chosen moments: before each operation on a file, or half-way through a save.

Run as a program, so that all imports are done once: each training is a fork of it.
"""

import io
import json
import os
import signal
import sys
from pathlib import Path

from maskrcnn_repro.engine.main import main

import torch

WRITING = os.O_WRONLY | os.O_RDWR
EVENTS = ("os.rename", "os.remove", "os.truncate")


class Moments:
    """Counts the operations on files of a folder, and kills the process at one of them.

    Args:
        folder: of the training.
        deadly: number of the operation before which the process dies; -1 for none.
    """

    def __init__(self, folder, deadly=-1):
        self.folder, self.deadly, self.count = str(folder), deadly, 0
        self.save, torch.save = torch.save, self.save_in_halves
        sys.addaudithook(self.audit)

    def audit(self, event, arguments):
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if (writes or event in EVENTS) and str(arguments[0]).startswith(self.folder):
            self.pass_by()

    def pass_by(self):
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def save_in_halves(self, content, path):
        buffer = io.BytesIO()
        self.save(content, buffer)
        data = buffer.getvalue()
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            self.pass_by()
            file.write(data[len(data) // 2 :])


def train(arguments, folder, deadly=-1, note=None):
    """Train in a forked process; returns its exit status, minus the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    moments = Moments(folder, deadly)
    status = main(arguments)
    if note:
        note.write_text(str(moments.count))
    os._exit(status)


def moments(total, asked):
    """Numbers of the operations to die at: the last third of those asked for are the training's last ones."""
    late = asked // 3
    early = total - late
    return sorted(
        {i * early // (asked - late) for i in range(asked - late)} | {*range(early, total)}
    )


def state(folder):
    content = torch.load(folder / "model_final.pth")
    return content["model"], content["trainer"]["optimizer"]["state"]


def equal(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    return torch.equal(first, second)


def trials(folder, arguments, asked):
    """Kill, resume and compare; returns the count of each outcome."""
    whole = folder / "whole"
    note = folder / "count.txt"
    assert train([*arguments, "OUTPUT_DIR", str(whole)], whole, note=note) == 0
    total = int(note.read_text())
    chosen = moments(total, asked)
    counts = {"operations": total, "kills": 0, "resumed": 0, "equal": 0, "failed_at": []}
    for moment in chosen:
        run = folder / f"killed{moment}"
        line = [*arguments, "OUTPUT_DIR", str(run)]
        counts["kills"] += train(line, run, moment) == -signal.SIGKILL
        resumed = train(["--resume", *line], run) == 0
        same = resumed and all(equal(*pair) for pair in zip(state(run), state(whole), strict=True))
        counts["resumed"] += resumed
        counts["equal"] += same
        counts["failed_at"] += [] if same else [moment]
    return counts


if __name__ == "__main__":
    print(json.dumps(trials(Path(sys.argv[1]), sys.argv[3:], int(sys.argv[2]))))
