"""One pass over a COCO file and its images' headers: all defects that no config and no other set is needed for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.annotations import Objects, check_annotations
from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.images import check_image_files, check_image_records
from maskrcnn_repro.data.check.keypoints import check_keypoints, keypoint_names, skeleton
from maskrcnn_repro.data.check.records import (
    Record,
    lists,
    note_classes,
    parse,
    without_unused_doubles,
)
from maskrcnn_repro.utils.collection import collected_later

import numpy as np

MENDED = ("category-unused-twice", "crowd-absent")
"""What the scan mends in the tree that it returns."""


@dataclass
class Scan:
    """What a check of one COCO file leaves.

    Attributes:
        file: the COCO file.
        root: folder of its images.
        findings: all defects.
        tree: top level of the file, with :data:`MENDED` defects mended; None if it cannot be read.
        complete: whether fields have their types, so that everything was looked at.
        objects: arrays of the annotations; None unless complete.
        sizes: (M, 2) int64, width and height of the images as the file says.
        image_ids: of the images.
        files: paths of the images.
        class_names: category id -> name, in ascending order.
        keypoint_names: in order; empty if the file has none.
        skeleton: limbs, each as the names of two keypoints.
        has_rle_masks: whether any annotation, crowds apart, has an RLE mask instead of polygons.
    """

    file: Path
    root: Path
    findings: Findings
    tree: Record | None = None
    complete: bool = False
    objects: Objects | None = None
    sizes: np.ndarray | None = None
    image_ids: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    class_names: dict[int, str] = field(default_factory=dict)
    keypoint_names: list[str] = field(default_factory=list)
    skeleton: list[tuple[str, str]] = field(default_factory=list)
    has_rle_masks: bool = False

    @property
    def mended(self) -> bool:
        """Whether the tree is another than the file's."""
        return any(code in self.findings for code in MENDED)


def scan_coco(json_file: Path, root: Path, *, headers: bool = True) -> Scan:
    """Look for every defect of a COCO file; never raises for one.

    Args:
        json_file: of instances or keypoints.
        root: the folder to which ``file_name`` is relative.
        headers: whether to look for the images and to read the sizes in their headers.
    """
    findings = Findings(json_file)
    with collected_later():
        tree = parse(json_file, findings)
        return scan_tree(tree, root, findings, headers=headers)


def scan_tree(tree: Record | None, root: Path, findings: Findings, *, headers: bool = True) -> Scan:
    """Look for every defect of a COCO file's top level; see :func:`scan_coco`."""
    scan = Scan(findings.file, root, findings, tree)
    content = None if tree is None else lists(tree, findings)
    if tree is not None and content is not None:
        _scan_lists(scan, tree, content, headers=headers)
    return scan


def _scan_lists(scan: Scan, tree: Record, content: dict[str, Any], *, headers: bool) -> None:
    images, annotations, findings = content["images"], content["annotations"], scan.findings
    findings.images = len(images)
    check_image_records(images, findings)
    if headers:
        check_image_files(images, scan.root, findings)
    categories = _scan_categories(content, findings)
    if len(categories) < len(content["categories"]):
        tree["categories"] = categories
    objects = check_annotations(annotations, images, {c["id"] for c in categories}, findings)
    names = keypoint_names(categories, findings)
    check_keypoints(annotations, images, names, findings)
    _note_objects(tree, objects, images, findings)
    if len(annotations):
        note_classes(categories, Counter(objects.categories[objects.single].tolist()), findings)
    scan.complete, scan.objects, scan.keypoint_names = True, objects, names
    scan.skeleton = skeleton(categories, names, findings)
    scan.has_rle_masks = any(
        isinstance(a.get("segmentation"), dict) and not a["iscrowd"] for a in annotations
    )
    scan.image_ids = [image["id"] for image in images]
    scan.files = [str(scan.root / image["file_name"]) for image in images]
    scan.sizes = np.array([(i["width"], i["height"]) for i in images], np.int64).reshape(-1, 2)
    scan.class_names = {c["id"]: c["name"] for c in sorted(categories, key=lambda c: c["id"])}


def _scan_categories(content: dict[str, Any], findings: Findings) -> list[Record]:
    if not content["categories"]:
        findings.add("categories-empty", findings.file.name)
    used = {annotation["category_id"] for annotation in content["annotations"]}
    return without_unused_doubles(content["categories"], used, findings)


def _note_objects(tree: Record, objects: Objects, images: list[Record], findings: Findings) -> None:
    if "annotations" not in tree:
        return
    if not len(objects.ids):
        findings.add("no-object", findings.file.name)
    elif objects.crowd.all():
        findings.add("all-crowd", findings.file.name)
    with_object = set(objects.images[~objects.crowd].tolist())
    for index, image in enumerate(images):
        if index not in with_object and len(objects.ids):
            findings.add("images-without-object", image["id"])
