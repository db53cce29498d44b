"""Label Studio's brush strokes: runs of bytes, packed bit by bit, of the four channels of an image."""

from __future__ import annotations

from maskrcnn_repro.data.check.outlines import Defective
from maskrcnn_repro.errors import DataError

import numpy as np


class _Bits:
    """Reads whole numbers of some bits each from bytes, the high bit first."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def take(self, count: int) -> int:
        first, self.place = self.place, self.place + count
        last = (self.place + 7) // 8
        if last > len(self.content):
            raise EOFError
        window = int.from_bytes(self.content[first // 8 : last], "big")
        return window >> (8 * last - self.place) & ((1 << count) - 1)


def brush_mask(rle: list[int], size: tuple[int, int], place: str) -> np.ndarray:
    """Return the (H, W) uint8 mask of the pixels whose fourth channel is not 0.

    The bytes hold, in bits: 32 for the number of values, 5 for the bits of a value less one, four times 4 for the bits of
    a length less one; then runs: 1 for a repeated value or 0 for a list, 2 that say which length, the length less
    one, and the value or the list.

    Args:
        rle: whole numbers from 0 to 255.
        size: (W, H) of the image, within limits.
        place: of it in the source, for messages.

    Raises:
        DataError: these are no bytes.
        Defective: they do not hold four values for each pixel of the image.
    """
    try:
        bits = _Bits(bytes(rle))
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: its 'rle' is no list of bytes.") from error
    width, height = size
    mask = np.zeros(width * height, np.uint8)
    try:
        total = bits.take(32)
        if total != 4 * width * height:
            raise Defective("rle-counts-sum", value=total // 4, pixels=width * height)
        word = bits.take(5) + 1
        lengths = [bits.take(4) + 1 for _ in range(4)]
        place_of_value = 0
        while place_of_value < total:
            repeats = bits.take(1)
            count = bits.take(lengths[bits.take(2)]) + 1
            for length in [count] if repeats else [1] * count:
                _fill(mask, place_of_value, length, bits.take(word))
                place_of_value += length
    except EOFError:
        raise Defective("rle-counts-invalid", value="they end too early") from None
    return mask.reshape(height, width)


def _fill(mask: np.ndarray, start: int, length: int, value: int) -> None:
    """Set the pixels whose fourth channel, at 4 i + 3, lies within a run of values."""
    if value:
        mask[start // 4 : (start + length) // 4] = 1
