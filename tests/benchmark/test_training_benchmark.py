"""The benchmark of training: what counts as the same work, how ratios are formed."""

from maskrcnn_repro.benchmark import training

import pytest

from tests.helpers.commands import benchmark

SAMPLES = {
    "rpn/num_pos_anchors": 6.0,
    "rpn/num_neg_anchors": 250.0,
    "roi_head/num_fg_samples": 40.0,
    "roi_head/num_bg_samples": 472.0,
}


def facts(**changes):
    same = {"loss": 8.0, "samples": SAMPLES}
    return {name: same | changes.get(name, {}) for name in training.CONTESTANTS}


def test_ratios_to_both_peers_are_those_of_the_rounds():
    seconds = {"Detectron2": (6.0, 60.0), "Detectron2, bfloat16": (3.0, 30.0), "ours": (2.0, 20.0)}
    steps = {name: [{"wall": s, "cpu": 2 * s} for s in times] for name, times in seconds.items()}
    result = training.timings(steps, "ours")
    assert result["ratio to Detectron2"]["value"] == 3.0
    assert result["ratio to Detectron2, bfloat16"]["value"] == 1.5
    assert (result["median_seconds"], result["cpu_median"]) == (11.0, 22.0)


def test_other_work_is_refused():
    other = SAMPLES | {"roi_head/num_fg_samples": 41.0, "roi_head/num_bg_samples": 471.0}
    training.check_same(facts(**{"ours, bfloat16": {"loss": 8.07, "samples": other}}))
    with pytest.raises(training.BenchmarkError, match=r"loss of ours is 8\.07, .*differ by 0\.001"):
        training.check_same(facts(ours={"loss": 8.07}))
    with pytest.raises(training.BenchmarkError, match=r"ours, plain is nan"):
        training.check_same(facts(**{"ours, plain": {"loss": float("nan")}}))
    with pytest.raises(training.BenchmarkError, match=r"ours samples .*num_fg_samples': 41"):
        training.check_same(facts(ours={"samples": other}))


def test_the_table_has_a_line_for_each():
    steps = {name: [{"wall": 2.0, "cpu": 3.0}] * 2 for name in training.CONTESTANTS}
    result = {
        name: {"peak_memory": 2**30, "loss": 8.0} | training.timings(steps, name) for name in steps
    }
    assert (
        "ours                  2.00 s    2.00 s  3.00 s  1024 MiB       8.0000"
        in training.table(result)
    )


def test_too_few_rounds_are_refused(capsys):
    assert benchmark(["training", "--rounds", "4"]) == 2
    assert capsys.readouterr().err.startswith("Error: --rounds is 4; it must be at least 5")


@pytest.mark.slow
def test_five_rounds_of_a_small_image(capsys):
    words = ["--rounds", "5", "--size", "192", "256", "--threads", "1"]
    assert benchmark(["training", *words]) == 0
    assert "ours, bfloat16" in capsys.readouterr().out
