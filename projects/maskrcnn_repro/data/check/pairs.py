"""A set that is trained on against one that is tested on: the same images, other classes."""

from __future__ import annotations

import os

from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.scan import Scan
from maskrcnn_repro.errors import listing


def check_pair(train: Scan, test: Scan, findings: Findings) -> None:
    """Note what a set to train on and one to test on have in common, and where their classes differ.

    Args:
        train: scan of the set to train on, a complete one.
        test: the other's.
        findings: gets the notes; of the file that is trained on.
    """
    if train.file == test.file:
        findings.add("sets-same", findings.file.name)
        return
    _check_files(train, test, findings)
    _check_classes(train, test, findings)


def _check_files(train: Scan, test: Scan, findings: Findings) -> None:
    paths = set(map(os.path.normpath, train.files))
    ids = zip(test.image_ids, test.files, strict=True)
    shared = [(place, path) for place, path in ids if os.path.normpath(path) in paths]
    for place, path in shared:
        values = {"count": len(shared), "total": len(test.files), "other": test.file}
        findings.add("sets-same-file", place, path=path, **values)


def _check_classes(train: Scan, test: Scan, findings: Findings) -> None:
    first, second = list(train.class_names.values()), list(test.class_names.values())
    if set(first) != set(second):
        findings.add(
            "sets-classes-differ",
            findings.file.name,
            other=test.file,
            first=listing(name for name in first if name not in second),
            second=listing(name for name in second if name not in first),
        )
    elif first != second:
        findings.add("sets-classes-order", findings.file.name, other=test.file)
    trained = _find_learnable(train)
    for name in sorted(_find_learnable(test) & set(first) - trained):
        findings.add("sets-class-untrained", name, name=name, other=test.file)


def _find_learnable(scan: Scan) -> set[str]:
    """Return the classes that have objects, crowds apart."""
    if scan.objects is None:
        return set()
    ids = set(scan.objects.categories[scan.objects.single].tolist())
    return {name for place, name in scan.class_names.items() if place in ids}
