"""P-values of verdicts by hand, and Holm's correction: four p-values by hand, and what it leaves of verdicts."""

from dataclasses import replace

from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.report.claims_text import annotate_verdicts, claims_markdown
from maskrcnn_repro.tables.report.correction import correct_verdicts, holm
from maskrcnn_repro.tables.report.model import Interval
from maskrcnn_repro.tables.report.statistics import POOLED
from maskrcnn_repro.tables.report.verdicts import p_value

import pytest

from tests.helpers.html_runs import VERDICTS


def test_four_p_values_by_hand():
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1; the last may not be below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def judged():
    """Return verdicts with p-values of 0.01, 0.04 and 0.2, and one without."""
    outcomes = (("first", "holds", 0.01), ("second", "fails", 0.04), ("third", "undecided", 0.2))
    return [
        *(replace(VERDICTS[0], id=name, outcome=outcome, p=p) for name, outcome, p in outcomes),
        VERDICTS[3],
    ]


def test_an_outcome_remains_or_becomes_undecided():
    assert correct_verdicts(judged()) == {
        "first": (pytest.approx(0.03), "holds"),
        "second": (pytest.approx(0.08), "undecided"),
        "third": (pytest.approx(0.2), "undecided"),
    }


def test_a_part_of_the_claims_is_not_corrected_for_too_few():
    every = [replace(VERDICTS[0], id=name, p=0.004) for name in claims()]
    assert correct_verdicts(every[1:]) == {}
    assert "Holm" not in claims_markdown(every[1:])
    # All are kept that were judged: 16 times 0.004 is more than 0.05.
    corrected = correct_verdicts(every[1:], are_all=True)
    assert list(corrected.values()) == [(pytest.approx(0.064), "undecided")] * 16
    missing = replace(every[0], outcome="missing", p=None)
    assert correct_verdicts([missing, *every[1:]]) == corrected
    # One that stands alone is corrected by itself.
    assert correct_verdicts([*every[1:], *judged()]) == correct_verdicts(judged())


def test_a_reader_is_told_what_the_correction_leaves():
    text, *_ = annotate_verdicts(judged())
    assert text.startswith(
        "With Holm's correction for 3 claims judged at once: holds 1, fails 0, undecided 2."
    )
    cells = [line.rsplit("|", 2)[1].strip() for line in claims_markdown(judged()).splitlines()[2:6]]
    assert cells == ["0.03: holds", "0.08: undecided", "0.2: undecided", "\N{EN DASH}"]


def test_reports_of_an_earlier_method_have_no_such_column():
    assert correct_verdicts(VERDICTS) == {}
    assert "Holm" not in claims_markdown(VERDICTS)
    assert annotate_verdicts(VERDICTS) == [
        "Intervals: seeds and images drawn together, Student's t (3)."
    ]


@pytest.mark.parametrize(
    ("direction", "gap", "p"),
    [
        # A standard error of 1 by images alone: normal quantiles.
        (">", 1.95996, 0.05),
        (">", -1.95996, 0.05),
        ("≥", 1.64485, 0.10),
        # Within ±3 by 1.645 standard errors, and beyond by as many.
        ("≈", 3 - 1.64485, 0.05),
        ("≈", -3 + 1.64485, 0.05),
        ("≈", 3 + 1.64485, 0.05),
        ("≈", 3.0, 0.5),
    ],
)
def test_p_values_by_hand(direction, gap, p):
    bounds = Interval(0, 0, 95.0, (1, 2), 1000, POOLED, 10.0, 0.0, 1.0)
    assert p_value(direction, 3.0, gap, bounds) == pytest.approx(p, abs=1e-5)
