"""Files of labelling tools for tests: the stored real ones with blank images, and small ones made here."""

import json
import shutil

from maskrcnn_repro.data.formats.convert import Request, convert

from PIL import Image

from tests.helpers.paths import ROOT

STORED = ROOT / "tests/stored/formats"


def blank(path, width, height):
    """Write a black image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)


def stored(name, folder, images):
    """Copy a stored source to a folder, with blank images {path: (W, H)} beside, and return it."""
    source = folder / name
    shutil.copytree(STORED / name, source)
    for path, size in images.items():
        blank(source / path, *size)
    return source


def written(folder, name, content):
    """Write a file, a tree as JSON, and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def converted(source, out, **fields):
    """Convert; return what was said and the tree of each part."""
    result = convert(Request(source, out, **fields))
    trees = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    return result, trees


def lost(result):
    """Code to how often something was changed or left out."""
    return {code: len(places) for code, places in result.losses.places.items()}


def classes(tree):
    """The classes by name to the ids of their objects."""
    names = {c["id"]: c["name"] for c in tree["categories"]}
    by_name = {name: [] for name in names.values()}
    for annotation in tree["annotations"]:
        by_name[names[annotation["category_id"]]].append(annotation["id"])
    return by_name
