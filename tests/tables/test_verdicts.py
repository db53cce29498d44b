"""Verdicts on claims: boundaries by hand, records of known quality, what is missing, what is not mixed."""

import json
from dataclasses import replace

from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report.claims_text import claim_lines, tally
from maskrcnn_repro.tables.report.draw_files import Resampled
from maskrcnn_repro.tables.report.evidence import Evidence
from maskrcnn_repro.tables.report.gather import gather
from maskrcnn_repro.tables.report.plain import to_json
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.report.statistics import IMAGES as IMAGES_ALONE
from maskrcnn_repro.tables.report.statistics import OWN, POOLED
from maskrcnn_repro.tables.report.verdicts import verdicts

import numpy as np
import pytest

from tests.helpers.fake_detections import (
    EXACT,
    FAR,
    IMAGES,
    MISSED,
    NEAR,
    detect,
    use_truth,
    write_truth,
)
from tests.helpers.fake_runs import METRICS, Fake, report_of, row, table

COLUMNS = {
    **METRICS,
    "AP50": Metric("AP50", "AP50", "segm", "AP50"),
    "AP75": Metric("AP75", "AP75", "segm", "AP75"),
}
ROWS = {r.id: r for r in (row("a", "a"), row("b", "b"), row("joint", "joint"))}
HALF = [EXACT, MISSED] * (IMAGES // 2)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    fake = Fake(tmp_path, monkeypatch)
    fake.truth = write_truth(tmp_path)
    use_truth(monkeypatch, fake.truth)
    return fake


def claim(direction=">", rows=(("T.a", "T.b"),), quantity="AP", margin=0.0):
    return Claim("better", "A beats B.", rows, quantity, direction, margin, 3.4)


def judged(fake, claim):
    gathered = gather(["a", "b", "joint"], fake.setting, fake.experiments)
    (verdict,) = verdicts([claim], Evidence(gathered, COLUMNS, Resampler(100)), ROWS, "mini")
    return verdict


def test_a_gap_that_is_the_same_everywhere_holds_without_width(fake):
    for seed in (1, 2, 3):
        detect(fake, fake.truth, "a", seed, NEAR)
        detect(fake, fake.truth, "b", seed, FAR)
    verdict = judged(fake, claim())
    assert (verdict.outcome, verdict.gap) == ("holds", pytest.approx(60.0))
    assert (verdict.interval.low, verdict.interval.high) == pytest.approx((60.0, 60.0))
    assert verdict.interval.seeds == (1, 2, 3)
    assert (verdict.interval.level, verdict.interval.images, verdict.note) == (95.0, IMAGES, "")


def test_a_seed_without_the_metric_is_left_out_although_it_has_draws(fake, monkeypatch):
    for seed in (1, 2, 3):
        nothing = {"segm": {"AP": None}} if seed == 1 else None
        detect(fake, fake.truth, "a", seed, NEAR, metrics=nothing)
        detect(fake, fake.truth, "b", seed, FAR)
    draws = Resampled(IMAGES, {"AP": np.linspace(0.0, 50.0, 100)})
    monkeypatch.setattr(Resampler, "of", lambda resampler, record, metric: draws)
    assert judged(fake, claim()).interval.seeds == (2, 3)


def test_a_claim_with_its_rows_swapped_fails_with_the_mirrored_interval(fake):
    for seed, offsets in ((1, NEAR), (2, HALF), (3, EXACT)):
        detect(fake, fake.truth, "a", seed, offsets)
        detect(fake, fake.truth, "b", seed, FAR)
    there, back = judged(fake, claim()), judged(fake, claim(rows=(("T.b", "T.a"),)))
    assert back.gap == pytest.approx(-there.gap)
    assert (back.interval.low, back.interval.high) == pytest.approx(
        (-there.interval.high, -there.interval.low)
    )
    assert there.interval.high - there.interval.low > 1


def test_a_gap_that_two_seeds_disagree_on_is_undecided(fake):
    for seed, offsets in ((1, (EXACT, NEAR)), (2, (NEAR, EXACT))):
        detect(fake, fake.truth, "a", seed, offsets[0])
        detect(fake, fake.truth, "b", seed, offsets[1])
    verdict = judged(fake, claim())
    assert verdict.outcome == "undecided"
    # Either row has 100 and 70, a variance of 450; a gap of two rows has twice that, its mean over two seeds half of
    # it. By its own two values, +30 and -30, it would be twice as large, which F does not refute: 2 is below 2.57.
    assert verdict.interval.method == POOLED
    assert verdict.interval.of_seeds == pytest.approx(450**0.5)
    assert verdict.interval.freedom == 2
    assert verdict.interval.high == pytest.approx(4.303 * 450**0.5, rel=0.01)


def test_alike_is_decided_by_the_90_per_cent_interval(fake):
    for name in ("a", "b"):
        for seed in (1, 2):
            detect(fake, fake.truth, name, seed, NEAR)
    verdict = judged(fake, claim("≈", margin=1.5))
    assert (verdict.outcome, verdict.interval.level) == ("holds", 90.0)
    for seed in (1, 2):
        detect(fake, fake.truth, "b", seed, FAR)
    assert judged(fake, claim("≈", margin=1.5)).outcome == "fails"


def test_one_metric_against_another_and_one_gap_against_another(fake):
    # AP50, AP75: 100, 100 and 100, 0.
    detect(fake, fake.truth, "a", 1, NEAR)
    detect(fake, fake.truth, "b", 1, FAR)
    detect(fake, fake.truth, "joint", 1, EXACT)
    assert judged(fake, claim(quantity="AP75 - AP50")).gap == pytest.approx(100.0)
    # AP: (100 - 10) - (70 - 10)
    pairs = (("T.joint", "T.b"), ("T.a", "T.b"))
    verdict = judged(fake, claim(rows=pairs))
    assert (verdict.gap, verdict.interval.low) == pytest.approx((30.0, 30.0))


def test_a_single_seed_is_marked_and_seeds_common_to_all_rows_are_named(fake):
    detect(fake, fake.truth, "a", 1, NEAR)
    detect(fake, fake.truth, "b", 1, FAR)
    verdict = judged(fake, claim())
    assert (verdict.outcome, verdict.p) == ("images only", None)
    assert verdict.note == "one seed; if the test images alone varied: holds"
    assert verdict.interval.method == IMAGES_ALONE
    detect(fake, fake.truth, "b", 2, FAR)
    verdict = judged(fake, claim())
    assert (
        verdict.note
        == "one seed; if the test images alone varied: holds; on seed 1, which all rows share"
    )
    assert verdict.interval.seeds == (1,)
    detect(fake, fake.truth, "a", 2, NEAR)
    detect(fake, fake.truth, "b", 3, FAR)
    assert judged(fake, claim()).note == "on seeds 1, 2, which all rows share"


@pytest.mark.parametrize("direction", [">", "≥", "≈"])
def test_nothing_is_decided_before_a_row_has_learnt_something(fake, direction):
    """AP75 is 0 in both rows, AP is 10: the first says nothing, the second does."""
    for seed in (1, 2):
        for name in ("a", "b"):
            detect(fake, fake.truth, name, seed, FAR)
    verdict = judged(fake, claim(direction, quantity="AP75", margin=1.5))
    assert (verdict.outcome, verdict.gap, verdict.p) == ("too little learnt", 0.0, None)
    assert verdict.note == f"no row reaches {'3' if direction == '≈' else '1'}"
    verdict = judged(fake, claim("≈", margin=1.5))
    assert (verdict.outcome, verdict.note) == ("holds", "")
    # Of two rows below the margin the gap cannot but lie within it.
    assert judged(fake, claim("≈", margin=6.0)).note == "no row reaches 12"


def test_of_two_pairs_each_has_to_have_learnt_something(fake):
    for seed in (1, 2):
        detect(fake, fake.truth, "joint", seed, FAR)
        detect(fake, fake.truth, "a", seed, NEAR)
        detect(fake, fake.truth, "b", seed, FAR)
    pairs = (("T.joint", "T.b"), ("T.a", "T.b"))
    verdict = judged(fake, claim(rows=pairs, quantity="AP75"))
    assert (verdict.outcome, verdict.note) == ("too little learnt", "no row of a pair reaches 1")
    assert judged(fake, claim(rows=pairs)).outcome == "fails"


def test_a_row_that_learnt_nothing_fails_against_one_that_did(fake):
    for seed in (1, 2):
        detect(fake, fake.truth, "a", seed, [MISSED] * IMAGES)
        detect(fake, fake.truth, "b", seed, FAR)
    assert judged(fake, claim()).outcome == "fails"


def test_rows_without_records_are_named(fake):
    detect(fake, fake.truth, "a", 1, NEAR)
    verdict = judged(fake, claim())
    assert (verdict.outcome, verdict.gap, verdict.note) == (
        "missing",
        None,
        "no record of Model b (T.b)",
    )
    detect(fake, fake.truth, "b", 2, NEAR)
    assert judged(fake, claim()).note == "no seed with AP of all its rows"


def test_a_seed_whose_images_cannot_be_drawn_again_is_left_out_and_named(fake):
    for seed in (1, 2, 3):
        folder = detect(fake, fake.truth, "a", seed, NEAR if seed < 3 else EXACT)
        detect(fake, fake.truth, "b", seed, FAR)
    (folder / "inference/mini_coco_val/coco_instances_results.json").write_text("[")
    verdict = judged(fake, claim())
    assert (verdict.gap, verdict.interval.seeds) == (pytest.approx(60.0), (1, 2))
    assert verdict.note == "images of seed 3 cannot be drawn again"


def test_a_gap_of_one_seed_without_any_detections_is_of_images_only(fake):
    for name in ("a", "b"):
        folder = detect(fake, fake.truth, name, 1, NEAR)
        (folder / "inference/mini_coco_val/coco_instances_results.json").unlink()
    verdict = judged(fake, claim())
    assert (verdict.outcome, verdict.gap, verdict.interval) == ("images only", 0.0, None)
    assert verdict.note == "one seed; images cannot be drawn again"


def test_rows_measured_on_different_images_are_not_paired(fake, monkeypatch):
    monkeypatch.setattr(
        "maskrcnn_repro.tables.report.gather._refuse_other_data", lambda gathered: None
    )
    data = {"TRAIN": [], "TEST": [{"name": "mini_coco_val", "sha256": "f" * 64}]}
    detect(fake, fake.truth, "a", 1, NEAR)
    detect(fake, fake.truth, "b", 1, FAR, datasets=data)
    verdict = judged(fake, claim())
    note = "one seed; images are not the same for all rows"
    assert (verdict.outcome, verdict.note) == ("images only", note)


def test_a_seed_of_another_recipe_backend_or_data_version_does_not_count(fake):
    for seed in (1, 2, 3, 4):
        detect(fake, fake.truth, "a", seed, NEAR)
        folder = detect(fake, fake.truth, "b", seed, FAR if seed == 1 else EXACT)
        if seed == 2:
            config = folder / "config.yaml"
            config.write_text(config.read_text().replace("MAX_ITER: 10", "MAX_ITER: 20"))
        if seed == 3:
            results = folder / "results.json"
            tree = json.loads(results.read_text())
            results.write_text(
                json.dumps(tree | {"code": {"backend": {"name": "other"}, "commit": None}})
            )
        if seed == 4:
            results = folder / "results.json"
            results.write_text(results.read_text().replace("0" * 64, "f" * 64))
    verdict = judged(fake, claim())
    assert (verdict.gap, verdict.interval.seeds) == (pytest.approx(60.0), (1,))
    refused = gather(["b"], fake.setting, fake.experiments).refused["b"]
    reasons = (
        "MAX_ITER is 20, planned 10",
        "on the other Detectron2",
        "another version of data set",
    )
    assert len(refused) == 3
    assert all(reason in text for reason, text in zip(reasons, refused, strict=True))


def test_a_row_whose_records_were_all_left_out_says_how_many(fake):
    detect(fake, fake.truth, "a", 1, NEAR)
    config = detect(fake, fake.truth, "b", 1, FAR) / "config.yaml"
    config.write_bytes(b"\xff")
    assert judged(fake, claim()).note == "no record of Model b (T.b); left out: 1"


def test_a_config_that_is_not_the_records_own_does_not_count(fake):
    folder = detect(fake, fake.truth, "a", 1, NEAR, config_sha256="0" * 64)
    detect(fake, fake.truth, "b", 1, FAR)
    assert judged(fake, claim()).note == "no record of Model a (T.a)"
    unfinished = gather(["a"], fake.setting, fake.experiments).unfinished["a"]
    assert unfinished == ["seed 1 at model_final.pth; results.json is of another config"]
    assert folder.is_dir()


def test_seeds_made_from_another_rpn_than_most_do_not_count(fake):
    for seed in (1, 2, 3):
        detect(fake, fake.truth, "b", seed, FAR)
        note = detect(fake, fake.truth, "a", seed, NEAR) / "stage.json"
        tree = json.loads(note.read_text())
        tree["inputs"] = {"rpn/seed1/proposals": "other" if seed == 2 else "same"}
        note.write_text(json.dumps(tree))
    verdict = judged(fake, claim())
    assert verdict.interval.seeds == (1, 3)
    (text,) = gather(["a", "b"], fake.setting, fake.experiments).refused["a"]
    assert text.endswith("a/seed2: made from another run of rpn/seed1/proposals than most")


def test_an_evaluation_that_cannot_be_read_is_named(fake):
    folder = fake.setting.run_folder("a-nms", 1)
    detect(fake, fake.truth, "a-nms", 1, NEAR)
    (folder / "inference/results.json").write_text("{")
    (text,) = gather(["a-nms"], fake.setting, fake.experiments).refused["a-nms"]
    assert text.startswith(f"{folder}: {folder / 'inference/results.json'} cannot be read")


def test_an_experiment_whose_config_is_gone_is_named_and_the_rest_gathered(fake):
    detect(fake, fake.truth, "a", 1, NEAR)
    folder = detect(fake, fake.truth, "joint", 1, NEAR)
    (fake.setting.root.parent / "configs/joint.yaml").write_text("MODEL: {MASKS_ON: True}")
    gathered = gather(["joint", "a"], fake.setting, fake.experiments)
    assert list(gathered.records) == ["a"]
    assert gathered.refused["joint"][0].startswith(f"{folder}: ")


def test_every_row_of_a_table_has_the_interval_of_its_gap(fake):
    for seed in (1, 2):
        detect(fake, fake.truth, "a", seed, FAR)
        detect(fake, fake.truth, "b", seed, NEAR)
    shown = table(
        ROWS["T.a"],
        ROWS["T.b"],
        row("gap", None, gap_of=("T.b", "T.a")),
        row("c", "joint"),
        baseline="T.a",
    )
    report = report_of(shown, fake.setting, fake.experiments, COLUMNS, resampler=Resampler(50))
    cells = {r.id: r.cells["AP"] for r in report.rows}
    assert cells["T.a"].ours_interval is None
    assert cells["T.b"].ours_gap.mean == pytest.approx(60.0)
    for name in ("T.b", "T.gap"):
        interval = cells[name].ours_interval
        assert (interval.low, interval.high, interval.level) == pytest.approx((60.0, 60.0, 95.0))
    assert cells["T.c"].ours_interval is None


def test_a_table_names_the_runs_whose_images_cannot_be_drawn_again(fake):
    detect(fake, fake.truth, "a", 1, FAR)
    folder = detect(fake, fake.truth, "b", 1, NEAR)
    detect(fake, fake.truth, "b", 2, NEAR)
    detect(fake, fake.truth, "a", 2, FAR)
    (folder / "inference/mini_coco_val/coco_instances_results.json").unlink()
    shown = table(ROWS["T.a"], ROWS["T.b"])
    report = report_of(shown, fake.setting, fake.experiments, COLUMNS, resampler=Resampler(50))
    b = report.rows[1].cells["AP"]
    # The gap is of two seeds; an interval of one of them would not be its own.
    assert (b.ours_gap.seeds, b.ours_interval) == ((1, 2), None)
    (text,) = report.refused
    assert text.startswith(f"{folder}: no interval (mask, box): ")


def test_lines_of_claims(fake):
    detect(fake, fake.truth, "a", 1, NEAR)
    every = [judged(fake, claim("≈", margin=1.5))]
    detect(fake, fake.truth, "b", 1, NEAR)
    every.append(replace(judged(fake, claim("≥")), id="longer-name"))
    assert claim_lines(every) == [
        "claim better       missing                              paper +3.4, within ±1.5 (no record of Model b (T.b))",
        (
            "claim longer-name  images only  +0.0 [+0.0, +0.0] 95 %  paper +3.4, ≥ 0 "
            "(one seed; if the test images alone varied: holds)"
        ),
    ]
    assert tally(every) == "Of 2 claims: holds 0, fails 0, undecided 0, images only 1, missing 1"
    assert json.loads(json.dumps(to_json(every[1])))["interval"] == {
        "low": 0.0,
        "high": 0.0,
        "level": 95.0,
        "seeds": [1],
        "images": IMAGES,
        "method": IMAGES_ALONE,
        "of_images": 0.0,
    }


def test_the_spread_of_a_level_decides_what_two_seeds_cannot(fake):
    """Rows that no claim names count, too; by hand: of a, 100 and 70; of b, 10 and 10; of joint, 70 and 70."""
    for seed, offsets in ((1, EXACT), (2, NEAR)):
        detect(fake, fake.truth, "a", seed, offsets)
        detect(fake, fake.truth, "b", seed, FAR)
        detect(fake, fake.truth, "joint", seed, NEAR)
    verdict = judged(fake, claim())
    # a is left out of the pool, as the others do not vary at all, and the gap has the spread of its own seeds.
    assert (verdict.interval.method, verdict.interval.freedom) == (OWN, 1.0)
    assert verdict.note == "by the spread of its own seeds alone"
    gathered = gather(["a", "b", "joint"], fake.setting, fake.experiments)
    spread = Evidence(gathered, COLUMNS).spread(["AP"])
    assert (spread.deviation, spread.freedom, spread.wider) == (0.0, 2, ("a",))
    assert Evidence(gathered, COLUMNS).spread(["AP75", "AP50"]).quantity == "AP75 - AP50"


def test_an_evaluation_of_the_same_weights_is_not_pooled(fake):
    for seed, offsets in ((1, EXACT), (2, NEAR)):
        detect(fake, fake.truth, "a", seed, offsets)
        detect(fake, fake.truth, "b", seed, offsets)
        detect(fake, fake.truth, "a-nms", seed, offsets)
    gathered = gather(["a", "b", "a-nms"], fake.setting, fake.experiments)
    evidence = Evidence(gathered, COLUMNS, Resampler(50), {"a-nms": "a"})
    assert evidence.spread(["AP"]).freedom == 2
    rows = {**ROWS, "T.nms": row("nms", "a-nms")}
    (verdict,) = verdicts([claim(rows=(("T.nms", "T.a"),))], evidence, rows, "mini")
    assert (verdict.interval.method, verdict.interval.high) == (OWN, 0.0)
    # Against another training the pool counts, in the other's name.
    (verdict,) = verdicts([claim(rows=(("T.nms", "T.b"),))], evidence, rows, "mini")
    assert verdict.interval.method == POOLED
