"""A claim in words on the page: its rows by name, and the gaps for which it holds."""

from dataclasses import replace

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.html.claims import band, describe_rows
from maskrcnn_repro.tables.report.html.page import OUTCOMES, _describe_base
from maskrcnn_repro.tables.report.model import Interval, Spread
from maskrcnn_repro.tables.report.text import seeds_text

from tests.helpers.html_runs import VERDICTS, Page, report_of

MINUS = "\N{MINUS SIGN}"


def test_a_claim_names_its_rows_by_their_tables():
    names = {"T.a": ("A", "1"), "T.b": ("B", "1"), "T.c": ("C", "2")}
    pairs = (("T.a", "T.b"), ("T.c", "T.x"))
    verdict = replace(VERDICTS[0], rows=pairs, quantity="AP - bbAP")
    said = describe_rows(verdict, names, {"AP": "AP", "bbAP": "AP bb"})
    assert said == (
        f"AP {MINUS} AP bb: A against B (1); this gap against that of C (2) against T.x"
    )


def test_the_gaps_for_which_a_claim_holds():
    verdict = VERDICTS[0]
    assert band(verdict) == (0.0, float("inf"))
    assert band(replace(verdict, direction="≈", margin=1.5)) == (-1.5, 1.5)


def page_of(folder, *verdicts, **more):
    report = report_of(claims=verdicts, **more)
    write_page(folder / "report.html", [Shown(report)])
    return Page((folder / "report.html").read_text())


def test_claims_that_seeds_decide_have_holms_correction_and_the_spread_of_seeds_is_said(tmp_path):
    judged = (replace(VERDICTS[0], p=0.01), VERDICTS[3])
    page = page_of(tmp_path, *judged, spreads=(Spread("AP", 0.62, 40, 19, ("wide",)),))
    assert page.text_of("td", class_="holm") == ["by Holm 0.01: holds", "by Holm \N{EN DASH}"]
    notes = " ".join(page.text_of("li"))
    assert "With Holm's correction for 1 claim judged at once: holds 1, fails 0" in notes
    assert (
        "Standard deviation between seeds, pooled: AP 0.62 (40 degrees of freedom, 19 trainings, "
        "without wide, whose seeds lie further apart)." in notes
    )


def test_outcomes_of_several_words_are_one_class_each(tmp_path):
    names = ("images only", "too little learnt")
    page = page_of(tmp_path, *(replace(VERDICTS[3], outcome=name) for name in names))
    assert page.text_of("span", class_="chip images-only") == ["\N{WHITE SQUARE}images only"]
    assert page.text_of("span", class_="chip too-little-learnt") == ["…too little learnt"]


def test_the_margin_of_alike_stands_with_its_reason(tmp_path):
    verdict = replace(VERDICTS[2], margin_reason="Less is noise.")
    assert "Margin of third ±1.5: Less is noise." in page_of(tmp_path, verdict).text_of("li")


def test_seeds_and_images_are_counted_in_few_words_by_hand():
    interval = Interval(0.0, 1.0, 95.0, (1, 2, 3), 1000)
    assert _describe_base([]) == ""
    assert _describe_base([interval, replace(interval, seeds=(1, 2, 3, 4, 5, 6))]) == (
        "3 to 6 seeds, 1,000 test images"
    )
    assert _describe_base([replace(interval, seeds=(1,), images=9)]) == "1 seed, 9 test images"
    assert [seeds_text(seeds) for seeds in ((1,), (1, 2), (1, 2, 3), (1, 3, 4))] == [
        "seed 1",
        "seeds 1, 2",
        "seeds 1 to 3",
        "seeds 1, 3, 4",
    ]


def test_words_and_outcomes_are_explained(tmp_path):
    words = page_of(tmp_path).text_of("dt")
    for word in ("RoI", "IoU", "AP", "AP bb, AP kp", "stride", "C4, C5", "FPN", "seed"):
        assert word in words
    assert {f"{mark} {outcome}" for outcome, mark in OUTCOMES.items()} <= set(words)


def test_an_interval_of_one_seed_says_nothing_of_others(tmp_path):
    interval = Interval(0.5, 1.5, 95.0, (1,), 9)
    alone = replace(VERDICTS[0], interval=interval)
    of_seeds = replace(VERDICTS[0], interval=replace(interval, seeds=(1, 2)))
    said = "and not other training seeds (1 seed, 9 test images)"
    assert said in " ".join(page_of(tmp_path, alone).text_of("p")[0:9])
    assert said not in " ".join(page_of(tmp_path, of_seeds, alone).text_of("p"))
