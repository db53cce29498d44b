"""The paper's findings as data: they hold in the paper, their gaps follow from its numbers."""

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.claims import claims, parse_claim
from maskrcnn_repro.tables.paper.data_file import Node
from maskrcnn_repro.tables.paper.numbers import find_row

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("name", "gap"),
    [
        # By hand from the paper's tables.
        ("align-ave-over-pool", 3.4),  # 30.3 - 26.9
        ("align-gains-at-high-iou", 2.7),  # (31.5 - 26.4) - (51.2 - 48.8)
        ("align-gains-more-at-stride-32", 3.9),  # (30.9 - 23.6) - (30.3 - 26.9)
        ("align-helps-boxes-at-stride-32", 5.8),  # 34.0 - 28.2, box AP
        ("agnostic-like-specific", -0.6),  # 29.7 - 30.3
        ("align-helps-keypoints", 4.4),  # 64.2 - 59.8, keypoint AP
        ("align-helps-masks-with-fpn", 1.5),  # stated in the text
    ],
)
def test_the_papers_gap_follows_from_its_numbers(name, gap):
    assert claims()[name].paper_gap == gap


def test_there_are_seventeen_claims_and_the_paper_supports_each():
    assert len(claims()) == 17
    for claim in claims().values():
        if claim.direction == "≈":
            assert abs(claim.paper_gap) <= claim.margin == 1.5, claim.id
            assert claim.margin_reason, claim.id
        else:
            assert claim.paper_gap > 0, claim.id
            assert (claim.margin, claim.margin_reason) == (0, ""), claim.id


def test_margins_are_the_gain_by_roialign_with_fpn_as_their_reason_says():
    gains = {
        c.id: c.paper_gap for c in claims().values() if (c.direction, c.quantity) == (">", "AP")
    }
    assert min(gains, key=gains.__getitem__) == "align-helps-masks-with-fpn"
    assert {c.margin for c in claims().values() if c.direction == "≈"} == {min(gains.values())}


def test_every_row_of_a_claim_has_an_experiment_that_measures_it():
    for claim in claims().values():
        for row in sum(claim.rows, ()):
            assert find_row(row).experiment, (claim.id, row)


def test_a_claim_compares_arrays_as_it_compares_numbers():
    claim = claims()["align-gains-at-high-iou"]
    assert claim.metrics() == ("AP75", "AP50")
    values = {
        ("T2c.alignave", "AP75"): np.array([10.0, 11.0]),
        ("T2c.alignave", "AP50"): np.array([20.0, 20.0]),
        ("T2c.pool", "AP75"): np.array([6.0, 6.0]),
        ("T2c.pool", "AP50"): np.array([19.0, 18.0]),
    }
    # AP75 gains 4 and 5, AP50 gains 1 and 2.
    np.testing.assert_array_equal(claim.gap(lambda row, metric: values[row, metric]), [3.0, 3.0])


def test_two_pairs_are_compared_by_their_gaps():
    claim = claims()["align-gains-more-at-stride-32"]
    values = {"T2d.align": 9.0, "T2d.pool": 5.0, "T2c.alignave": 8.0, "T2c.pool": 7.0}
    assert claim.gap(lambda row, metric: values[row]) == 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [["T2c.alignave", "T2c.pol"]]}, "Row 'T2c.pol' does not exist. Did you mean"),
        ({"rows": [["T2c.pool"]]}, "c: rows has ['T2c.pool'], which is no pair of row ids."),
        ({"rows": []}, "c: rows needs one or two pairs, not 0."),
        ({"quantity": "APP"}, "c: metric 'APP' does not exist. Did you mean 'AP'"),
        ({"quantity": "AP - AP50 - AP75"}, "'AP - AP50 - AP75' has 3 metrics: write one, or two"),
        ({"quantity": "bbAP"}, "c: the paper has no bbAP for row T2c.alignave."),
        ({"direction": "<"}, "c: direction '<' is none of >, ≥, ≈."),
        ({"rows": [["T2c.pool", "T2c.pool"]]}, "c: rows compares 'T2c.pool' with itself"),
        (
            {"rows": [["T2c.alignave", "T2c.pool"]] * 2},
            "c: rows subtracts ('T2c.alignave', 'T2c.pool') from itself",
        ),
        ({"quantity": "AP - AP"}, "c: quantity subtracts 'AP' from itself"),
        *(
            (
                {"direction": "≈", "margin": margin, "margin_reason": "r"},
                f"c: margin must be a finite number of AP points above 0, not {margin}.",
            )
            for margin in (-1.5, 0.0, float("nan"), float("inf"))
        ),
        ({"direction": "≈"}, "c lacks 'margin'."),
        ({"direction": "≈", "margin": 1.5}, "c lacks 'margin_reason'."),
        ({"margin": 1.5}, "c has an unknown key 'margin'."),
    ],
)
def test_a_wrong_claim_is_refused_with_its_place(change, message):
    good = {
        "statement": "s",
        "rows": [["T2c.alignave", "T2c.pool"]],
        "quantity": "AP",
        "direction": ">",
    }
    with pytest.raises(TableError) as error:
        parse_claim("c", Node({**good, **change}, "c"))
    assert message in str(error.value)
