"""Changes of the code that tests must notice: the lists fit the code, and the script tells what it should."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
LISTS = sorted(ROOT.glob("tests/stored/survivors*.yaml"))
CHANGES = [entry for path in LISTS for entry in yaml.safe_load(path.read_text())]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "check_survivors", ROOT / "scripts/check_survivors.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


# --- the lists


@pytest.mark.parametrize("change", CHANGES, ids=[change["name"] for change in CHANGES])
def test_a_change_fits_the_code_and_its_tests_exist(change):
    assert (ROOT / change["file"]).read_text().count(change["find"]) == 1
    assert change["replace"] != change["find"]
    assert change["tests"]
    for test in change["tests"]:
        path, *names = test.partition("[")[0].split("::")
        text = (ROOT / path).read_text()
        assert [name for name in names if f" {name}(" not in text] == []


def test_every_change_has_a_name_of_its_own():
    names = [change["name"] for change in CHANGES]
    assert sorted(set(names)) == sorted(names)


# --- the script, on a tree of one function: each runs pytest in processes of its own


def small_tree(root, *changes):
    (root / "projects").mkdir(parents=True)
    (root / "tests/stored").mkdir(parents=True)
    (root / "projects/sums.py").write_text("def plus(a, b):\n    return a + b\n")
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["projects"]\n')
    (root / "tests/test_sums.py").write_text(
        "from sums import plus\n\ndef test_plus():\n    assert plus(2, 2) == 4\n"
    )
    (root / "tests/stored/survivors.yaml").write_text(yaml.safe_dump(list(changes)))


def change_of_plus(replace, find="a + b", test="test_plus"):
    return {
        "name": replace,
        "file": "projects/sums.py",
        "find": find,
        "replace": replace,
        "tests": [f"tests/test_sums.py::{test}"],
    }


@pytest.mark.slow
def test_a_change_is_noticed_only_if_a_test_runs_and_fails(script, tmp_path, capsys):
    # "a +" is no Python.
    small_tree(tmp_path, *map(change_of_plus, ["a - b", "a +"]))
    before = (tmp_path / "projects/sums.py").read_text()
    assert script.main([], tmp_path) == 1
    printed = capsys.readouterr().out
    assert "a - b: noticed by tests/test_sums.py::test_plus (1)" in printed
    assert "a +: NOT NOTICED: pytest could not run them (exit status" in printed
    assert "1 of 2 changes noticed" in printed
    assert (tmp_path / "projects/sums.py").read_text() == before


@pytest.mark.slow
def test_the_changes_that_are_named_alone(script, tmp_path, capsys):
    # 2 * 2 is 4, too.
    small_tree(tmp_path, change_of_plus("a - b"), change_of_plus("a * b"))
    assert script.main(["--only", "a * b"], tmp_path) == 1
    printed = capsys.readouterr().out
    assert "a * b: NOT NOTICED: all tests pass" in printed
    assert "0 of 1 changes noticed" in printed


@pytest.mark.slow
def test_messages(script, tmp_path, capsys):
    small_tree(tmp_path / "a", change_of_plus("a - b", find="b + a"))
    assert script.main([], tmp_path / "a") == 1
    assert "`find` occurs 0 times in projects/sums.py, not once" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        script.main(["--only", "plus"], tmp_path / "a")
    assert "--only 'plus' is no change of tests/stored" in capsys.readouterr().err
    small_tree(tmp_path / "b", change_of_plus("a - b", test="test_minus"))
    assert script.main([], tmp_path / "b") == 1
    assert "the tests do not pass without a change: pytest could not run" in capsys.readouterr().out
