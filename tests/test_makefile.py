"""The targets of the Makefile, with an interpreter that only writes down how it is called."""

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

INTERPRETER = """#!/bin/sh
case "$*" in *tomllib*) exit ${OLD:-0};; esac
echo "$* [$PYTHONPATH|$MASKRCNN_REPRO_BACKEND]" >> calls
case "$*" in
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip";;
    *train_net.py*) test -e broken && exit 3; mkdir -p output/mini/mask_rcnn_fpn
                    echo > output/mini/mask_rcnn_fpn/predictions.png;;
esac
"""
INSTALLED = ["-m venv .venv", "-m pip install --quiet --editable .[test]"]
TESTED = "-m pytest --numprocesses 2 --dist loadfile"
TRAINED = "train_net.py --config-file configs/mini/mask_rcnn_fpn.yaml --resume"


class Checkout:
    """A folder with the Makefile, whose commands are written down instead of carried out."""

    def __init__(self, folder):
        self.folder, self.python = folder, folder / "python"
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "scripts").mkdir()
        (folder / "scripts" / "oldest_requirements.py").touch()
        self.python.write_text(INTERPRETER)
        self.python.chmod(0o755)

    def make(self, *words, **environment):
        """Return the finished process and the calls of Python that it led to."""
        path = os.environ["PATH"]
        process = subprocess.run(
            ["make", f"PYTHON={self.python}", *words],
            cwd=self.folder,
            # Not all of ours: a make that runs this test would pass its own flags on.
            env={"PATH": path, "PYTHONPATH": "x", "MASKRCNN_REPRO_BACKEND": "x", **environment},
            check=False,
            capture_output=True,
            text=True,
        )
        log = self.folder / "calls"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return process, calls


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def bare(calls):
    """Return the calls without their environment, which no Detectron2 and no path of the caller's reaches."""
    assert all(call.endswith(" [|]") for call in calls)
    return [call.removesuffix(" [|]") for call in calls]


def test_tests_run_in_an_environment_that_is_made_once(checkout):
    assert bare(checkout.make("test")[1]) == [*INSTALLED, TESTED]
    process, calls = checkout.make("test")
    assert bare(calls) == [TESTED]
    assert process.stdout == "Running the default tests (two to six minutes on two cores)\n"


def test_new_requirements_are_installed_into_the_same_environment(checkout):
    checkout.make("test")
    later = (checkout.folder / ".venv" / "test.stamp").stat().st_mtime + 1
    os.utime(checkout.folder / "pyproject.toml", (later, later))
    assert bare(checkout.make("test")[1]) == [INSTALLED[1], TESTED]


def test_the_demo_trains_once_and_names_its_picture(checkout):
    process, calls = checkout.make("demo")
    assert bare(calls) == [*INSTALLED, TRAINED]
    picture = f"{checkout.folder.resolve()}/output/mini/mask_rcnn_fpn/predictions.png"
    assert picture in process.stdout
    process, calls = checkout.make("demo")
    assert calls == []
    assert picture in process.stdout


def test_an_interrupted_demo_goes_on(checkout):
    broken = checkout.folder / "broken"
    broken.touch()
    process, calls = checkout.make("demo")
    assert process.returncode != 0
    assert bare(calls)[-1] == TRAINED
    broken.unlink()
    process, calls = checkout.make("demo")
    assert (process.returncode, bare(calls)) == (0, [TRAINED])


def test_another_detectron2_is_named_openly(checkout):
    package = checkout.folder / "other" / "detectron2"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    _, calls = checkout.make("test", "DETECTRON2=other")
    assert calls[-1] == f"{TESTED} [{package.parent.resolve()}|]"
    process, calls = checkout.make("test", "DETECTRON2=nowhere")
    assert (process.returncode, calls) == (2, [])
    assert "DETECTRON2=nowhere holds no package detectron2" in process.stderr


def test_an_old_python_leaves_no_environment(checkout):
    process, calls = checkout.make("test", OLD="1")
    assert (process.returncode, calls) == (2, [])
    assert "is not Python 3.11 or later: name one, make PYTHON=python3.12" in process.stdout
    assert not (checkout.folder / ".venv").exists()


def test_oldest_versions_have_an_environment_of_their_own(checkout):
    assert bare(checkout.make("test-oldest")[1]) == [
        "scripts/oldest_requirements.py",
        "-m venv .venv-oldest",
        "-m pip install --quiet --constraint .venv-oldest/oldest.txt --editable .[test]",
        TESTED,
    ]


def test_help_names_all_targets_and_hosted_ci_calls_no_others(checkout):
    process, _ = checkout.make()
    named = set(re.findall(r"^  (\S+) ", process.stdout, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named == set(phony.split())
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    called = set(re.findall(r"run: make (\S+)", workflow))
    assert {"test", "test-slow", "test-oldest", "lint", "docs"} == called <= named


def test_oldest_requirements():
    script = runpy.run_path(str(ROOT / "scripts" / "oldest_requirements.py"))
    requirements = ["torch>=2.6", "torchvision", "a-b[c] >= 1.2.post3", "d>=2,<3", "e==4.*"]
    assert script["pin_oldest"](requirements) == ["torch==2.6", "a-b==1.2.post3", "d==2"]
