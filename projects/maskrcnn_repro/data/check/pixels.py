"""Images decoded: those that cannot be, and those with the same pixels."""

from __future__ import annotations

import hashlib

from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.scan import Scan

import numpy as np
from PIL import Image


def check_pixels(scan: Scan, findings: Findings) -> dict[bytes, tuple[int, str]]:
    """Decode all images of a set, and note broken, empty and repeated ones.

    Args:
        scan: a complete one; images that it found wrong are left out.
        findings: gets the notes.

    Returns:
        Digest of the pixels -> image id and path, of the first image with these pixels.
    """
    wrong = {"image-absent", "image-header", "image-size-wrong", "image-too-large"}
    skipped = {place for code in wrong for place in scan.findings.places.get(code, ())}
    first: dict[bytes, tuple[int, str]] = {}
    for place, path in zip(scan.image_ids, scan.files, strict=True):
        if place in skipped:
            continue
        try:
            digest, constant = _decoded(path)
        except ValueError as error:
            findings.add("pixels-broken", place, path=path, reason=error)
            continue
        if constant:
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


def read_rgb(path: str, side: int | None = None) -> Image.Image:
    """Return a decoded image in RGB.

    Args:
        path: of the file.
        side: the longer side in pixels to which a larger image is reduced.

    Raises:
        ValueError: the file cannot be decoded; the text says why.
    """
    try:
        with Image.open(path) as file:
            if side is not None:
                file.draft("RGB", (side, side))
            image = file.convert("RGB")
    except Exception as error:  # whatever a decoder raises
        raise ValueError(str(error)) from error
    if side is not None:
        image.thumbnail((side, side))
    return image


def _decoded(path: str) -> tuple[bytes, bool]:
    """Return a digest of an image's size and pixels in RGB, and whether all pixels are the same."""
    image = read_rgb(path)
    pixels = np.asarray(image)
    digest = hashlib.blake2b(
        pixels.tobytes(), digest_size=16, person=repr(image.size).encode()[:16]
    )
    return digest.digest(), bool((pixels == pixels[0, 0]).all())
