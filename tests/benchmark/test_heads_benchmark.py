"""The benchmark of heads: what is counted, by hand; what is refused; the table."""

from argparse import Namespace

from maskrcnn_cli.dispatch import COMMANDS
from maskrcnn_repro.benchmark import heads
from maskrcnn_repro.benchmark.heads import Head
from maskrcnn_repro.benchmark.heads_worker import Bench, HeadTask, batch
from maskrcnn_repro.commands.heads import chosen_rows
from maskrcnn_repro.config import load_config
from maskrcnn_repro.tables.paper.additions import register_table, tables_beside
from maskrcnn_repro.tables.paper.numbers import find_table

import pytest

from tests.helpers.commands import benchmark
from tests.helpers.paths import ROOT

FAMILY = ROOT / "projects/maskrcnn_family"
SOURCE = '''"""A docstring
of two lines."""

import os  # code


def f():  # code
    """A docstring."""
    # A comment.
    text = """code

    code"""
    return text
'''


def test_lines_of_code_are_neither_blank_nor_comments_nor_docstrings(tmp_path):
    file = tmp_path / "head.py"
    file.write_text(SOURCE)
    assert heads.code_lines(file) == 5
    # A blank line within a text is one of the file all the same.
    assert heads.sources([]) == []
    names = {path.name for path in heads.sources(["maskrcnn_family.cascade"])}
    assert names == {"__init__.py", "head.py", "export.py"}


def test_the_baseline_comes_first_and_each_experiment_once():
    rows = chosen_rows([find_table("2c")], ["alignave", "pool"])
    assert [row.id for row in rows] == ["T2c.pool", "T2c.alignave"]


@pytest.mark.usefixtures("nothing_added")
def test_rows_of_a_plug_in_are_those_of_all_its_tables_that_train():
    names = register_table(FAMILY / "tables.yaml")
    assert tables_beside("densepose") == names == ("family", "densepose", "family_seconds")
    assert tables_beside("1") == ()
    rows = chosen_rows([*map(find_table, names)], ["cascade", "densepose.charts", "iuv", "panet"])
    # The charts alone, and trainings of fewer iterations, are of the same models.
    assert [row.id for row in rows] == [
        "family.plain",
        "family.cascade",
        "family.panet",
        "densepose.iuv",
    ]


def test_people_have_surfaces_to_learn_from():
    cfg = load_config(str(FAMILY / "densepose/config.yaml"), ["MODEL.DEVICE", "cpu"])
    (image,) = batch(cfg, 96, 128)
    surfaces = image["instances"].gt_densepose
    assert (len(surfaces), surfaces.points.shape) == (8, (8, 100, 5))
    assert surfaces.annotated.all()


def timing(seconds):
    return {
        "median_seconds": seconds,
        "ratio": {"value": seconds / 2, "low": seconds / 2, "high": seconds / 2},
        "peak_memory": 2**30,
    }


def result(seconds):
    return {
        "parameters": 43_749_281,
        "multiply_adds": 183_478_067_200,
        "image": timing(seconds),
        "step": timing(2 * seconds),
        "two_iterations": [{"seconds": 9.0, "loss": 1.0}, {"seconds": 8.0, "loss": 1.0}],
        "full_size_peak_memory": 2**31,
        "lines": 12,
    }


def test_the_table_has_a_line_for_each_and_what_is_published():
    rows = [Head("plain", ("a.yaml",)), Head("new", ("b.yaml",), published="3 s (a source)")]
    text = heads.table(rows, {"plain": result(2.0), "new": result(3.0)})
    line = next(line for line in text.splitlines() if line.startswith("new "))
    assert "43.75 M" in line
    assert "183.5 G" in line
    assert "3.00 s   1.50 [1.50, 1.50]     1024 MiB  6.00 s" in line
    assert line.endswith("8.0 s              2048 MiB  12")
    assert text.splitlines()[-1] == "new, published: 3 s (a source)"


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_few_heads_live_beside_the_baseline(count, monkeypatch, capsys):
    groups = []

    def measure(group, args):
        groups.append([head.name for head in group])
        return {head.name: result(2.0) for head in group}

    monkeypatch.setattr(heads, "measure", measure)
    names = [f"head{number}" for number in range(count)]
    rows = [Head(name, ("a.yaml",)) for name in ("plain", *names)]
    heads.compare(rows, Namespace(rounds=5, threads=1, quick=True, output=None))
    assert [names[begin : begin + 3] for begin in range(0, max(count, 1), 3)] == [
        group[1:] for group in groups
    ]
    assert {group[0] for group in groups} == {"plain"}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "43.75 M" in line] == ["plain", *names]


def test_other_work_and_losses_that_are_not_finite_are_refused():
    heads.check_detections({"plain": 100, "new": 100})
    with pytest.raises(heads.BenchmarkError, match=r"numbers of masks: plain 100, new 3\.$"):
        heads.check_detections({"plain": 100, "new": 3})
    with pytest.raises(heads.BenchmarkError, match=r"losses of new at full size are \[1\.0, nan\]"):
        heads.check_losses({"new": [{"loss": 1.0}, {"loss": float("nan")}]})


def test_mistakes_of_the_command_line(capsys):
    assert benchmark(["heads", "all"]) == 2
    assert "all stands for the tables 1, 2a, " in capsys.readouterr().err
    assert benchmark(["heads", "2c", "--rows", "nothing"]) == 2
    assert "Row 'nothing' does not exist" in capsys.readouterr().err
    assert benchmark(["heads", "2c", "--rows", "pool", "--rounds", "4"]) == 2
    assert capsys.readouterr().err.startswith("Error: --rounds is 4; it must be at least 5")
    assert COMMANDS["benchmark"].arguments(["heads"]).rounds == 5


@pytest.mark.slow
def test_what_heads_add_by_hand():
    configs = {"plain": ["coco/r50_fpn.yaml"]}
    configs |= {name: [str(FAMILY / name / "config.yaml")] for name in ("cascade", "point_rend")}
    counts = {
        name: Bench(HeadTask(name, configs, 320, 448, 2, 128)).count()["multiply_adds"]
        for name in configs
    }
    # On 1000 RoIs: 7x7x256 to 1024, 1024 to 1024, 81 scores; then 80 boxes, or one of each of three stages.
    hidden = 7 * 7 * 256 * 1024 + 1024 * 1024 + 1024 * 81
    plain, cascade = hidden + 1024 * 320, 3 * (hidden + 1024 * 4)
    assert counts["cascade"] - counts["plain"] == 1000 * (cascade - plain)
    # On 100 RoIs: four 3x3 convolutions, a 2x2 deconvolution, 80 masks; or a coarse mask of 7x7 and four times 784 points.
    convolutions = 4 * 14 * 14 * 256 * 256 * 9 + 14 * 14 * 256 * 256 * 4 + 28 * 28 * 256 * 80
    coarse = 7 * 7 * 256 * 256 * 4 + 7 * 7 * 256 * 1024 + 1024 * 1024 + 1024 * 80 * 7 * 7
    points = 4 * 784 * (3 * (256 + 80) * 256 + (256 + 80) * 80)
    assert counts["point_rend"] - counts["plain"] == 100 * (coarse + points - convolutions)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_added")
def test_two_heads_at_once(capsys, tmp_path):
    words = [str(FAMILY / "tables.yaml"), "--rows", "cascade", "--quick", "--threads", "1"]
    assert benchmark(["heads", *words, "--output", str(tmp_path / "heads.json")]) == 0
    assert "Cascade Mask R-CNN  71.39 M       211.1 G" in capsys.readouterr().out
