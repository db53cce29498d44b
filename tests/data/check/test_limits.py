"""Outlines and images whose numbers ask for gigabytes, and files of many records: memory and time of the check."""

import os
import subprocess
import sys
import tracemalloc

from maskrcnn_repro.data.check.scan import scan_coco

import pytest

from tests.data.check.corpus import CORPUS
from tests.data.check.spoiling import write
from tests.helpers.paths import ROOT

HUNGRY = (
    *("polygon NaN", "polygon infinite", "polygon 1e9", "polygon 1745227", "polygon of 400 digits"),
    *("polygon of 400 digits that cancel", "polygon NaN and 400 digits"),
    *("RLE of 60000 x 60000", "RLE text of 60000 x 60000", "RLE counts wrap around"),
    *("image of 60000 x 60000", "177 million pixels", "RLE text of long numbers", "box 1e30"),
)


@pytest.mark.parametrize("name", HUNGRY)
def test_limits_come_from_the_record_before_anything_is_decoded(tmp_path, name):
    spoil, code = CORPUS[name]
    path, images = write(tmp_path, spoil)
    tracemalloc.start()
    try:
        scan = scan_coco(path, images)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert code in scan.findings
    assert peak < 2e6


@pytest.mark.slow
def test_the_whole_corpus_in_four_gigabytes_of_addresses(tmp_path):
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from pathlib import Path
from maskrcnn_repro.data.check.scan import scan_coco
from tests.data.check.corpus import CORPUS
from tests.data.check.spoiling import write
for number, (spoil, code) in enumerate(CORPUS.values()):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    assert code in scan_coco(*write(folder, spoil)).findings
print(len(CORPUS), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, kilobytes = map(int, done.stdout.split())
    assert count == len(CORPUS)
    assert kilobytes < 1.5e6
