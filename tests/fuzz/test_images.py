"""Damaged bytes under the names of images, of each format that Pillow writes."""

import io

from maskrcnn_repro.data.image_file import ImageFiles, image_header, verify_image

import numpy as np
import pytest
from PIL import Image

from tests.fuzz.harness import try_files
from tests.fuzz.mutations import damaged, st

pytestmark = pytest.mark.slow
SIZE = (6, 9)
"""H, W."""


def saved(mode, kind, **options):
    values = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    image = (
        Image.fromarray(values).convert(mode)
        if mode != "I;16"
        else Image.fromarray(values[..., 0].astype(np.uint16))
    )
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("RGB", "JPEG", exif=exif)


FILES = {
    "png": (saved("RGB", "PNG"), saved("P", "PNG"), saved("I;16", "PNG"), saved("RGBA", "PNG")),
    "jpg": (
        saved("RGB", "JPEG"),
        saved("L", "JPEG"),
        turned(),
        saved("CMYK", "JPEG", progressive=True),
    ),
    "tif": (saved("RGB", "TIFF"), saved("L", "TIFF", compression="tiff_lzw"), saved("F", "TIFF")),
    "gif": (saved("P", "GIF"),),
    "bmp": (saved("RGB", "BMP"),),
    "webp": (saved("RGB", "WEBP"),),
    "ppm": (saved("RGB", "PPM"),),
}
OTHERS = [content for contents in FILES.values() for content in contents]


def read(path):
    for look in (image_header, verify_image):
        look(path)
    for size in (SIZE, None):
        pixels = ImageFiles(pixel_range=(0, 255)).read(path, "BGR", size)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert size in (None, pixels.shape[:2])


def read_at_once(path):
    """Without the looks at the header that the fast check takes."""
    pixels = ImageFiles().read(path, "RGB", SIZE)
    assert pixels.shape == (*SIZE, 3)


@pytest.mark.parametrize("reading", [read, read_at_once])
@pytest.mark.parametrize("suffix", FILES)
def test_damaged_image(tmp_path, suffix, reading):
    contents = st.sampled_from(FILES[suffix]).flatmap(lambda content: damaged(content, OTHERS))
    try_files(reading, tmp_path / f"a.{suffix}", FILES[suffix][:2], contents, 150)
