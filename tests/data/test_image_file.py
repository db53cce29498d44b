"""Image files: every mode by one rule, headers without decoding, errors with the path."""

import re
import zlib
from pathlib import Path

from maskrcnn_repro.data.image_file import (
    DEEP,
    MODES,
    ImageError,
    ImageFiles,
    ImageTooLargeError,
    UnsupportedImageError,
    check_pixel_range,
    image_header,
    stored_values,
    verify_image,
)
from maskrcnn_repro.errors import ConfigError

import cv2
import numpy as np
import pytest
from detectron2.data import detection_utils
from PIL import Image, TiffImagePlugin

from tests.helpers.huge_png import huge_png

DOCS = Path(__file__).resolve().parents[2] / "docs/own_data.md"
PLAIN_YCBCR = (b"II", 6, (1,), 1, (8, 8, 8), ())
reads_ycbcr = pytest.mark.skipif(
    TiffImagePlugin.OPEN_INFO[PLAIN_YCBCR][0] != "YCbCr", reason="this Pillow misreads it"
)
# One pixel each, what Pillow keeps it as, and its RGB.
PIXELS = [
    ("1", 1, ".png", (255, 255, 255)),
    ("L", 7, ".png", (7, 7, 7)),
    ("RGB", (1, 2, 3), ".png", (1, 2, 3)),
    ("LA", (9, 0), ".png", (9, 9, 9)),
    ("RGBA", (1, 2, 3, 0), ".png", (1, 2, 3)),
    ("CMYK", (0, 255, 0, 0), ".tif", (255, 0, 255)),
    pytest.param("YCbCr", (100, 128, 128), ".tif", (100, 100, 100), marks=reads_ycbcr),
]


def save(path, mode, value, size=(3, 2), **options):
    Image.new(mode, size, value).save(path, **options)
    return path


@pytest.mark.parametrize(("mode", "value", "suffix", "colour"), PIXELS)
def test_a_mode_becomes_colours_as_in_detectron2(tmp_path, mode, value, suffix, colour):
    path = save(tmp_path / f"a{suffix}", mode, value)
    assert image_header(path).mode == mode
    read = ImageFiles().read(path, "RGB", (2, 3))
    assert (read.shape, read.dtype) == ((2, 3, 3), np.uint8)
    assert read[0, 0].tolist() == list(colour)
    for image_format in ("RGB", "BGR", "L"):
        expected = detection_utils.read_image(str(path), image_format)
        assert np.array_equal(ImageFiles().read(path, image_format), expected)


def test_a_palette_gives_its_colours(tmp_path):
    image = Image.new("P", (3, 2), 5)
    image.putpalette([0] * 15 + [10, 20, 30])
    image.save(tmp_path / "a.png")
    assert image_header(tmp_path / "a.png").mode == "P"
    assert ImageFiles().read(tmp_path / "a.png", "RGB")[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_grey_is_refused_without_a_range_and_scaled_with_one(tmp_path, mode):
    # 0 and below are black, 4000 and above white; 1000 is 63.75 of 255.
    values = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    array = np.array([[0, 1000, 2000, 4000, 5000]], values)
    Image.fromarray(array).save(tmp_path / "a.tif")
    assert image_header(tmp_path / "a.tif").mode == mode
    with pytest.raises(ImageError, match=r"a\.tif is grey of more than 8 bits .*PIXEL_RANGE"):
        ImageFiles().read(tmp_path / "a.tif", "BGR")
    read = ImageFiles((0, 4000)).read(tmp_path / "a.tif", "BGR", (1, 5))
    assert read[0].tolist() == [[v] * 3 for v in (0, 64, 128, 255, 255)]


def test_values_that_are_not_finite_are_refused(tmp_path):
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif has values that are not finite"):
        ImageFiles((0, 1)).read(tmp_path / "a.tif", "BGR")


def test_a_mode_without_a_rule_is_refused_by_name(tmp_path):
    path = save(tmp_path / "a.tif", "LAB", (50, 0, 0))
    with pytest.raises(ImageError, match=r"a\.tif has Pillow's mode 'LAB', for which there is no"):
        ImageFiles().read(path, "BGR")


def test_a_file_that_an_old_pillow_misreads_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif", "YCbCr", (50, 0, 0))
    monkeypatch.setitem(TiffImagePlugin.OPEN_INFO, PLAIN_YCBCR, ("RGB", "RGBX"))
    with pytest.raises(ImageError, match=r"a\.tif holds YCbCr pixels that this Pillow misreads"):
        ImageFiles().read(path, "BGR")
    save(path, "YCbCr", (50, 128, 128), compression="tiff_lzw")
    assert ImageFiles().read(path, "BGR")[0, 0].tolist() == [50, 50, 50]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_an_exif_turn_is_in_the_header_and_in_the_pixels(tmp_path, suffix):
    exif = Image.Exif()
    exif[274] = 6
    # Dark on the left; turned by a quarter clockwise, dark is at the top.
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", exif=exif)
    header = image_header(tmp_path / f"a{suffix}")
    assert (header.size, header.orientation) == ((20, 40), 6)
    read = ImageFiles().read(tmp_path / f"a{suffix}", "L", (40, 20))
    assert read[:15].max() < 20
    assert read[-15:].min() > 235
    with pytest.raises(ImageError, match=r"is 20 x 40 pixels .* its record says 40 x 20; .*EXIF"):
        ImageFiles().read(tmp_path / f"a{suffix}", "L", (20, 40))


def test_exif_behind_the_pixels_of_a_png_file_turns_them_too(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[274] = 8
    pixels = np.zeros((20, 40), np.uint8)
    pixels[:, 20:] = 255
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    size, crc = (len(chunk) - 4).to_bytes(4, "big"), zlib.crc32(chunk).to_bytes(4, "big")
    content = path.read_bytes()
    path.write_bytes(content[:-12] + size + chunk + crc + content[-12:])
    # Turned by a quarter anticlockwise, dark is at the bottom.
    assert ImageFiles().read(path, "L", (40, 20))[:, 0, 0].tolist() == [255] * 20 + [0] * 20
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    assert image_header(path).size == (20, 40)
    path.write_bytes(content[:-12] + size + chunk + b"none" + content[-12:])
    assert image_header(path).size == (40, 20)


def test_of_an_animation_the_first_picture_is_read_and_it_is_said(tmp_path, log, monkeypatch):
    monkeypatch.setattr("maskrcnn_repro.data.image_file._said", set())
    others = [Image.new("RGB", (3, 2), (9, 9, 9))]
    for name in ("a.gif", "b.gif"):
        save(tmp_path / name, "RGB", (255, 0, 0), save_all=True, append_images=others)
        assert image_header(tmp_path / name).frames
        assert ImageFiles().read(tmp_path / name, "RGB")[0, 0].tolist() == [255, 0, 0]
    assert [r.message for r in log.records if "several pictures" in r.message] == [
        f"Image {tmp_path / 'a.gif'} has several pictures, of which the first is read; so with all such files."
    ]


def test_transparency_that_is_dropped_is_said(tmp_path, log, monkeypatch):
    monkeypatch.setattr("maskrcnn_repro.data.image_file._said", set())
    ImageFiles().read(save(tmp_path / "a.png", "L", 7), "BGR")
    assert "transparency" not in log.text
    ImageFiles().read(save(tmp_path / "b.png", "RGBA", (1, 2, 3, 0)), "BGR")
    assert "b.png has transparency, which is dropped" in log.text


def damage(path, kind):
    """Write a photograph-like file, then harm it."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "zeros": bytes(len(content)),
            "html": b"<!DOCTYPE html><html><body>404</body></html>",
        }[kind]
    )
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "zeros", "html"])
def test_a_broken_file_is_named(tmp_path, kind, suffix):
    path = damage(tmp_path / f"a{suffix}", kind)
    with pytest.raises(ImageError, match=rf"^Image {re.escape(str(path))} cannot be read: .*\.$"):
        ImageFiles().read(path, "BGR", (64, 64))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path, reason in ((tmp_path / "a.png", "No such file"), (tmp_path, "it is a folder")):
        with pytest.raises(ImageError, match=f"^Image {re.escape(str(path))} .*: {reason}"):
            ImageFiles().read(path, "BGR")


def test_a_forbidden_file_is_named(tmp_path, monkeypatch):
    # The superuser may read everything: the answer of the system is put in its place.
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("maskrcnn_repro.data.image_file.PathManager.open", refuse)
    with pytest.raises(ImageError, match=r"^Image a\.png cannot be read: Permission denied\.$"):
        ImageFiles().read("a.png", "BGR")


def test_a_far_larger_file_than_its_record_says_is_not_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", "1", 0, size=(5000, 4000))
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"is 5000 x 4000 pixels .* record says 64 x 64"):
        ImageFiles().read(path, "BGR", (64, 64))


def test_pillows_limit_on_pixels_stays(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", "L", 0, size=(50, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"a\.png cannot be read: .*2500 pixels.*limit of 2000"):
        ImageFiles().read(path, "BGR", (50, 50))


def test_stored_values_are_no_colours_and_not_turned(tmp_path):
    ids = np.array([[0, 70], [24001, 65535], [5, 6]], np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ids).save(tmp_path / "ids.png", exif=exif)
    assert stored_values(tmp_path / "ids.png").tolist() == ids.tolist()
    indices = Image.new("P", (2, 3), 7)
    indices.putpalette([9] * 768)
    indices.save(tmp_path / "indices.png")
    assert stored_values(tmp_path / "indices.png").tolist() == [[7, 7]] * 3


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_channels_of_16_bits_have_no_stored_values_as_pillow_keeps_8(tmp_path, suffix, channels):
    path = tmp_path / f"ids{suffix}"
    cv2.imwrite(str(path), np.full((2, 3, channels), 300, np.uint16))
    with pytest.raises(UnsupportedImageError, match=r"ids\.\w+ has channels of 16 bits, of which"):
        stored_values(path)


def test_a_decompression_bomb_has_no_stored_values(tmp_path):
    path = huge_png(tmp_path / "bomb.png")
    with pytest.raises(ImageTooLargeError, match=r"bomb\.png cannot be read: .*1600000000 pixels"):
        stored_values(path)


def test_a_flipped_bit_of_a_png_file_is_noticed_without_decoding(tmp_path):
    path = save(tmp_path / "a.png", "RGB", (1, 2, 3), size=(64, 64))
    verify_image(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 1
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png cannot be read: .*"):
        verify_image(path)


@pytest.mark.parametrize("value", [(1,), (4, 4), (0, float("nan")), ("a", "b"), (0, 1, 2)])
def test_a_pixel_range_is_two_ascending_numbers(value):
    check_pixel_range(())
    check_pixel_range((0, 4095))
    with pytest.raises(
        ConfigError, match=r"INPUT\.PIXEL_RANGE .* must be empty or \(BLACK, WHITE\)"
    ):
        check_pixel_range(value)


def test_every_mode_of_pillow_is_ruled_or_refused_and_in_the_docs():
    rows = dict(re.findall(r"^\| `(.+)` \| (.+) \|$", DOCS.read_text(), re.MULTILINE))
    modes = {mode: rule for names, rule in rows.items() for mode in names.split("`, `")}
    assert {mode: modes[mode] for mode in MODES} == MODES
    assert set(Image.MODES) - set(MODES) <= {"LAB", "La", "RGBa"}
    assert "LAB" in set(Image.MODES) - set(MODES)
    assert set(DEEP) == {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}


def test_a_drawing_is_handed_to_no_other_program(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", "EPS")
    with pytest.raises(ImageError, match=r"a\.jpg is a drawing \(EPS\) without pixels"):
        image_header(tmp_path / "a.jpg")
