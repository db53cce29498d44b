"""A copy of a COCO file that trains: what is defective is mended or left out, one kind after the other."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.images import header_of
from maskrcnn_repro.data.check.mends import MENDS
from maskrcnn_repro.data.check.records import FIELDS, LARGEST, Record, find_repeated
from maskrcnn_repro.data.check.scan import Scan, scan_tree
from maskrcnn_repro.data.check.table import FEATURES, defects
from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.errors import DataError

STAND_INS: dict[tuple[str, str], Any] = {
    ("images", "height"): 0,
    ("images", "width"): 0,
    ("annotations", "id"): 0,
    ("annotations", "bbox"): [],
    ("annotations", "area"): 0,
}
"""For a field without a value of its type: a value that the mend of the defect which it makes replaces."""

_LISTS = ("list-absent", "annotations-absent", "list-type")
"""Defects that no mend can do with: each reads the lists of the file."""


def fix_tree(
    scan: Scan, features: frozenset[str] = FEATURES - {"keypoints"}
) -> tuple[Record, dict[str, int]]:
    """Return a tree without the defects that can be mended, and how often each kind was.

    Args:
        scan: of the file; its tree is changed.
        features: those of :data:`FEATURES` that the config has.

    Raises:
        DataError: an error is left that only the user can mend.
    """
    tree = scan.tree
    if tree is None:
        raise DataError(_cannot(scan.findings, scan.findings.codes()[0]))
    if lacking := [code for code in _LISTS if code in scan.findings]:
        raise DataError(_cannot(scan.findings, lacking[0]))
    counts: dict[str, int] = {}
    while (code := _choose_next(scan.findings, counts, features)) is not None:
        counts[code] = scan.findings.count(code)
        full = [key for key in FIELDS if tree.get(key)]
        _fix(tree, scan.root, code, scan.findings.places[code])
        if emptied := [key for key in full if not tree[key]]:
            reason = scan.findings.sentence(code)
            raise DataError(f"No copy can mend this: it would have no {emptied[0]}. {reason}")
        # Headers were read: what they showed is mended first.
        headers = defects()[code].of == "image" or not scan.complete
        scan = scan_tree(tree, scan.root, Findings(scan.file), headers=headers)
    for row in scan.findings.of_severity("error", "train", features):
        raise DataError(_cannot(scan.findings, row.code))
    return tree, counts


def _cannot(findings: Findings, code: str) -> str:
    return f"No copy can mend this. {findings.sentence(code)}"


def _choose_next(findings: Findings, done: dict[str, int], features: frozenset[str]) -> str | None:
    """Return the first code that can be mended and was not; nothing is left out for a head that is not there."""
    for code in findings.codes():
        row = defects()[code]
        idle = row.fix.startswith("drop") and row.needs and row.needs not in features
        if row.fix and not idle and code not in done:
            return code
    return None


def _fix(tree: Record, root: Path, code: str, places: list[Any]) -> None:
    fix = defects()[code].fix
    if fix in MENDS:
        images = {image["id"]: image for image in tree["images"]}
        wanted, mend = set(places), MENDS[fix]
        tree["annotations"] = [
            a
            for a in tree["annotations"]
            if a["id"] not in wanted or mend(a, images[a["image_id"]])
        ]
    elif fix == "drop annotation":
        _drop(tree, "annotations", places)
    elif fix == "drop category":
        _drop(tree, "categories", places, twice=code == "category-id-twice")
    elif fix == "drop image":
        _drop(tree, "images", places, twice=code == "image-id-twice")
    elif fix in WHOLE:
        WHOLE[fix](tree, root, places)


def _drop(tree: Record, key: str, places: list[Any], *, twice: bool = False) -> None:
    """Leave records out; those with an id that an earlier one has, or all with these ids."""
    if twice:
        again = {id(record) for record in find_repeated(tree[key], lambda record: record["id"])}
        tree[key] = [record for record in tree[key] if id(record) not in again]
        return
    wanted = set(places)
    tree[key] = [record for record in tree[key] if record["id"] not in wanted]
    if key == "images":
        tree["annotations"] = [a for a in tree["annotations"] if a["image_id"] not in wanted]


def _fix_fields(tree: Record, root: Path, places: list[str]) -> None:
    """Numbers in quotes become numbers and names quoted; what a later mend finds out stands in; else the record goes."""
    _number_texts(tree, "images", "image_id")
    _number_texts(tree, "categories", "category_id")
    wrong: dict[str, set[int]] = {}
    for place in dict.fromkeys(places):
        match = re.fullmatch(r"(\w+)\[(\d+)\]", place)
        assert match is not None
        record = tree[match[1]][int(match[2])]
        if not isinstance(record, dict) or not all(
            _mend_type(match[1], record, field, kinds) for field, kinds in FIELDS[match[1]].items()
        ):
            wrong.setdefault(match[1], set()).add(int(match[2]))
    for key, indices in wrong.items():
        tree[key] = [record for index, record in enumerate(tree[key]) if index not in indices]


def _number_texts(tree: Record, key: str, reference: str) -> None:
    """Number records from 1 whose ids are all texts and not all digits, there and where annotations name them."""
    ids = [record.get("id") for record in tree[key] if isinstance(record, dict)]
    if {type(text) for text in ids} != {str} or all(str(text).isdigit() for text in ids):
        return
    numbers = {text: number for number, text in enumerate(dict.fromkeys(ids), start=1)}
    for records, field in ((tree[key], "id"), (tree["annotations"], reference)):
        for record in records:
            if isinstance(record, dict) and isinstance(record.get(field), str):
                record[field] = numbers.get(record[field], record[field])


def _mend_type(key: str, record: Record, field: str, kinds: tuple[type, ...]) -> bool:
    """Whether a field of a record in the list ``key`` has one of these types, after a try to give it one."""
    value = record.get(field)
    if type(value) is int and str in kinds:
        value = str(value)
    elif isinstance(value, str | float) and kinds[0] is int and type(value) not in kinds:
        with suppress(ValueError):
            value = float(value)
            value = int(value) if value.is_integer() else value
    if type(value) not in kinds or (type(value) is int and abs(value) > LARGEST):
        value = copy(STAND_INS.get((key, field)))
    record[field] = value
    return value is not None


def _fix_image_sizes(tree: Record, root: Path, places: list[Any]) -> None:
    wanted = set(places)
    for image in tree["images"]:
        if image["id"] in wanted:
            with suppress(ImageError):
                image["width"], image["height"] = header_of(root / image["file_name"]).size


def _join_images(tree: Record, root: Path, places: list[Any]) -> None:
    """Give all annotations of one file to its first record."""
    first: dict[str, int] = {}
    to: dict[int, int] = {}
    for image in tree["images"]:
        # As the check compares them.
        to[image["id"]] = first.setdefault(os.path.normpath(image["file_name"]), image["id"])
    tree["images"] = [image for image in tree["images"] if to[image["id"]] == image["id"]]
    for annotation in tree["annotations"]:
        annotation["image_id"] = to[annotation["image_id"]]


def _join_categories(tree: Record, root: Path, places: list[Any]) -> None:
    """Give all annotations of one name to its first category."""
    first: dict[str, int] = {}
    to = {c["id"]: first.setdefault(c["name"], c["id"]) for c in tree["categories"]}
    tree["categories"] = [c for c in tree["categories"] if to[c["id"]] == c["id"]]
    for annotation in tree["annotations"]:
        annotation["category_id"] = to.get(annotation["category_id"], annotation["category_id"])


def _number_annotations(tree: Record, root: Path, places: list[Any]) -> None:
    for number, annotation in enumerate(tree["annotations"], start=1):
        annotation["id"] = number


def _part_crowds(tree: Record, root: Path, places: list[Any]) -> None:
    for annotation in tree["annotations"]:
        annotation["iscrowd"] = 0


def _drop_skeletons(tree: Record, root: Path, places: list[Any]) -> None:
    for category in tree["categories"]:
        category.pop("skeleton", None)


def _add_keypoints(tree: Record, root: Path, places: list[Any]) -> None:
    count = max(len(c.get("keypoints") or ()) for c in tree["categories"])
    for annotation in tree["annotations"]:
        values = annotation.setdefault("keypoints", [0] * 3 * count)
        annotation["num_keypoints"] = sum(visibility > 0 for visibility in values[2::3])


WHOLE = {
    "drop record": _fix_fields,
    "field type": _fix_fields,
    "image size": _fix_image_sizes,
    "image file twice": _join_images,
    "category name twice": _join_categories,
    "annotation ids": _number_annotations,
    "all crowd": _part_crowds,
    "skeleton": _drop_skeletons,
    "keypoints absent": _add_keypoints,
    "mended": lambda tree, root, places: None,
}
"""Name in the column ``fix`` of the table -> mend of the whole tree."""
