"""An RPN that was trained once and whose record is kept with the code."""

import json
import shutil
from dataclasses import replace

import maskrcnn_repro
from maskrcnn_repro import _location
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.retrained import recipe_of

from tests.helpers.fake_runs import write_run

ONE, TWO = "1" * 64, "2" * 64
"""Digests of weights."""
CODE = {"backend": {"name": maskrcnn_repro.BACKEND.name}, "commit": "c" * 40, "torch": "2.15.0"}


def keep(stage):
    """Write the kept record of a run by hand."""
    tree = json.loads(stage.results.read_text())
    tree |= {"record": f"run of {stage.key}", "recipe_sha256": recipe_of(stage.config)}
    file = kept() / "paper" / maskrcnn_repro.BACKEND.name / f"{stage.key}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(tree))


def gone(fake, folder):
    """Let runs be those of another checkout, where there are none."""
    shutil.rmtree(fake.setting.folder)
    fake.setting = replace(fake.setting, root=folder / "elsewhere")
    return fake


def kept():
    return _location.RESULTS


def train_rpn(fake, **changed):
    """Write the trained RPN and its proposals."""
    rpn, *_ = plan(["rpn"], [1], fake.setting, fake.experiments).stages
    rpn.write_note()
    write_run(rpn, metrics={"box_proposals": {"AR@100": 50.0}}, **{"code": CODE, **changed})
    return rpn
