"""One-defect files: each is named, before the first iteration, by its code."""

from maskrcnn_repro.data.check.judge import by_severity
from maskrcnn_repro.data.check.scan import scan_coco
from maskrcnn_repro.data.check.table import USES

import pytest

from tests.data.check.corpus import CORPUS
from tests.data.check.spoiling import write


def gravest(scan):
    """Severity -> codes, whatever the file is used for."""
    return {k: [row.code for row in rows] for k, rows in by_severity(scan.findings, USES).items()}


def test_a_sound_file_has_neither_errors_nor_warnings(tmp_path):
    scan = scan_coco(*write(tmp_path))
    assert gravest(scan) == {"error": [], "warning": [], "note": ["class-rare"]}
    assert scan.objects.bounds[0].tolist() == [50, 32, 80, 62]
    # The runs and the text of one mask.
    assert scan.objects.bounds[1].tolist() == scan.objects.bounds[2].tolist() == [10, 20, 30, 30]


@pytest.mark.parametrize("name", CORPUS)
def test_each_defect_is_named(tmp_path, name):
    spoil, code = CORPUS[name]
    scan = scan_coco(*write(tmp_path, spoil))
    assert code in scan.findings
    sentence = scan.findings.sentence(code)
    assert sentence.startswith(f"{tmp_path / 'a.json'}: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
