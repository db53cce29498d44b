"""Memory, shared memory, processors, disk and the folders of data and output."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from maskrcnn_cli.doctor.finding import Finding

GIB = 2**30
SHARED_MEMORY = Path("/dev/shm")
COCO = ("annotations/instances_train2017.json", "annotations/instances_val2017.json")
CGROUP = Path("/sys/fs/cgroup")


def machine_findings(data: Path | None, output: Path) -> Iterator[Finding]:
    """Yield what there is to say of the machine and of the two folders."""
    yield processor_finding(len(_processors()), _quota(), os.environ.get("OMP_NUM_THREADS"))
    yield memory_finding(_memory())
    if SHARED_MEMORY.is_dir():
        yield shared_memory_finding(shutil.disk_usage(SHARED_MEMORY).free)
    yield folder_finding("output", output)
    yield folder_finding("temporary", Path(tempfile.gettempdir()))
    yield data_finding(data)


def processor_finding(count: int, quota: float | None, threads: str | None) -> Finding:
    """Judge the processors.

    Args:
        count: that this process may run on.
        quota: of them, by the control group's limit, or None.
        threads: value of ``OMP_NUM_THREADS``.
    """
    text = f"{count} processors" + (f", limited to the time of {quota:g}" if quota else "")
    text += f", OMP_NUM_THREADS={threads}" if threads else ""
    if quota and quota < count and not threads:
        return Finding(
            "warning",
            "processors",
            text,
            f"OMP_NUM_THREADS={max(1, int(quota))}: more threads than processors wait for each other",
        )
    return Finding("fine", "processors", text)


def memory_finding(free: int | None) -> Finding:
    """Judge the free memory, in bytes."""
    if free is None:
        return Finding("note", "memory", "unknown on this system")
    text = f"{free / GIB:.1f} GiB free"
    if free < 2 * GIB:
        remedy = "close other programs; the demo takes 1.5 GiB, a training at full size 6 GiB"
        return Finding("warning", "memory", text, remedy)
    return Finding("fine", "memory", text)


def shared_memory_finding(free: int) -> Finding:
    """Judge the free bytes of ``/dev/shm``, through which data-loader workers hand over images."""
    text = f"{free / GIB:.2f} GiB free in {SHARED_MEMORY}"
    if free < GIB:
        remedy = "docker run --shm-size 8g (or --ipc host), or DATALOADER.NUM_WORKERS 0"
        return Finding("warning", "shared memory", text, remedy)
    return Finding("fine", "shared memory", text)


def folder_finding(subject: str, folder: Path) -> Finding:
    """Judge a folder that is written to, or the nearest above it that exists."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        return Finding("error", subject, f"{there} is no folder", "name another folder")
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        remedy = "name a folder that may be written to, or make room"
        return Finding("error", subject, f"{there}: {error.strerror or error}", remedy)
    free = shutil.disk_usage(there).free
    text = f"{there}, {free / GIB:.1f} GiB free"
    if free < GIB:
        remedy = "make room: the demo writes 60 MB, a full-size run 350 MB a checkpoint"
        return Finding("warning", subject, text, remedy)
    return Finding("fine", subject, text)


def data_finding(given: Path | None) -> Finding:
    """Say whether COCO lies where configs of full size look for it."""
    root = given or Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
    if given is not None and not given.is_dir():
        return Finding("error", "data", f"{given} is no folder", "name the folder that holds coco/")
    missing = [name for name in COCO if not (root / "coco" / name).is_file()]
    if not missing:
        return Finding("fine", "data", f"COCO 2017 in {root / 'coco'}")
    text = f"no COCO 2017 in {root / 'coco'}: only configs of full size need it"
    remedy = (
        "DETECTRON2_DATASETS=FOLDER names the folder that holds coco/annotations and coco/train2017"
    )
    return Finding("note", "data", text, remedy)


def _processors() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota() -> float | None:
    """Return how many processors' time the control group allows, or None."""
    try:
        most, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        return None


def _memory() -> int | None:
    """Return the free bytes of memory, by the system and by the control group's limit; None if unknown."""
    free = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
        most = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        free += [] if most == "max" else [int(most) - used]
    except (OSError, ValueError, IndexError):
        pass
    return min(free, default=None)
