"""Reports of made-up runs are written as they are stored: to the byte, and, apart from that, in their numbers."""

import json

import maskrcnn_repro  # noqa: F401

import pytest

from tests.helpers.golden_runs import (
    FOLDER,
    NUMBERS,
    OUTCOMES,
    SCENES,
    all_numbers,
    numbers_of,
    rounded,
    stored,
    without_pictures,
)


# The files name the backend.
@pytest.mark.embedded_only
@pytest.mark.parametrize("name", SCENES)
def test_a_report_is_written_as_it_is_stored(name, tmp_path, monkeypatch, catalog):
    texts = SCENES[name](tmp_path, monkeypatch)
    expected = stored(name)
    assert texts.keys() == expected.keys(), "run scripts/record_golden.py if that is meant"
    for file, text in texts.items():
        assert text == expected[file], f"{file}: run scripts/record_golden.py if that is meant"


def test_numbers_and_outcomes_are_the_stored_ones_whatever_the_words():
    expected, now = json.loads(NUMBERS.read_text()), all_numbers()
    assert now.keys() == expected.keys(), "run scripts/record_golden.py --numbers if that is meant"
    for name, numbers in now.items():
        assert numbers == expected[name], name


def test_the_stored_reports_have_every_outcome():
    outcomes = {
        claim["outcome"]
        for name, numbers in all_numbers().items()
        if name.startswith("golden/")
        for claim in numbers["claims"].values()
    }
    assert outcomes == set(OUTCOMES)


def test_numbers_are_read_without_words():
    cells = {"AP": {"paper": 30.3, "ours": {"mean": 1.23456789, "spread": None, "seeds": [1]}}}
    claim = {
        "id": "c",
        "statement": "So.",
        "outcome": "holds",
        "margin": 0.0,
        "paper_gap": 3.4,
        "gap": 2.0,
        "interval": {"low": 1.0, "high": 3.0},
        "note": "one seed",
    }
    tree = {"baseline_row": "r", "rows": [{"id": "r", "name": "A row", "cells": cells}]}
    assert numbers_of({**tree, "claims": [claim]}) == {
        "baseline": "r",
        "rows": {
            "r": {"AP": {"paper": 30.3, "ours": {"mean": 1.234568, "spread": None, "seeds": [1]}}}
        },
        "claims": {
            "c": {
                "outcome": "holds",
                "margin": 0.0,
                "paper_gap": 3.4,
                "gap": 2.0,
                "interval": {"low": 1.0, "high": 3.0},
            }
        },
    }


def test_what_differs_between_machines_is_left_out():
    assert rounded('"mean": 69.99999999999999, -0.12345678, 1.5') == '"mean": 70.0, -0.123457, 1.5'
    page = '<img src="data:image/webp;base64,AAA/+="><svg aria-label="A plot"><text x="1">B</text></svg>'
    assert without_pictures(page) == '<img src="data:image/webp"><svg>A plot | B</svg>'


def test_stored_files_name_no_folder_of_a_machine():
    for path in FOLDER.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert "/home" not in text
        assert "/tmp" not in text
