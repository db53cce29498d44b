"""Freed memory stays with a process that asks for it, unless its user has said otherwise."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ONCE = """
import resource
from maskrcnn_repro.utils.freed_memory import keep_freed_memory
import numpy as np
kept = {ask} and keep_freed_memory()
def faults():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(2**22)  # 32 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin
faults()
print(kept, faults())
"""


def faults_of(ask, **environment):
    done = subprocess.run(
        [sys.executable, "-c", ONCE.format(ask=ask)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), **environment},
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of glibc")
def test_pages_are_cleared_once():
    without, with_it = faults_of(False), faults_of(True)
    # Ten arrays of 8,192 pages of 4 KiB each; huge pages make it fewer.
    assert not without[0]
    assert with_it[0]
    assert with_it[1] < max(without[1] / 10, 20)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of glibc")
def test_what_the_user_has_set_stays():
    assert not faults_of(True, MALLOC_TRIM_THRESHOLD_="131072")[0]
