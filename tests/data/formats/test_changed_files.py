"""Real files with one value changed to another: converted, or refused in one sentence, never a traceback."""

import copy
import json
import random
import re
import shutil

from maskrcnn_repro.data.formats.convert import Request, convert
from maskrcnn_repro.errors import UserError

import pytest

from tests.data.formats.test_real_files import COPY, CVAT, ROBOFLOW, VIA
from tests.helpers.label_files import stored

VALUES = [
    *(None, True, False, 0, -1, 1, 1.5, 2**63, 10**400, 1e308, float("nan"), float("inf")),
    *("", "a", "1", "../x", "\0", "\ud800", [], {}, [[]], [None], {"a": 1}, [[1, 2]], [1, 2, 3, 4]),
]
SOURCES = {
    "roboflow": ("train/_annotations.coco.json", {ROBOFLOW: (640, 640), COPY: (640, 640)}),
    "cvat_coco": ("annotations/instances_val.json", {"images/val/b.jpg": (5, 10)}),
    "labelme": ("2011_000025.json", {"2011_000025.jpg": (500, 375)}),
    "via": ("annotation2.json", VIA),
    "labelstudio": ("data.json", {"test_image1.jpg": (500, 320)}),
}
TEXTS = {
    "via": ("annotation1.csv", VIA),
    "cvat": ("annotations.xml", CVAT),
    "yolo": ("data.yaml", {"images/train/1.jpg": (10, 20)}),
}


def places(tree, path=()):
    """Paths of all values of a tree."""
    if path:
        yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def changed(tree, path, value, drop):
    tree = copy.deepcopy(tree)
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    if drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return tree


def attempt(file, out):
    """Convert; a user's error is as good as a result."""
    shutil.rmtree(out, ignore_errors=True)
    try:
        lines = convert(Request(file, out)).losses.lines()
    except UserError as error:
        lines = [str(error)]
    assert all(line.isprintable() for line in lines)
    return out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_one_value_of_a_tree(tmp_path, name):
    file, images = SOURCES[name]
    path = stored(name, tmp_path, images) / file
    tree = json.loads(path.read_text(encoding="utf-8"))
    draw = random.Random(0)
    all_places = list(places(tree))
    outcomes = set()
    for _ in range(400):
        place, value = draw.choice(all_places), draw.choice(VALUES)
        path.write_text(json.dumps(changed(tree, place, value, draw.random() < 0.1)))
        outcomes.add(attempt(path, tmp_path / "out"))
    assert outcomes == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_one_word_of_a_text(tmp_path, name):
    file, images = TEXTS[name]
    path = stored(name, tmp_path, images) / file
    text = path.read_text(encoding="utf-8")
    words = list(re.finditer(r"[\w.]+|[^\w\s]", text))
    draw = random.Random(0)
    outcomes = set()
    for _ in range(300):
        word = draw.choice(words)
        value = draw.choice(
            ["", "-1", "1e999", "nan", "x", '"', "<", "{", ",", "9" * 400, "&b;", "\0"]
        )
        path.write_text(text[: word.start()] + value + text[word.end() :], encoding="utf-8")
        outcomes.add(attempt(path, tmp_path / "out"))
    assert outcomes == {True, False}
