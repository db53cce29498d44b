"""The notebook runs from top to bottom, and what is stored in it is small, clean and of such a run."""

import json
import re

import pytest

from tests.helpers.paths import ROOT

NOTEBOOK = ROOT / "examples" / "own_pictures.ipynb"
LARGEST = 300_000
"""Bytes."""
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:home|tmp|root|Users|usr|opt|private|var|work)\b|\b[A-Z]:\\\\")


@pytest.fixture(scope="module")
def cells():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def outputs(cells):
    return [output for cell in cells for output in cell["outputs"]]


def test_it_has_ten_cells_that_were_run_in_their_order(cells):
    assert [cell["execution_count"] for cell in cells] == list(range(1, 11))


def test_stored_outputs_are_small_and_without_errors_or_places(cells):
    assert NOTEBOOK.stat().st_size < LARGEST
    assert not [o for o in outputs(cells) if o["output_type"] == "error" or "Traceback" in str(o)]
    assert not ABSOLUTE.findall(json.dumps([cells, outputs(cells)]))
    assert sum("image/png" in output.get("data", {}) for output in outputs(cells)) == 2


@pytest.mark.parametrize(
    ("text", "count"), [("in /tmp/a and /home/me", 2), ("output/tmp <https://a/tmp>", 0)]
)
def test_absolute_paths_are_told_from_others(text, count):
    assert len(ABSOLUTE.findall(text)) == count


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path):
    for module in ("nbformat", "nbclient", "ipykernel"):
        pytest.importorskip(module, reason="needs pip install 'maskrcnn-repro[notebook]'")
    from tests.helpers.notebook import run_notebook

    notebook = run_notebook(NOTEBOOK, tmp_path.resolve())
    run = tmp_path / "output" / "train"
    assert json.loads((run / "results.json").read_text())["metrics"]["segm"]["AP"] > 10
    assert (run / "evaluation.html").is_file()
    predictions = json.loads((tmp_path / "output/predictions/predictions.json").read_text())
    assert len(predictions["images"]) == 8
    assert predictions["annotations"]

