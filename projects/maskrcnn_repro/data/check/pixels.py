"""Images decoded: those that cannot be, and those with the same pixels."""

from __future__ import annotations

import hashlib

from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.scan import Scan
from maskrcnn_repro.data.image_file import ImageError, ImageFiles

import numpy as np


def check_pixels(scan: Scan, findings: Findings, files: ImageFiles) -> dict[bytes, tuple[int, str]]:
    """Decode all images of a set, and note broken, empty and repeated ones.

    Args:
        scan: a complete one; images that it found wrong are left out.
        findings: gets the notes.
        files: reads the images.

    Returns:
        Digest of the pixels -> image id and path, of the first image with these pixels.
    """
    wrong = {"image-absent", "image-header", "image-mode", "image-size-wrong", "image-too-large"}
    if not files.pixel_range:
        wrong.add("image-deep")
    skipped = {place for code in wrong for place in scan.findings.places.get(code, ())}
    first: dict[bytes, tuple[int, str]] = {}
    for place, path in zip(scan.image_ids, scan.files, strict=True):
        if place in skipped:
            continue
        try:
            pixels = files.read(path, "RGB")
        except ImageError as error:
            findings.add("pixels-broken", place, reason=str(error).rstrip("."))
            continue
        digest = _digest(pixels)
        if (pixels == pixels[0, 0]).all():
            findings.add("pixels-constant", place, path=path)
        elif digest in first and first[digest][1] != path:
            findings.add("pixels-twice", place, path=path, other=first[digest][0])
        first.setdefault(digest, (place, path))
    return first


def check_shared_pixels(
    train: dict[bytes, tuple[int, str]],
    test: dict[bytes, tuple[int, str]],
    other: Scan,
    findings: Findings,
) -> None:
    """Note images to test on whose pixels are trained on, under another name or the same."""
    shared = [test[digest] for digest in test if digest in train]
    for place, path in shared:
        values = {"count": len(shared), "total": len(other.files), "other": other.file}
        findings.add("sets-same-pixels", place, path=path, **values)


def _digest(pixels: np.ndarray) -> bytes:
    """Return a digest of an image's size and pixels."""
    person = repr(pixels.shape).encode()[:16]
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, person=person).digest()
