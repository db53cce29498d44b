"""Random integers and an integer sine that are the same on every machine and with every version of numpy.

numpy guarantees the raw stream of a bit generator, but not the streams of its distributions, and
``math.sin`` is rounded differently by different C libraries. Everything here is therefore computed from raw
words in integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

ONE = 1 << 14
"""The fixed-point 1.0 of :func:`sine`."""

# round(16384 * sin(d degrees)) for d = 0 to 90
# fmt: off
_QUARTER = (
    0, 286, 572, 857, 1143, 1428, 1713, 1997, 2280, 2563, 2845, 3126, 3406, 3686, 3964, 4240,
    4516, 4790, 5063, 5334, 5604, 5872, 6138, 6402, 6664, 6924, 7182, 7438, 7692, 7943, 8192,
    8438, 8682, 8923, 9162, 9397, 9630, 9860, 10087, 10311, 10531, 10749, 10963, 11174, 11381,
    11585, 11786, 11982, 12176, 12365, 12551, 12733, 12911, 13085, 13255, 13421, 13583, 13741,
    13894, 14044, 14189, 14330, 14466, 14598, 14726, 14849, 14968, 15082, 15191, 15296, 15396,
    15491, 15582, 15668, 15749, 15826, 15897, 15964, 16026, 16083, 16135, 16182, 16225, 16262,
    16294, 16322, 16344, 16362, 16374, 16382, 16384,
)
# fmt: on


def sine(degrees: int) -> int:
    """Return ``16384 * sin(degrees)``, rounded."""
    degrees %= 360
    if degrees >= 180:
        return -sine(degrees - 180)
    return _QUARTER[min(degrees, 180 - degrees)]


def cosine(degrees: int) -> int:
    """Return ``16384 * cos(degrees)``, rounded."""
    return sine(degrees + 90)


def lengths(shortest: int, longest: int) -> list[int]:
    """Return lengths in pixels, each a twentieth longer than the one before: any is as likely as on a log scale."""
    result = [shortest]
    while (longer := result[-1] * 21 // 20) <= longest:
        result.append(longer)
    return result


class Draws:
    """A stream of random integers that depends only on ``key``.

    Args:
        key: non-negative integers; different keys give independent streams.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def below(self, limit: int) -> int:
        """Return an integer in ``[0, limit)``."""
        # The upper half of the word, scaled: probabilities differ by less than 2**-32 * limit.
        return (int(self._bits.random_raw()) >> 32) * limit >> 32

    def between(self, low: int, high: int) -> int:
        """Return an integer in ``[low, high]``, both ends included."""
        return low + self.below(high - low + 1)

    def choice(self, options: Sequence[T]) -> T:
        """Return a random element of ``options``."""
        return options[self.below(len(options))]

    def one_in(self, number: int) -> bool:
        """Return True with the probability 1 / ``number``."""
        return self.below(number) == 0

    def octets(self, *shape: int) -> NDArray[np.int64]:
        """Return integers in ``[0, 256)`` as an int64 array of this shape."""
        count = int(np.prod(shape))
        words = np.asarray(self._bits.random_raw(-(-count // 8)), dtype="<u8")
        return words.view(np.uint8)[:count].reshape(shape).astype(np.int64)
