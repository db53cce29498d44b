"""Boundary AP of runs that measured mask AP alone: from their detections, judged like any other metric."""

from types import MappingProxyType

from maskrcnn_repro.evaluation.resampling import match
from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.paper.numbers import metrics
from maskrcnn_repro.tables.report import boundary as boundary_module
from maskrcnn_repro.tables.report.boundary import FILE
from maskrcnn_repro.tables.report.report import PaperData, reports
from maskrcnn_repro.tables.report.resampled import Resampler

import pytest

from tests.helpers.fake_detections import EXACT, FAR, NEAR, detect, use_truth, write_truth
from tests.helpers.fake_runs import Fake, row, table

CLAIM = Claim(
    "outlines", "B has better outlines.", (("T.b", "T.a"),), "boundary_AP", ">", 0.0, None
)
# A strip is 2 px wide (a diagonal of 90.5 px); a square of 20 px has one of 144 px, of which 4 x 18 px lie within the
# strip of a square 2 px aside: an IoU below 0.5, the IoU of the squares being 18 / 22.
STRIPS = {EXACT: 100.0, NEAR: 0.0}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    fake = Fake(tmp_path, monkeypatch)
    fake.truth = write_truth(tmp_path)
    use_truth(monkeypatch, fake.truth)
    return fake


def report(fake, columns=("AP", "boundary_AP"), claims=(CLAIM,)):
    shown = table(row("a", "a"), row("b", "b"), columns=columns)
    paper = PaperData(
        MappingProxyType({shown.id: shown}),
        metrics(),
        fake.experiments,
        {claim.id: claim for claim in claims},
    )
    (made,) = reports([shown], fake.setting, paper, Resampler(40))
    return made


def cell(made, name, column="boundary_AP"):
    (found,) = [r for r in made.rows if r.id == f"T.{name}"]
    return found.cells[column]


def test_boundary_ap_of_detections_by_hand_and_the_claim_on_it(fake):
    for seed in (1, 2, 3):
        detect(fake, fake.truth, "a", seed, NEAR)
        detect(fake, fake.truth, "b", seed, EXACT)
    made = report(fake)
    assert cell(made, "a").ours.mean == pytest.approx(STRIPS[NEAR])
    assert cell(made, "b").ours.mean == pytest.approx(STRIPS[EXACT])
    assert cell(made, "b", "AP").ours_gap.mean == pytest.approx(30.0)
    assert cell(made, "b").ours_interval.seeds == (1, 2, 3)
    (verdict,) = made.claims
    assert (verdict.outcome, verdict.gap) == ("holds", pytest.approx(100.0))


def test_a_record_that_measured_it_keeps_its_own_number(fake):
    own = match(fake.truth, detections(detect(fake, fake.truth, "a", 1, EXACT)), "segm")
    measured = {"segm": own.average_precision(), "boundary": {"AP": 99.0}}
    folder = detect(fake, fake.truth, "a", 1, EXACT, metrics=measured)
    assert cell(report(fake), "a").ours.mean == pytest.approx(99.0)
    assert not (folder / FILE).exists()


def test_a_second_report_reads_what_the_first_computed_and_another_record_is_computed_anew(
    fake, monkeypatch
):
    folder = detect(fake, fake.truth, "a", 1, EXACT)
    report(fake)
    assert (folder / FILE).is_file()
    calls = []
    compute = boundary_module.match_anew
    monkeypatch.setattr(
        boundary_module, "match_anew", lambda *words: calls.append(words) or compute(*words)
    )
    assert cell(report(fake), "a").ours.mean == pytest.approx(100.0)
    assert not calls
    detect(fake, fake.truth, "a", 1, NEAR)
    assert cell(report(fake), "a").ours.mean == pytest.approx(0.0)
    (folder / FILE).write_text("{")
    assert cell(report(fake), "a").ours.mean == pytest.approx(0.0)
    assert len(calls) == 2


def test_a_table_without_the_column_computes_nothing(fake):
    folder = detect(fake, fake.truth, "a", 1, EXACT)
    report(fake, columns=("AP",), claims=())
    assert not (folder / FILE).exists()


def test_detections_that_are_gone_or_another_run_s_cost_that_number_alone(fake):
    gone, other = (detect(fake, fake.truth, name, 1, EXACT) for name in "ab")
    detections(gone).unlink()
    kept = detections(other).read_text()
    detect(fake, fake.truth, "b", 1, FAR)
    detections(other).write_text(kept)
    made = report(fake)
    assert cell(made, "a").ours is None
    assert cell(made, "a", "AP").ours.mean == pytest.approx(100.0)
    texts = [text for text in made.refused if "no boundary AP" in text]
    assert texts[0].startswith(f"{gone}: no boundary AP: {detections(gone)} cannot be read")
    assert "is of another evaluation than results.json: its mask AP is 100.00" in texts[1]


def detections(folder):
    return folder / "inference/mini_coco_val/coco_instances_results.json"
