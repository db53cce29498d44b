"""Which config keys somebody may have meant by a name that is none."""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile

MOST = 5
"""Names suggested at most."""


def suggestions(name: str, keys: Collection[str], unread: Collection[str] = ()) -> list[str]:
    """Return the keys that ``name`` may have meant, the likeliest first.

    Letters that are wrong, missing, added or swapped count one each, case nothing; a right last word in a
    wrong section counts little more, and sections that resemble the right one count less.

    Args:
        name: dotted, as it was written.
        keys: all dotted keys.
        unread: those of the keys that come after others as likely.
    """
    name = name.casefold()
    scored = sorted(
        (_measure_unlikeness(name, key.casefold()) + 0.2 * (key in unread), key) for key in keys
    )
    best = scored[0][0] if scored else 0.0
    bound = min(max(2.0, len(name.rpartition(".")[2]) / 3 + 1.5), best + 1.0)
    return [key for score, key in scored[:MOST] if score <= bound]


def _measure_unlikeness(name: str, key: str) -> float:
    (parent, _, last), (right_parent, _, right_last) = name.rpartition("."), key.rpartition(".")
    whole = float(count_edits(name, key))
    if abs(len(last) - len(right_last)) >= whole:
        return whole
    elsewhere = 1.5 + count_edits(last, right_last) + count_edits(parent, right_parent) / 100
    return min(whole, elsewhere)


def count_edits(first: str, second: str) -> int:
    """Return how many letters to change, add, leave out or swap with their neighbour make one text the other."""
    # What both begin or end with, most of a dotted key, needs no table.
    start = _common(first, second)
    first, second = first[start:], second[start:]
    end = _common(first[::-1], second[::-1])
    first, second = first[: len(first) - end], second[: len(second) - end]
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first):
        earlier, before, row = before, row, [i + 1]
        for j, other in enumerate(second):
            steps = min(before[j] + (letter != other), before[j + 1] + 1, row[j] + 1)
            if i and j and letter == second[j - 1] and first[i - 1] == other:
                steps = min(steps, earlier[j - 1] + 1)
            row.append(steps)
    return row[-1]


def _common(first: str, second: str) -> int:
    """Return with how many letters both texts begin."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    )
