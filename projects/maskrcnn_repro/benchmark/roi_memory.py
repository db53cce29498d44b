"""Peak memory of the RoI operations, measured in a process of its own.

Run as ``python -m maskrcnn_repro.benchmark.roi_memory`` by :mod:`maskrcnn_repro.benchmark.roi_ops`. Arguments
are the number of threads and indices of scenes; a JSON object of bytes is printed: by scene, by pooling, by
"forward" or "step".
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from maskrcnn_repro.benchmark.roi_scenes import OPERATIONS, PAPER, Scene, poolings

import torch

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes malloc return freed tensors to the system at once, or the peak would miss memory that is reused."""


def can_measure() -> bool:
    """Tell whether the system reports the peak memory of a process and can reset it (Linux)."""
    return STATUS.exists() and RESET.exists()


def extra_bytes(function: Callable[[], None]) -> int:
    """Return by how much a call raises the resident memory at its peak; inputs are not counted."""
    # 5 resets the peak (VmHWM) to the current size: see proc(5).
    RESET.write_text("5")
    before = _kilobytes("VmRSS")
    function()
    return (_kilobytes("VmHWM") - before) * 1024


def peaks(scene: Scene) -> dict[str, dict[str, int]]:
    """Return the peak memory of all operations on a scene, in bytes."""
    results = {}
    for name, pooling in poolings(scene, OPERATIONS, ("channels-last", "contiguous")).items():
        pooling.forward()  # libraries allocate memory of their own on the first call
        results[name] = {"forward": extra_bytes(pooling.forward), "step": extra_bytes(pooling.step)}
    return results


def _kilobytes(field: str) -> int:
    line = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert line is not None, field
    return int(line[1])


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    scenes = [PAPER[int(index)] for index in sys.argv[2:]]
    print(json.dumps({scene.name: peaks(scene) for scene in scenes}))
