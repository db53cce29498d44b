"""Every row of the family builds at both levels, and each head has a claim."""

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
NAMES = list(EXPERIMENTS)


@pytest.fixture(autouse=True)
def _registered(nothing_added):
    register_table(FILE)


@pytest.mark.parametrize(
    ("name", "level"),
    [(name, "mini") for name in NAMES]
    + [pytest.param(name, "paper", marks=pytest.mark.slow) for name in NAMES],
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
