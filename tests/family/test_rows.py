"""Every row of the family builds at both levels, and each head has a claim."""

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.modeling.sizes import build_on_meta
from maskrcnn_repro.tables.paper import claims, experiments
from maskrcnn_repro.tables.paper.additions import register_table
from maskrcnn_repro.tables.paper.experiments import experiment_config
from maskrcnn_repro.tables.paper.numbers import find_table

import pytest
import yaml

from tests.helpers.paths import ROOT

FILE = ROOT / "projects/maskrcnn_family/tables.yaml"
EXPERIMENTS = yaml.safe_load(FILE.read_text(encoding="utf-8"))["experiments"]
WHOLE = [name for name, parts in EXPERIMENTS.items() if "shortens" not in parts]


@pytest.fixture(autouse=True)
def _registered(nothing_added):
    register_table(FILE)


@pytest.mark.parametrize(
    ("name", "level"),
    [(name, "mini") for name in WHOLE]
    + [pytest.param(name, "paper", marks=pytest.mark.slow) for name in WHOLE],
)
def test_each_row_builds(name, level):
    model = build_on_meta(experiment_config(experiments.ADDED[name], level))
    assert all(value.is_meta for value in model.parameters())


def test_each_head_has_a_claim():
    rows = {**find_table("family").rows, **find_table("densepose").rows}
    judged = {claim.rows[0][0] for claim in claims.ADDED.values()}
    alone = {
        name
        for name, parts in EXPERIMENTS.items()
        if parts.get("config", "").endswith("/config.yaml")
    }
    heads = {row.id for row in rows.values() if row.experiment in alone}
    assert len(heads) >= 7
    assert heads <= judged
    assert all(
        row in rows for claim in claims.ADDED.values() for pair in claim.rows for row in pair
    )


def test_each_row_has_a_training_as_long_as_the_baseline_s():
    rows = find_table("family").rows.values()
    short = {row.equal_seconds: row.experiment for row in rows if row.experiment != "r50_fpn"}
    beside = [row.experiment for row in find_table("family_seconds").rows.values()]
    assert beside == ["r50_fpn", *short]
    assert {name: experiments.ADDED[name].shortens for name in short} == short
    assert all(0 < int(experiments.ADDED[name].overrides[1]) < 900 for name in short)
    experiment = experiments.ADDED["family_panet_seconds"]
    assert experiment_config(experiment, "mini").SOLVER.MAX_ITER == 530
    with pytest.raises(TableError, match="iterations at level mini alone"):
        experiment_config(experiment)
