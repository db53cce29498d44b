"""Conversion of a labelling tool's files to COCO JSON: recognised, read, placed, split, checked and written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn_repro._version import __version__
from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.judge import by_severity
from maskrcnn_repro.data.check.pairs import check_pair
from maskrcnn_repro.data.check.scan import Scan, scan_tree
from maskrcnn_repro.data.formats.contents import Contents, Losses
from maskrcnn_repro.data.formats.fates import FATES
from maskrcnn_repro.data.formats.image_folder import ImageFolder
from maskrcnn_repro.data.formats.merging import merge_classes
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.placing import Placed, Progress, place
from maskrcnn_repro.data.formats.reading import Trees
from maskrcnn_repro.data.formats.registry import FORMATS, recognise
from maskrcnn_repro.data.formats.splitting import build_grouping, original, split
from maskrcnn_repro.data.formats.tree import categories, coco_tree, unused_classes
from maskrcnn_repro.errors import ConfigError, DataError, OutputError
from maskrcnn_repro.utils.files import check_output, write_text

NAMES = {"": "data", "train": "train", "val": "val", "test": "test"}
"""Part -> name of its file."""
_HEADS = frozenset({"masks"})


@dataclass(frozen=True)
class Request:
    """What to convert, and how.

    Attributes:
        source: file or folder of the labelling tool.
        out: folder to write to.
        images: folder of the images; None: found from the source.
        form: name of the format; None: by the content.
        share: of the images that train; None: the source's own parts, or one file.
        seed: of the split.
        group_by: see :func:`~maskrcnn_repro.data.formats.splitting.build_grouping`.
        keep_unused: whether classes without objects are kept in any case.
        merge: see :func:`~maskrcnn_repro.data.formats.merging.merge_classes`.
        options: for the reader.
    """

    source: Path
    out: Path
    images: Path | None = None
    form: str | None = None
    share: float | None = None
    seed: int = 1
    group_by: str | None = None
    keep_unused: bool = False
    merge: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        form: name of the format.
        root: folder of the images, to which file names are relative.
        scans: part -> check of the file.
        losses: what was changed or left out.
        left_out: classes.
        unused: classes without objects that were kept.
        notes: sentences about the result.
    """

    form: str
    root: Path
    scans: dict[str, Scan]
    losses: Losses
    left_out: list[str]
    unused: list[str]
    notes: list[str]

    @property
    def complete(self) -> bool:
        """Whether no image was left out."""
        return not any(FATES[code].image for code in self.losses.places)


def convert(request: Request, progress: Progress = iter) -> Converted:
    """Write COCO files of a source.

    Args:
        request: what, and how.
        progress: wraps the images to read, as ``tqdm`` does.

    Raises:
        DataError: the source is of no format or broken, or nothing of it can be used.
        ConfigError: an option has a wrong value.
        OutputError: a file cannot be written, or is one that is read.
    """
    group_of = _check_split(request)
    trees, losses = Trees(), Losses()
    form, files = recognise(request.source, request.form, trees)
    folder = ImageFolder(_root(request, form))
    read: list[Path] = []
    contents = FORMATS[form].read(_note_each(files, read), trees, request.options, losses)
    merge_classes(contents, request.merge)
    _check_out(request, read)
    images_out = request.out / "images"
    root, placed = place(contents.pictures, folder, losses, images_out, request.source, progress)
    _check_any(request.source, contents, placed, losses, folder.root)
    notes: list[str] = []
    parts = _split_parts(request, placed, group_of, losses, notes)
    whole = len(parts) > 1
    unused = [] if request.keep_unused else unused_classes(contents, placed, whole=whole)
    classes = categories(contents, unused)
    description = f"{FORMATS[form].title}, converted by maskrcnn-repro {__version__}"
    scans = {}
    for part, images in parts.items():
        path = request.out / f"{NAMES[part]}.json"
        scans[part] = _check(coco_tree(images, classes, description), path, root, part)
    if {"train", "val"} <= scans.keys():
        check_pair(scans["train"], scans["val"], scans["train"].findings)
    for part, scan in scans.items():
        write_text(request.out / f"{NAMES[part]}.json", json.dumps(scan.tree))
    used = {label for image in placed for label, _ in image.objects}
    kept = [record["name"] for record in classes if record["name"] not in used]
    return Converted(form, root, scans, losses, unused, kept, notes)


def _check_split(request: Request) -> Callable[[str], str]:
    """Return what groups the images.

    Raises:
        ConfigError: the split is none, or is not asked for.
    """
    if request.share is not None and not 0 < request.share < 1:
        raise ConfigError(f"--split {request.share} is to be between 0 and 1, such as 0.8.")
    if request.share is None and request.group_by is not None:
        raise ConfigError("--group-by keeps images together in a split: give --split, too.")
    return build_grouping(request.group_by)


def _root(request: Request, form: str) -> Path:
    """Return the folder in which to look for images.

    Raises:
        DataError: it does not exist.
    """
    source, images = request.source, FORMATS[form].images
    folder = source if source.is_dir() else source.parent
    # COCO's own layout, and CVAT's: annotations/ beside images/.
    if folder.absolute().name.lower() == "annotations" and not images:
        folder = Path(os.path.normpath(folder / ".."))
    root = request.images or folder / images
    if not root.is_dir():
        given = "" if request.images else "; name the folder of images with --images"
        problem = "is no folder" if root.exists() else "does not exist"
        raise DataError(f"Image folder {root} {problem}{given}.")
    return root


def _note_each(files: Iterable[Path], noted: list[Path]) -> Iterator[Path]:
    """Yield files and note each, one by one: it is recognised and read before the next is opened."""
    for file in files:
        noted.append(file)
        yield file


def _check_out(request: Request, files: Sequence[Path]) -> None:
    is_other = request.out.exists() and not request.out.is_dir()
    if request.out.suffix.lower() == ".json" or is_other:
        raise OutputError(
            f"{str(request.out)!r} is to be a folder, for the JSON files of all parts."
        )
    for name in NAMES.values():
        check_output("The output", request.out / f"{name}.json", ".json", [request.source, *files])


def _check_any(
    source: Path, contents: Contents, placed: list[Placed], losses: Losses, root: Path
) -> None:
    """Raise DataError if there is no image, or no object on any."""
    why = f" {losses.lines()[-1]}." if losses.places else ""
    if not contents.pictures:
        raise DataError(f"{source} lists no images.{why}")
    if not placed:
        raise DataError(
            f"None of the {len(contents.pictures)} images was found in {root} as it should be; name their folder with "
            f"--images.{why}"
        )
    if not any(image.objects for image in placed):
        raise DataError(f"No object with an outline is on the {len(placed)} images.{why}")


def _split_parts(
    request: Request,
    placed: list[Placed],
    group_of: Callable[[str], str],
    losses: Losses,
    notes: list[str],
) -> dict[str, list[Placed]]:
    """Return the images of each part: of the split that was asked for, else of the source's own."""
    own = {image.part for image in placed}
    if request.share is None:
        # What the source has in no part trains.
        parts = {part: [i for i in placed if (i.part or "train") == part] for part in NAMES}
        return (
            {p: images for p, images in parts.items() if images} if len(own) > 1 else {"": placed}
        )
    if len(own) > 1:
        notes.append(f"The source's own split ({', '.join(sorted(own - {''}))}) is not kept.")
    names = [image.file_name for image in placed]
    groups = {group_of(name) or original(name) for name in names}
    if len(groups) < len(names):
        notes.append(f"{len(names)} images in {len(groups)} groups, none of them divided.")
    for name in names:
        if not group_of(name):
            losses.add("alone", name)
    chosen = split(names, request.share, request.seed, group_of)
    return {
        "train": [image for image in placed if image.file_name in chosen],
        "val": [image for image in placed if image.file_name not in chosen],
    }


def _check(tree: dict, path: Path, root: Path, part: str) -> Scan:
    """Return the check of a tree.

    Raises:
        DataError: it has an error.
    """
    findings = Findings(path)
    scan = scan_tree(tree, root, findings)
    uses: Iterable[str] = ("test",) if part in ("val", "test") else ("train",)
    for row in by_severity(findings, uses, _HEADS)["error"]:
        raise DataError(findings.sentence(row.code))
    return scan
