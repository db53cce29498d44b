"""Damaged files of results: records of runs, kept reports, curves, configs and notes of a run's folder."""

import json
import math

from maskrcnn_repro.checkpoint.folder import CheckpointFolder
from maskrcnn_repro.checkpoint.manifest import damage, read_manifest, sha256_of, write_manifest
from maskrcnn_repro.checkpoint.weight_file import read_outline
from maskrcnn_repro.config import load_config
from maskrcnn_repro.tables.report.curve_files import read_metrics
from maskrcnn_repro.tables.report.kept import json_text
from maskrcnn_repro.tables.report.kept_reading import read_report
from maskrcnn_repro.tables.report.model import Report
from maskrcnn_repro.tables.report.plain import from_json, to_json
from maskrcnn_repro.tables.report.text import as_markdown
from maskrcnn_repro.tables.runs.records import hashes_of_file, read_config, read_note, read_record

import pytest
import torch

from tests.fuzz.harness import Reader, fuzz, hypothesis, try_files
from tests.fuzz.mutations import damaged, json_files, st
from tests.helpers.kept_results import RESULTS

pytestmark = pytest.mark.slow
KEPT = RESULTS / "mini-double_size" / "embedded"


def try_trees(read, path, tree, examples):
    try_files(read, path, [json.dumps(tree).encode()], json_files(tree), examples)


def read_results(path):
    record = read_record(path)
    numbers = [
        v for tasks in record.metrics.values() for values in tasks.values() for v in values.values()
    ]
    assert all(v is None or (isinstance(v, float) and math.isfinite(v)) for v in numbers)
    assert record.seconds is None or math.isfinite(record.seconds)
    assert all(isinstance(text, str) for text in (record.backend, record.machine, record.weights))


def test_results(tmp_path):
    tree = json.loads((KEPT / "r50_c4" / "seed1.json").read_text())
    try_trees(read_results, tmp_path / "results.json", tree, 400)


def read_kept(path):
    report = read_report(path)
    tree = to_json(report)
    assert to_json(from_json(Report, json.loads(json_text(tree)))) == tree
    assert as_markdown(report).strip()


def test_kept_report(tmp_path):
    tree = json.loads((KEPT / "tables" / "2c.json").read_text())
    try_trees(read_kept, tmp_path / "2c.json", tree, 400)


def read_curves(path):
    by_name, _ = read_metrics(path)
    for points in by_name.values():
        assert all(isinstance(step, int) for step in points)
        assert all(math.isfinite(value) for value in points.values())


def test_curves(tmp_path):
    entry = {"iteration": 19, "total_loss": 1.5, "segm/AP": 30.5, "lr": 0.01}
    lines = st.lists(json_files(entry), max_size=4).map(b"\n".join)
    try_files(read_curves, tmp_path / "metrics.json", [], lines, 300)


def read_yaml(path):
    read_config(path)
    assert len({len(value) for value in hashes_of_file(path)}) == 1


def test_config_of_a_run(tmp_path):
    cfg_text = load_config("mini/mask_rcnn_fpn.yaml").SOLVER.dump().encode()
    try_files(read_yaml, tmp_path / "config.yaml", [cfg_text], damaged(cfg_text), 200)


def test_note_of_a_stage(tmp_path):
    note = {
        "experiment": "r50-c4",
        "backend": "embedded",
        "inputs": {"rpn/seed1": "ab"},
        "seconds": 1.5,
    }
    try_trees(lambda path: read_note(path.parent), tmp_path / "stage.json", note, 200)


# --- checkpoints of a folder


def read_newest(path):
    """The newest intact checkpoint is one of those there, and can be read."""
    folder = CheckpointFolder(path, read_outline)
    newest = folder.newest(resumable=False)
    assert newest is not None
    assert not damage(newest)
    assert "model" in read_outline(newest)
    assert isinstance(read_manifest(newest), dict)


def test_checkpoints_of_a_folder(tmp_path):
    for number in (9, 19):
        file = tmp_path / f"model_{number:07}.pth"
        torch.save({"model": {"a": torch.zeros(3)}, "iteration": number}, file)
        write_manifest(
            file, file.stat().st_size, sha256_of(file), {"iteration": number, "run": "x"}
        )
    (tmp_path / "last_checkpoint").write_text("model_0000019.pth")
    whole = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    manifest = json.loads(whole["model_0000019.json"])
    changes = st.tuples(st.just("model_0000019.json"), json_files(manifest))
    changes |= st.sampled_from(sorted(whole)).flatmap(
        lambda name: st.tuples(st.just(name), damaged(whole[name]))
    )

    with Reader(read_newest) as reader:

        @fuzz(300)
        @hypothesis.given(st.lists(changes, max_size=3))
        def run(files):
            for name, content in {**whole, **dict(files)}.items():
                (tmp_path / name).write_bytes(content)
            reader.check(tmp_path)

        run()
