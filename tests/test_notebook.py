"""The notebook runs from top to bottom, and what is stored in it is small, clean and of such a run.

``python scripts/record_notebook.py`` stores the outputs anew.
"""

import json
import re

import pytest

from tests.helpers.paths import ROOT

NOTEBOOK = ROOT / "examples" / "own_pictures.ipynb"
LARGEST = 300_000
"""Bytes."""
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|tmp|root|Users|usr|opt|private|var|work)\b|\b[A-Z]:\\")


@pytest.fixture(scope="module")
def cells():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def outputs(cells):
    return [output for cell in cells for output in cell["outputs"]]


def texts(cells):
    """Sources, streams and results, pictures left out."""
    yield from ("".join(cell["source"]) for cell in cells)
    for output in outputs(cells):
        yield "".join(output.get("text", ""))
        for kind, content in output.get("data", {}).items():
            yield "" if kind == "image/png" else "".join(content)


def test_it_has_ten_cells_that_were_run_in_their_order(cells):
    assert [cell["execution_count"] for cell in cells] == list(range(1, 11))


def test_stored_outputs_are_small_and_without_errors(cells):
    assert NOTEBOOK.stat().st_size < LARGEST
    assert not [output for output in outputs(cells) if output["output_type"] == "error"]
    assert not [text for text in texts(cells) if "Traceback" in text or "Error:" in text]
    assert sum("image/png" in output.get("data", {}) for output in outputs(cells)) == 2


def test_no_place_on_a_machine_is_stored(cells):
    assert not ABSOLUTE.findall("\n".join(texts(cells)))


@pytest.mark.parametrize(
    ("text", "count"),
    [("in /tmp/a and\n/home/me", 2), (r"C:\Users", 1), ("output/tmp https://a/tmp", 0)],
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
    assert json.loads((run / "results.json").read_text())["metrics"]["val"]["segm"]["AP"] > 10
    assert (run / "evaluation.html").is_file()
    predictions = json.loads((tmp_path / "output/predictions/predictions.json").read_text())
    assert len(predictions["images"]) == 8
    assert predictions["annotations"]
    assert notebook.cells[-2].outputs[0].text.count("\n") > 5  # a line for each kind of error
