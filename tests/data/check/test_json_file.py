"""JSON window by window is what json makes of the whole text."""

import json
import math

from maskrcnn_repro.data.check import json_file
from maskrcnn_repro.data.check.json_file import read_json

import pytest

from tests.data.check.spoiling import sound

SOUND = (
    json.dumps(sound()),
    json.dumps(sound(), indent=2),
    *(
        "{}",
        " {} ",
        '{"a": []}',
        '{"a": [], "b": 3}',
        '{"a": [1234567, -1.5e+30, true, null, "x"]}',
    ),
    *("[]", "[1, 2]", "12345678", '"text"', "null"),
    '{"a": [{"b": "\\u00e4\\"] }", "ö": [[1, 2], [3]]}, {"b": {}}], "a": [Infinity]}',
)
ODD = (
    *(
        "",
        "{",
        "[",
        '{"a"',
        '{"a": [1, 2',
        '{"a": [1, 2,]}',
        '{"a": [,]}',
        '{"a": 1,}',
        '{"a": 1} x',
    ),
    *('{"a": [1 2]}', "{1: 2}", "\ufeff{}", '{"a": [{"b": 1]}', '{"a": tru}', '{"a": "'),
)


@pytest.mark.parametrize("window", [1, 7, 1 << 18])
@pytest.mark.parametrize("text", SOUND)
def test_the_tree_is_that_of_json(tmp_path, monkeypatch, window, text):
    monkeypatch.setattr(json_file, "WINDOW", window)
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    assert read_json(path) == json.loads(text)


@pytest.mark.parametrize("window", [1, 7, 1 << 18])
@pytest.mark.parametrize("text", ODD)
def test_an_error_is_that_of_json(tmp_path, monkeypatch, window, text):
    monkeypatch.setattr(json_file, "WINDOW", window)
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        json.loads(text)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_json(path)
    assert str(error.value) == str(expected.value)


def test_numbers_at_the_end_of_a_window_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "WINDOW", 8)
    path = tmp_path / "a.json"
    path.write_text('{"a": [123456789, NaN]}')
    number, nan = read_json(path)["a"]
    assert number == 123456789
    assert math.isnan(nan)


def test_names_are_shared(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [{"some name": 1}, {"some name": 2}]}')
    first, second = (next(iter(record)) for record in read_json(path)["a"])
    assert first is second
