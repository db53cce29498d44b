"""Kept records that do not stand for their place: of another recipe or data, damaged, or no file at all."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from maskrcnn_repro import _location
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.gather import gather
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.retrained import (
    NO_RECIPE,
    OTHER_RECIPE,
    _check_place,
    fitting_record,
    kept_record,
)

import pytest

from tests.helpers.fake_runs import Fake
from tests.helpers.kept_rpn import CODE, ONE, gone, keep, kept, train_rpn


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An RPN whose record is kept; there are no runs."""
    monkeypatch.setattr(_location, "RESULTS", tmp_path / "results")
    fake = Fake(tmp_path, monkeypatch)
    keep(train_rpn(fake, weights_sha256=ONE))
    return gone(fake, tmp_path)


def changed_record(stage, changed):
    """Change the kept record of a stage; return its file."""
    (file,) = kept().rglob("rpn/seed1.json")
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({**tree, **changed}))
    return file


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"recipe_sha256": "f" * 64}, OTHER_RECIPE),
        ({"iterations": 9}, OTHER_RECIPE),
        ({"recipe_sha256": None, "config_sha256": "f" * 64}, NO_RECIPE),
        ({"recipe_sha256": None, "iterations": 9}, OTHER_RECIPE),
    ],
)
def test_why_a_kept_record_does_not_stand_for_a_stage(fake, changed, why):
    (stage,) = plan(["rpn"], [1], fake.setting, fake.experiments).stages
    assert fitting_record(stage) == (kept_record(stage), "")
    changed_record(stage, changed)
    assert fitting_record(stage) == (None, why)


def recall(value):
    return {"metrics": {"mini_coco_val": {"box_proposals": {"AR@100": value}}}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 7}, "contradicts its place: its seed is 7, not 1."),
        ({"level": "small"}, "contradicts its place: its level is 'small', not 'paper'."),
        ({"experiment": "a"}, "contradicts its place: its experiment is 'a', not 'rpn'."),
        ({"code": {**CODE, "backend": {"name": "other"}}}, "contradicts its place: its backend is"),
        (recall(3000), "holds a box_proposals AR@100 of 3000, which is not from 0 to 100 points."),
        ({"record": None}, "is no kept record: it lacks 'record', which names its run."),
        ({"train_seconds": 1e300}, "is no result of this project: 1e+300 seconds are none that"),
        ({"train_seconds": -1}, "is no result of this project: -1 seconds are none that"),
        (
            {"written": "2026\x1b[31m"},
            "is no result of this project: '2026\\x1b[31m' has characters",
        ),
        ({"commit": "\ud83d"}, "cannot be read: it holds half a character."),
        ({"seed": True}, "is no result of this project: True is no whole number."),
        ({"written": 5}, "is no result of this project: 5 is no text."),
        ({"overrides": ["SEED"]}, "contradicts its place: its overrides are ['SEED'], not []."),
        ({"overlays": ["a.yaml"]}, "contradicts its place: its overlays are ['a.yaml'], not []."),
        (
            {"metrics": {"other": {"box_proposals": {"AR@100": 50.0}}}},
            "contradicts its place: its metrics are of other, not of mini_coco_val.",
        ),
        (
            {"metrics": {}},
            "contradicts its place: its metrics are of no data set, not of mini_coco_val.",
        ),
        (
            {"metrics": {"mini_coco_val": {"segm": {}}}},
            "holds no metric of data set mini_coco_val.",
        ),
        (recall(-1), "holds a box_proposals AR@100 of -1, which is not from 0 to 100 points."),
    ],
)
def test_a_kept_record_that_contradicts_its_place_is_told(fake, changed, said):
    (stage,) = plan(["rpn"], [1], fake.setting, fake.experiments).stages
    file = changed_record(stage, changed)
    with pytest.raises(TableError, match=f"^{re.escape(f'{file} {said}')}"):
        kept_record(stage)
    gathered = gather(["rpn"], fake.setting, fake.experiments, kept=True)
    assert gathered.records == {}
    (text,) = gathered.refused["rpn"]
    assert text.startswith(f"{file}: {said}"[:-1])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.mkdir, "cannot be read: Is a directory"),
        (os.mkfifo, "cannot be read: it is a pipe"),
        (lambda file: file.symlink_to("nowhere"), "cannot be read: No such file or directory"),
        (
            lambda file: file.write_bytes(b"{\xff"),
            "cannot be read: 'utf-8' codec can't decode byte",
        ),
    ],
)
def test_what_is_no_file_in_the_place_of_a_record_is_told(fake, make, said):
    (file,) = kept().rglob("rpn/seed1.json")
    file.unlink()
    make(file)
    (text,) = gather(["rpn"], fake.setting, fake.experiments, kept=True).refused["rpn"]
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert text.startswith(f"{file}: {said}")
    assert text.count(str(file)) == 1


def test_overrides_are_compared_as_a_record_keeps_them_without_folders(fake):
    (stage,) = plan(["rpn"], [1], fake.setting, fake.experiments).stages
    record, mine = kept_record(stage), ("MODEL.RPN.HEAD_NAME", "/home/me/heads/Mine")
    setting = replace(stage.setting, overrides=mine)
    place = SimpleNamespace(
        setting=setting, seed=1, experiment=stage.experiment, config=stage.config
    )
    _check_place({"overrides": ["MODEL.RPN.HEAD_NAME", "Mine"]}, record, place)
    with pytest.raises(TableError, match=r"its overrides are \['MODEL.RPN.HEAD_NAME', 'Other'\]"):
        _check_place({"overrides": ["MODEL.RPN.HEAD_NAME", "Other"]}, record, place)
