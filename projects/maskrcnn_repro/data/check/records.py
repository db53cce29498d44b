"""The lists of a COCO file and the types of their fields, on which all other checks rely."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.findings import Findings, hint, shorten
from maskrcnn_repro.data.check.json_file import read_json
from maskrcnn_repro.utils.files import other_than_file

Record = dict[str, Any]

_NUMBER = (int, float)
LARGEST = 2**53
"""Beyond it programs that read numbers as float64 mix up ids."""
# Fields that Detectron2's loader or COCO's evaluation reads without a check.
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "images": {"id": (int,), "file_name": (str,), "height": (int,), "width": (int,)},
    "annotations": {
        "id": (int,),
        "image_id": (int,),
        "category_id": (int,),
        "bbox": (list,),
        "area": _NUMBER,
    },
    "categories": {"id": (int,), "name": (str,)},
}


def parse(json_file: Path, findings: Findings) -> Record | None:
    """Return the top level of a JSON file, or None after a note of why it cannot be had."""
    if kind := other_than_file(json_file):
        findings.add("file-unreadable", json_file.name, reason=f"it is {kind}")
        return None
    try:
        tree = read_json(json_file)
    except OSError as error:
        findings.add("file-unreadable", json_file.name, reason=error.strerror)
    except (ValueError, RecursionError) as error:
        findings.add("file-no-json", json_file.name, reason=error)
    else:
        if isinstance(tree, dict):
            return tree
        findings.add(
            "file-no-object",
            json_file.name,
            type=type(tree).__name__,
            hint=_name_foreign_format(tree),
        )
    return None


def _name_foreign_format(tree: Any) -> str:
    """Return what a file of another format is, in brackets; empty if that cannot be told."""
    if isinstance(tree, list):
        predicted = bool(tree) and isinstance(tree[0], dict) and "score" in tree[0]
        return " (these are predictions, which an evaluation writes)" if predicted else ""
    names = {"shapes": "labelme", "_via_img_metadata": "VIA"}
    told = next((names[name] for name in names if isinstance(tree, dict) and name in tree), "")
    return f" (it is of {told}: maskrcnn convert-data makes COCO of it)" if told else ""


def lists(tree: Record, findings: Findings) -> dict[str, list[Record]] | None:
    """Return the three lists, or None after notes of what is wrong with them or with their records' types.

    A file without ``annotations`` has an empty list of them, and a note.
    """
    result: dict[str, list[Record]] = {}
    for key in FIELDS:
        records = tree.get(key, [] if key == "annotations" else None)
        if key not in tree:
            code = "annotations-absent" if key == "annotations" else "list-absent"
            near = _name_foreign_format(tree) or hint(key, tree)
            findings.add(code, findings.file.name, list=key, hint=near)
        elif not isinstance(records, list):
            findings.add("list-type", key, list=key, type=type(records).__name__)
        if isinstance(records, list):
            result[key] = records
            _check_records(key, records, findings)
    wrong = {"list-absent", "list-type", "record-type", "field-absent", "field-type", "field-range"}
    return None if wrong & set(findings.places) else result


def _check_records(key: str, records: list[Record], findings: Findings) -> None:
    fields = FIELDS[key].items()
    for index, record in enumerate(records):
        if type(record) is not dict:
            where = f"{key}[{index}]"
            findings.add("record-type", where, where=where, type=type(record).__name__)
            continue
        for field, kinds in fields:
            value = record.get(field)
            # By type(): in Python, bool is a subclass of int.
            if type(value) not in kinds:
                _note_field(f"{key}[{index}]", record, field, kinds, findings)
            elif type(value) is int and abs(value) > LARGEST:
                where = f"{key}[{index}]"
                findings.add("field-range", where, where=where, field=field, value=shorten(value))


def _note_field(
    where: str, record: Record, field: str, kinds: tuple[type, ...], findings: Findings
) -> None:
    if field not in record:
        near = hint(field, record)
        findings.add("field-absent", where, where=where, field=field, hint=near)
        return
    value = record[field]
    findings.add(
        "field-type",
        where,
        where=where,
        field=field,
        value=shorten(value),
        type=type(value).__name__,
        expected="number" if kinds is _NUMBER else kinds[0].__name__,
    )


def find_repeated(records: Iterable[Record], key: Callable[[Record], Any]) -> list[Record]:
    """Return the records whose key an earlier one has."""
    seen: set[Any] = set()
    again = []
    for record in records:
        value = key(record)
        if value in seen:
            again.append(record)
        seen.add(value)
    return again


def without_unused_doubles(
    categories: list[Record], used: set[int], findings: Findings
) -> list[Record]:
    """Return the categories without those that share a name and have no annotation, after notes of all doubles.

    As one common export writes: the id 0 for the supercategory, under the name of a class.
    """
    for category in find_repeated(categories, lambda c: c["id"]):
        findings.add("category-id-twice", category["id"])
    kept: dict[str, list[Record]] = {}
    for category in categories:
        kept.setdefault(category["name"], []).append(category)
    dropped: set[int] = set()
    for name, same in kept.items():
        if len(same) == 1 or "category-id-twice" in findings:
            continue
        # One stays where none is used.
        living = [c for c in same if c["id"] in used] or same[-1:]
        dropped |= {id(c) for c in same if not any(c is other for other in living)}
        for category in same:
            if id(category) in dropped:
                findings.add("category-unused-twice", category["id"], name=name)
        for category in living[1:]:
            findings.add("category-name-twice", category["id"], name=name)
    return [category for category in categories if id(category) not in dropped]


def note_classes(categories: list[Record], counts: dict[int, int], findings: Findings) -> None:
    """Note classes without objects or with few of them.

    Args:
        categories: of the file.
        counts: category id -> objects, crowds apart.
        findings: gets the notes.
    """
    parents = {
        c.get("supercategory") for c in categories if isinstance(c.get("supercategory"), str)
    }
    for category in categories:
        objects, name = counts.get(category["id"], 0), category["name"]
        if objects == 0 and name in parents and category.get("supercategory") in (None, "", "none"):
            findings.add("category-unused-parent", category["id"], name=name)
        elif objects == 0:
            findings.add("class-without-object", category["id"], name=name)
        elif objects < 5:
            findings.add("class-rare", category["id"], name=name, objects=objects)


def is_outside(file_name: str) -> bool:
    """Whether a file name leaves the folder that it is relative to."""
    return Path(file_name).is_absolute() or ".." in re.split(r"[\\/]", file_name)
