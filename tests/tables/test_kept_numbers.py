"""Numbers that were changed in a kept table or in a record beside it show."""

import json
import shutil

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.kept_reading import KeptReports
from maskrcnn_repro.tables.runs.reading import read_json

import pytest

from tests.helpers.kept_results import RESULTS


@pytest.fixture
def kept(tmp_path):
    """A copy of what is kept of level mini: three seeds."""
    folder = tmp_path / "results/mini/embedded"
    shutil.copytree(RESULTS / "mini/embedded", folder, ignore=shutil.ignore_patterns("*.npz"))
    return folder


def row_of(tree, name):
    return next(row for row in tree["rows"] if row["id"] == name)


def claim_of(tree, name):
    return next(claim for claim in tree["claims"] if claim["id"] == name)


def more(numbers, key, value):
    numbers[key] += value


@pytest.mark.parametrize("folder", sorted(path.parent for path in RESULTS.glob("*/*/tables")))
def test_what_is_kept_here_agrees_with_its_records(folder):
    kept = KeptReports(folder)
    assert [kept.damage(table) for table in kept.tables] == [[]] * len(kept.tables)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: more(row_of(t, "T2c.pool")["cells"]["AP75"]["ours"], "mean", 0.1),
            "for the AP75 of row T2c.pool, its records ",
        ),
        (
            lambda t: more(row_of(t, "T2c.alignave")["cells"]["AP"]["ours_gap"], "mean", -0.1),
            "for the gap in AP of row T2c.alignave, its records ",
        ),
        (
            lambda t: more(claim_of(t, "align-ave-over-pool"), "gap", 0.1),
            "for the gap of claim align-ave-over-pool, its records ",
        ),
        (
            lambda t: claim_of(t, "warp-like-pool").update(outcome="holds"),
            "says 'holds' of claim warp-like-pool, its numbers 'fails'",
        ),
        (
            lambda t: claim_of(t, "warp-like-pool").update(outcome="too little learnt"),
            "says 'too little learnt' of claim warp-like-pool, its numbers 'fails'",
        ),
        (
            lambda t: claim_of(t, "warp-like-pool").update(outcome="images only"),
            "says 'images only' of claim warp-like-pool, its numbers 'fails'",
        ),
        (
            lambda t: claim_of(t, "warp-like-pool").update(gap=None, interval=None),
            "says 'fails' of claim warp-like-pool, which has no gap",
        ),
        (
            lambda t: claim_of(t, "warp-like-pool").update(gap=99, interval=None),
            "says 99.00 for the gap of claim warp-like-pool, its records ",
        ),
        (
            lambda t: row_of(t, "T2c.pool")["cells"]["AP"]["ours"].update(spread=9.9),
            "says a spread of 9.90 for the AP of row T2c.pool, its records ",
        ),
        (
            lambda t: row_of(t, "X2c.shift")["cells"]["AP"]["ours"].update(mean=9.9),
            "says 9.90 for the AP of row X2c.shift, its records ",
        ),
        (
            lambda t: row_of(t, "T2c.alignave")["cells"]["AP"]["ours_interval"].update(
                low=40, high=50
            ),
            "has an interval of the gap in AP of row T2c.alignave without that gap",
        ),
        (
            lambda t: more(claim_of(t, "warp-like-pool")["interval"], "low", 3),
            "has an interval of claim warp-like-pool without its gap",
        ),
    ],
)
def test_a_number_of_a_table_that_its_records_do_not_give_is_named(kept, change, said):
    file = kept / "tables/2c.json"
    tree = read_json(file)
    change(tree)
    file.write_text(json.dumps(tree))
    assert any(said in text for text in KeptReports.of(kept).damage("2c"))
    with pytest.raises(TableError, match="save it again: maskrcnn table 2c"):
        KeptReports.of(kept).records_of("2c")


def test_a_record_that_was_changed_after_its_table_is_named(kept):
    assert KeptReports.of(kept).damage("2c") == []
    file = kept / "r50_c4_roipool/seed2.json"
    tree = read_json(file)
    next(iter(tree["metrics"].values()))["segm"]["AP"] += 3
    file.write_text(json.dumps(tree))
    (text, *others) = KeptReports.of(kept).damage("2c")
    assert f"{kept}/tables/2c.json says " in text
    # One of three seeds by three points: the mean by one.
    shown, own = (float(word.strip(".")) for word in text.split() if word[0].isdecimal())
    assert own - shown == pytest.approx(1, abs=0.02)
    assert others


def test_a_lost_record_is_named_and_nothing_compared_in_its_place(kept):
    (kept / "r50_c4_roipool/seed2.json").unlink()
    texts = KeptReports.of(kept).damage("2c")
    assert [text for text in texts if "lost record" in text] == texts[:1]
    assert not any("says" in text for text in texts)
