"""A real table of level small, of two iterations on four images: backbone, RPN, proposals, detectors, report."""

import json

from maskrcnn_repro.tables.paper.derivation import BACKBONE
from maskrcnn_repro.tables.runs import stage

import pytest

from tests.helpers.commands import table
from tests.helpers.tiny_coco import write_tiny_coco

pytestmark = pytest.mark.slow

OVERLAY = """
DATASETS:
  CUSTOM: [["tiny", "{}", "{}"]]
  TRAIN: ("tiny",)
  TEST: ("tiny",)
MODEL:
  ROI_HEADS: {{NUM_CLASSES: 2}}
SOLVER:
  MAX_ITER: 2
  CHECKPOINT_PERIOD: 1
  IMS_PER_BATCH: 2
TEST:
  SHEET_IMAGES: 0
VERSION: 2
"""


def test_a_table_runs_from_its_backbone_to_its_report(tmp_path, monkeypatch, capsys):
    output, short = tmp_path / "output", tmp_path / "tiny.yaml"
    short.write_text(OVERLAY.format(*write_tiny_coco(tmp_path / "data")))
    usual = stage.overlays
    # The user's overlays leave a backbone as it is; this one is to end after two iterations, too.
    monkeypatch.setattr(
        stage, "overlays", lambda e, level: [short] if e.family == BACKBONE else usual(e, level)
    )
    command = ["2c", "--rows", "pool", "alignave", "--level", "small", "--overlay", str(short)]
    command += ["--output", str(output), "--jobs", "1", "--save-records", str(tmp_path / "kept")]
    assert table(command) == 0
    assert "5 stages, 5 to run" in capsys.readouterr().out
    backbone = output / "small" / "backbone_r50" / "seed1"
    weights = (output / "small-tiny").glob("*/seed1/config.yaml")
    assert all(f"WEIGHTS: {backbone}/backbone.pkl" in path.read_text() for path in weights)
    note = json.loads((output / "small-tiny/r50_c4/seed1/stage.json").read_text())
    kept = tmp_path / "kept" / "small-tiny"
    (record,) = kept.glob("*/backbone_r50/seed1.json")
    record = json.loads(record.read_text())
    assert (record["level"], record["kind"]) == ("small", "training")
    assert note["inputs"]["backbone_r50/seed1"] == record["record"]
    assert table(command) == 0
    assert "5 stages, 0 to run" in capsys.readouterr().out
