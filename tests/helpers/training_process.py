"""A training in processes of its own, to be stopped, interrupted and killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import command_line

LONG = ["DATASETS.TEST", "()", "SOLVER.CHECKPOINT_PERIOD", "99999", "SOLVER.MAX_ITER", "99999"]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@contextmanager
def training(data, folder, *options, opts=(), launcher=(), interrupts=signal.SIG_DFL):
    """Start a training in a session of its own; what is left of it at the end of the block is killed.

    ``stderr`` and ``stdout`` of the process go into ``folder``'s neighbours of these names. A shell ignores
    interrupts in its background jobs, the tests among them: what the training does with them is ``interrupts``.
    """
    command = command_line(data, folder, *options, opts=[*LONG, *opts])
    folders = [str(ROOT / "projects"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}
    with (
        open(folder.with_name("stdout"), "w") as out,
        open(folder.with_name("stderr"), "w") as err,
        subprocess.Popen(
            [sys.executable, *launcher, str(ROOT / "train_net.py"), *command],
            env={**os.environ, **variables},
            cwd=ROOT,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, interrupts),  # noqa: PLW1509 - no threads here
        ) as process,
    ):
        try:
            yield process
        finally:
            for pid in family(process.pid):
                os.kill(pid, 9)
            process.kill()


def wait_for(condition, process=None, seconds=120):
    """Wait until ``condition()`` is true; fails if it does not, or ``process`` ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        assert process is None or process.poll() is None, f"it ended with {process.returncode}"
        time.sleep(0.05)


def trains(folder):
    """Tell whether a training in ``folder`` has come to its loop and written numbers."""
    log = folder / "metrics.json"
    return log.is_file() and log.stat().st_size > 0


def family(pid):
    """Process ids of the children, grandchildren … of a process that still run (Linux)."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    young, old = {pid}, set()
    while young:
        old |= young
        young = {child for child, parent in parents.items() if parent in young} - old
    return sorted(old - {pid})


def ranks(pid):
    """Process ids of a launcher's training processes, by rank (Linux)."""
    children = {}
    for child in family(pid):
        try:
            line = Path(f"/proc/{child}/cmdline").read_text()
            parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2].split()[1])
        except OSError:
            continue
        if parent == pid and ("spawn_main" in line or "train_net.py" in line):
            children[child] = line
    return sorted(children)
