"""A claim in words on the page: its rows by name, and the gaps for which it holds."""

from dataclasses import replace

from maskrcnn_repro.tables.report.html.claims import band, compared

from tests.helpers.html_runs import VERDICTS

MINUS = "\N{MINUS SIGN}"


def test_a_claim_names_its_rows_by_their_tables():
    names = {"T.a": ("A", "1"), "T.b": ("B", "1"), "T.c": ("C", "2")}
    pairs = (("T.a", "T.b"), ("T.c", "T.x"))
    verdict = replace(VERDICTS[0], rows=pairs, quantity="AP - bbAP")
    said = compared(verdict, names, {"AP": "AP", "bbAP": "AP bb"})
    assert said == (
        f"AP {MINUS} AP bb: A against B (1); this gap against that of C (2) against T.x"
    )


def test_the_gaps_for_which_a_claim_holds():
    verdict = VERDICTS[0]
    assert band(verdict) == (0.0, float("inf"))
    assert band(replace(verdict, direction="≈", margin=1.5)) == (-1.5, 1.5)
