"""A training that is killed at any moment goes on, and ends with the weights of the unbroken one."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import command_line, write_tiny_coco

ASKED = 60
OPTS = ["DATASETS.TEST", "()", "SOLVER.MAX_ITER", "4", "INPUT.CROP.ENABLED", "True"]


@pytest.mark.slow
def test_sixty_kills_lose_nothing(tmp_path):
    """Killed before each of 60 operations on files, a third of them those of the last save."""
    arguments = command_line(write_tiny_coco(tmp_path / "data"), tmp_path, opts=OPTS)
    paths = [str(ROOT), str(ROOT / "projects"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.kills", tmp_path, str(ASKED), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    print(counts)
    assert counts["failed_at"] == []
    assert counts["kills"] == counts["resumed"] == counts["equal"] == ASKED
