"""The check of a GPU, on a CPU at tiny sizes: what it tells and refuses; its times are no test."""

import importlib.util
import json

from maskrcnn_repro.benchmark import gpu, gpu_models

import pytest

from tests.helpers.commands import benchmark

TINY = ["gpu", "--device", "cpu", "--tiny", "--rounds", "5"]
HAS_TRITON = importlib.util.find_spec("triton") is not None


def result(*seconds, memory=2**20, operations=4e9):
    measured = [{"seconds": each, "peak_memory": memory} for each in seconds]
    return {"requests": {"infer": measured}, "operations": {"infer": operations}, "detections": 9}


def test_the_table_by_hand():
    """Medians of 0.5 s and 1 s: twice as fast; 4 GFLOP in 0.5 s are 8 % of 100 GFLOP/s."""
    results = {"ours float32": result(0.5, 0.5), "torchvision float32": result(1.0, 1.0)}
    ours, theirs = gpu_models.table(results, rate=100e9, batch=2).splitlines()[-2:]
    assert ours.split()[:5] == ["infer", "ours", "float32", "2.00", "2.00"]
    assert ours.split()[-3:] == ["1", "MiB", "8.0%"]
    assert theirs.split() == ["infer", "torchvision", "float32", "1.00", "1", "MiB", "4.0%"]


def test_other_numbers_of_detections_are_an_error():
    results = {"ours float32": result(1.0), "torchvision float32": result(1.0) | {"detections": 8}}
    with pytest.raises(gpu.BenchmarkError, match='"torchvision float32": 8'):
        gpu_models._check_same_work(results)


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "4"], "--rounds is 4; it must be at least 5"),
        (["--detectron2", "nowhere"], "--detectron2 nowhere: there is no folder detectron2 in it"),
        (["--device", "cuda:99"], "--device cuda:99: torch sees no such GPU"),
    ],
)
def test_what_cannot_be_measured_is_told(arguments, message, capsys):
    assert benchmark([*TINY, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
def test_a_python_that_cannot_be_started_is_told_before_the_kernels_are_checked(tmp_path, capsys):
    (tmp_path / "detectron2").mkdir()
    words = ["--detectron2", str(tmp_path), "--python", "/no/such/python"]
    assert benchmark([*TINY, *words]) == 2
    printed = capsys.readouterr()
    assert "Cannot start /no/such/python: No such file" in printed.err
    assert printed.out == ""


def test_a_cpu_needs_tiny(capsys):
    assert benchmark(["gpu", "--device", "cpu"]) == 2
    assert "--device cpu needs --tiny" in capsys.readouterr().err


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
@pytest.mark.slow
def test_it_runs_on_a_cpu(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # restored afterwards: the check sets it
    assert benchmark([*TINY, "--output", str(tmp_path / "gpu.json")]) == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    # Five operations, two layouts, two dtypes, two directions; pasting.
    assert len(report["kernels"]) == 41
    assert all(check["passed"] for check in report["kernels"])
    assert set(report["models"]) == {
        f"{name} {precision}"
        for name in ("ours", "torchvision")
        for precision in ("float32", "bfloat16")
    }
    assert "of the bf16 rate" in capsys.readouterr().out
