"""The text of a user's error is one line that any terminal can show."""

from maskrcnn_repro import errors

import pytest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a.json: 'größe' does not exist.", "a.json: 'größe' does not exist."),
        (
            "is no YAML: while scanning\n    in a.yaml,\nline 1",
            "is no YAML: while scanning in a.yaml, line 1",
        ),
        ("holds \x1b[2J\0", "holds \\x1b[2J\\x00"),
        ("a \ud800 \u2028 b", "a \\ud800 \\u2028 b"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("kind", [errors.DataError, errors.OutputError, errors.PluginError])
def test_what_a_file_holds_does_not_reach_the_terminal(kind, text, shown):
    assert str(kind(text)) == shown


def test_values_and_names_are_cut_to_what_a_line_can_show():
    assert errors.shorten("a" * 100) == f"'{'a' * 75} ..."
    assert errors.shorten([1] * 3, limit=9) == "[1, 1, 1]"
    assert errors.listing("abc", 2) == "'a', 'b' and 1 more"
    assert errors.listing("abc", 3, str) == "a, b, c"


def test_a_long_value_leaves_the_place_and_the_cure():
    text = str(errors.DataError(f"a.json: {'9' * 10**5} is too much; take less."))
    assert len(text) < errors.LONGEST
    assert text.startswith("a.json: 999")
    assert text.endswith("is too much; take less.")
