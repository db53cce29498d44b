"""Tables of plug-ins plan, run and report like the paper's, and change nothing of the paper's."""

import json

from maskrcnn_cli import main
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper import claims, experiments, numbers
from maskrcnn_repro.tables.paper.additions import (
    claims_beside,
    experiments_apart,
    named_tables,
    register_table,
)
from maskrcnn_repro.tables.report.explanations import explanation
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.stage import Setting

import pytest

from tests.helpers.paths import ROOT

PLUGIN = ROOT / "examples" / "boundary_plugin"
FILE = PLUGIN / "boundary_plugin" / "tables.yaml"
TABLE = """
tables:
  mine:
    title: mine
    columns: [AP, AP50]
    baseline: mine.plain
    rows:
      mine.plain: {name: plain, experiment: r50_fpn, metrics: {AP: 33.5}}
      mine.other: {name: other, experiment: r101_fpn, metrics: {AP: 35.75}}
claims:
  mine-better:
    statement: deeper is better
    rows: [[mine.other, mine.plain]]
    quantity: AP
    direction: ">"
"""


pytestmark = pytest.mark.usefixtures("nothing_added")


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "rows.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The plug-in as an installed package: its files, and the entry point that its pyproject.toml has."""
    info = tmp_path / "boundary_plugin-0.1.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: boundary-plugin\nVersion: 0.1\n"
    )
    text = PLUGIN.joinpath("pyproject.toml").read_text(encoding="utf-8")
    assert (
        '[project.entry-points."maskrcnn_repro.tables"]\nboundary = "boundary_plugin.tables"'
        in text
    )
    info.joinpath("entry_points.txt").write_text(
        "[maskrcnn_repro.tables]\nboundary = boundary_plugin.tables\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(PLUGIN))


def test_published_gaps_follow_where_there_are_numbers(write):
    assert register_table(write(TABLE)) == ("mine",)
    row = numbers.find_row("mine.other")
    assert dict(row.metrics) == {"AP": 35.75, "AP50": None}
    assert claims.all_claims()["mine-better"].paper_gap == 2.2  # 35.75 - 33.5, one decimal
    register_table(write(TABLE))  # again: nothing
    assert claims_beside("mine-better") == ("mine-better",)
    assert len(claims_beside("fcn-over-mlp")) == 17
    assert "mine" not in numbers.tables()
    assert "mine-better" not in claims.claims()


EXPLANATION = """
explanations:
  mini:
    mine-better: {outcome: fails, because: "Few seeds.", would_tell: "Six."}
"""


def test_a_file_explains_its_claims(write):
    register_table(write(TABLE + EXPLANATION))
    for _ in range(2):
        assert explanation("mine-better", "fails", "mini").because == "Few seeds."
    assert explanation("mine-better", "holds", "mini") is None
    assert explanation("mine-better", "fails", "paper") is None


def test_an_explanation_of_no_claim_is_told(write):
    register_table(write(TABLE + EXPLANATION.replace("mine-better", "mine-worse")))
    with pytest.raises(TableError, match="Claim 'mine-worse' does not exist"):
        explanation("mine-better", "fails", "mini")


def test_the_example_shares_the_paper_s_baseline():
    register_table(FILE)
    table, every = numbers.find_table("boundary"), experiments.all_experiments()
    own = every["boundary_r50_fpn"]
    assert (own.baseline, own.family, own.proposals) == ("r50_fpn", "fpn", "rpn_r50_fpn")
    assert "MODEL.ROI_MASK_HEAD.LOSS" in own.varies
    assert claims.all_claims()["boundary-sharper"].paper_gap is None
    names = [row.experiment for row in table.rows.values()]
    keys = [stage.key for stage in plan(names, [1], Setting("mini"), every).stages]
    rpn = "rpn_r50_fpn/seed1"
    assert keys == [rpn, f"{rpn}/proposals", "r50_fpn/seed1", "boundary_r50_fpn/seed1"]
    paper = plan(["r50_fpn"], [1], Setting("mini"), experiments.experiments()).stages
    assert keys[:3] == [stage.key for stage in paper]


def test_an_own_overlay_lies_over_the_level_s(write, tmp_path):
    (tmp_path / "own.yaml").write_text("_BASE_: coco/r50_fpn.yaml\nVERSION: 2\n")
    (tmp_path / "small.yaml").write_text("SOLVER: {MAX_ITER: 7}\nVERSION: 2\n")
    entry = "own: {config: own.yaml, levels: {mini: small.yaml}}"
    register_table(write(TABLE + f"experiments:\n  {entry}\n"))
    own = experiments.find_experiment("own")
    assert experiments.experiment_config(own, "mini").SOLVER.MAX_ITER == 7
    assert experiments.experiment_config(own, "paper").SOLVER.MAX_ITER > 1000
    assert experiments.find_experiment(str(tmp_path / "own.yaml")) is own
    assert experiments_apart("2c") == {"own"}
    assert experiments_apart("mine") == set()


def test_an_installed_table_is_found_by_its_name(installed, capsys, monkeypatch):
    assert named_tables(["2c"], ()) == ["2c"]
    assert not numbers.ADDED_TABLES
    assert named_tables(["boundary", "2c", "boundary"], ()) == ["boundary", "2c"]
    assert named_tables(["all"], ["1", "9"]) == ["1", "9"]
    assert main(["list", "boundary"]) == 0
    assert "boundary_r50_fpn" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert "boundary.head" in capsys.readouterr().out
    monkeypatch.setenv("MASKRCNN_REPRO_PLUGINS", "0")
    assert main(["list", "boundary"]) == 2
    listed = capsys.readouterr().err
    assert "Table 'boundary' does not exist." in listed
    assert "MASKRCNN_REPRO_PLUGINS=0 switches the tables of installed plug-ins off" in listed
    with pytest.raises(TableError, match=r"any file with tables can be named by its path"):
        numbers.find_table("bound")


def test_a_report_has_the_own_rows_and_claims(tmp_path, capsys):
    output = tmp_path / "output"
    assert main(["table", str(FILE), "--report", "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert "dilated head, boundary loss" in text
    assert "boundary-sharper  missing    paper \N{EN DASH}, > 0" in text
    report = json.loads((output / "mini" / "tables" / "boundary.json").read_text())
    assert [claim["id"] for claim in report["claims"]] == ["boundary-sharper"]
    assert "boundary-sharper" in (output / "mini" / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("  mine:", '  "2c":'), "table '2c' exists already; choose another name."),
        (("mine.plain", "T2c.pool"), "row 'T2c.pool' exists already"),
        (("mine-better", "warp-like-pool"), "claim 'warp-like-pool' exists already"),
        (("r101_fpn", "r101_fpm"), "experiment 'r101_fpm' does not exist. Did you mean 'r101_fpn'"),
        (("quantity: AP", "quantity: AQ"), "metric 'AQ' does not exist."),
        (("[[mine.other", "[[mine.othr"), "row 'mine.othr' does not exist. Did you mean 'mine.other'"),
        (("AP: 33.5", "AP: much"), "AP must be a number or null, not 'much'."),
        (("experiment: r50_fpn, ", ""), "needs either an experiment or the reason why_not."),
        (("tables:", "experiments: {r50_fpn: {}}\ntables:"), "r50_fpn exists already"),
        (("tables:", "experiments: {a: {config: b.yaml}}\ntables:"), "config 'b.yaml' does not exist in"),
        (("claims:", "claim:"), "unknown key 'claim'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_nothing_is_registered(write, change, sentence):
    with pytest.raises(TableError) as caught:
        register_table(write(TABLE.replace(*change)))
    assert sentence in str(caught.value)
    assert "rows.yaml" in str(caught.value)
    assert {} == numbers.ADDED_TABLES == experiments.ADDED == claims.ADDED


def test_a_row_of_two_tables_of_a_file_is_named_with_both(write):
    second = "  other:" + TABLE.partition("  mine:")[2].partition("claims:")[0]
    with pytest.raises(TableError) as caught:
        register_table(write(TABLE.replace("claims:", f"{second}claims:")))
    said = "rows.yaml: row 'mine.plain' stands in the tables 'mine' and 'other'"
    assert said in str(caught.value)
    assert {} == numbers.ADDED_TABLES


def test_own_records_do_not_get_among_the_paper_s(capsys, tmp_path):
    words = ["--report", "--output", str(tmp_path), "--save-records", str(ROOT / "results")]
    assert main(["table", str(FILE), *words]) == 2
    assert "holds the paper's records; name another folder for table boundary." in (
        capsys.readouterr().err
    )


def test_a_file_without_tables_is_one_sentence(write, capsys):
    assert main(["list", str(write("{a: 1}"))]) == 2
    assert "rows.yaml holds no tables: KeyError: 'tables'." in capsys.readouterr().err
    assert main(["table", str(write("[")), "--plan"]) == 2
    assert "is no YAML" in capsys.readouterr().err
