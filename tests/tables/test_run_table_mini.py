"""Real mini tables of two iterations on four images, with a kill in between."""

import json
import os
import signal
import subprocess
import sys
import time

from maskrcnn_repro import _location

import pytest
import torch

from tests.helpers.commands import table as main_table
from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import write_tiny_coco

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    json_file, images = write_tiny_coco(tmp_path_factory.mktemp("data"))
    pairs = {
        "DATASETS.CUSTOM": [["tiny", str(json_file), str(images)]],
        "DATASETS.TRAIN": ("tiny",),
        "DATASETS.TEST": ("tiny",),
        "MODEL.ROI_HEADS.NUM_CLASSES": 2,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "SOLVER.IMS_PER_BATCH": 2,
        "TEST.SHEET_IMAGES": 0,
    }
    return [word for key, value in pairs.items() for word in (key, str(value))]


def tables_of(output):
    (folder,) = output.glob("mini-trial-*/tables")
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_a_table_runs_from_its_rpn_to_its_report_and_is_then_done(overrides, tmp_path, capsys):
    output = tmp_path / "output"
    words = ["2c", "class-agnostic", "--rows", "pool", "alignave", "agnostic"]
    command = [*words, "--output", str(output), "--jobs", "1", "--", *overrides]
    assert main_table(command) == 0
    printed = capsys.readouterr().out
    assert "5 stages, 5 to run" in printed
    tables = tables_of(output)
    assert set(tables) == {"2c", "class-agnostic"}
    rows = {row["id"]: row for table in tables.values() for row in table["rows"]}
    # Files hold all rows, those that were not run, too.
    there = [name for name, row in rows.items() if row["cells"]["AP"]["ours"]]
    assert sorted(there) == ["T2c.alignave", "T2c.pool", "T2x.agnostic", "T2x.specific"]
    assert all(rows[name]["cells"]["AP"]["ours"]["seeds"] == [1] for name in there)
    claims = {claim["id"]: claim for table in tables.values() for claim in table["claims"]}
    assert claims["align-ave-over-pool"]["interval"]["images"] == 4
    assert claims["warp-like-pool"]["outcome"] == "missing"
    assert len(list(output.glob("*/*/seed1/resampled_segm.npz"))) == 3
    assert main_table(command) == 0
    assert "5 stages, 0 to run" in capsys.readouterr().out


def test_a_fresh_checkout_trains_one_seed_more_than_is_kept(
    overrides, tmp_path, capsys, monkeypatch
):
    results = tmp_path / "results"
    monkeypatch.setattr(_location, "RESULTS", results)
    words = ["2c", "--rows", "pool", "alignave", "--jobs", "1"]
    first = [*words, "--output", str(tmp_path / "first"), "--save-records", str(results)]
    assert main_table([*first, "--", *overrides]) == 0
    (kept,) = results.glob("mini-trial-*/*")
    assert (kept / "pictures/tiny.json").is_file()
    assert (kept / "r50_c4/curves_seed1.json").is_file()
    capsys.readouterr()
    second = [*words, "--kept", "--seeds", "2", "--output", str(tmp_path / "second")]
    assert main_table([*second, "--", *overrides]) == 0
    printed = capsys.readouterr().out
    assert "6 stages, 4 to run" in printed
    assert "rpn_r50_c4 seed 1 has the weights of its kept record" in printed
    assert "and 2 records kept in results/mini-trial-" in printed
    assert "4 records (2 of them kept with the code)" in printed
    trained = {
        path.parent.name for path in (tmp_path / "second").glob("*/r50_c4*/seed*/results.json")
    }
    assert trained == {"seed2"}
    cells = [row["cells"]["AP"] for row in tables_of(tmp_path / "second")["2c"]["rows"]]
    seeds = [cell["ours"]["seeds"] for cell in cells if cell["ours"]]
    assert seeds == [[1, 2], [1, 2]]


def table_command(output, overrides):
    command = [sys.executable, str(ROOT / "scripts/run_table.py"), "2c", "--rows", "alignave"]
    return [*command, "--output", str(output), "--jobs", "1", "--", *overrides]


def weights_of(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def test_a_killed_run_ends_with_the_numbers_of_an_unbroken_one(overrides, tmp_path):
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    longer = [*overrides, "SOLVER.MAX_ITER", "60"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = table_command(killed, longer)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not (checkpoints := list(killed.glob("*/r50_c4/seed1/model_*.pth"))):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    folder = checkpoints[0].parent
    assert not (folder / "results.json").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 stages, 1 to run" in done.stdout
    assert "Resuming at iteration" in (folder / "console.txt").read_text()
    subprocess.run(
        table_command(unbroken, longer), env=environment, stdout=subprocess.DEVNULL, check=True
    )
    other = unbroken / folder.relative_to(killed)
    ours, theirs = (
        json.loads((run_folder / "results.json").read_text()) for run_folder in (folder, other)
    )
    assert ours["iterations"] == theirs["iterations"] == 60
    assert ours["metrics"] == theirs["metrics"]
    torch.testing.assert_close(weights_of(folder), weights_of(other), rtol=0, atol=0)


def test_a_plug_in_s_table_runs_with_the_paper_s_baseline(overrides, tmp_path, monkeypatch, capsys):
    plugin = ROOT / "examples" / "boundary_plugin"
    monkeypatch.setenv("PYTHONPATH", str(plugin))
    monkeypatch.syspath_prepend(str(plugin))
    output = tmp_path / "output"
    rows = plugin / "boundary_plugin" / "tables.yaml"
    words = ["--output", str(output), "--jobs", "1", "--", *overrides]
    assert main_table([str(rows), *words]) == 0
    printed = capsys.readouterr().out
    assert "4 stages, 4 to run" in printed
    assert "boundary-sharper" in printed
    (report,) = tables_of(output).values()
    assert [bool(row["cells"]["AP"]["ours"]) for row in report["rows"]] == [True, True]
    assert report["claims"][0]["interval"]["images"] == 4
    plugins = json.loads(next(output.glob("*/boundary_r50_fpn/seed1/results.json")).read_text())
    assert "boundary_plugin" in json.dumps(plugins)
