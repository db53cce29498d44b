"""Values that config keys must not have, derived from the tables of keys."""

import math

PAIR = {"bool": "maybe", "int": 2.5, "float": "quick", "str": ["a"], "list": 1.5, "tuple": 1.5}
"""Type -> a value of another type, which means none of this one."""


def wrong_values(key):
    """Yield (kind, value) for each way in which a key's value can be wrong."""
    yield "type", PAIR[key.type]
    if not key.optional:
        yield "none", None
    if key.choices or key.registry:
        other = {"int": 77, "bool": True}
        yield "choice", other.get(key.type, "nope")
    if key.range:
        yield from _outside(key.range, key.type)
    if key.length:
        yield from _lengths(key)
    if key.items and key.type in ("list", "tuple"):
        yield from _wrong_entries(key)


def _outside(interval, kind):
    step = 1 if kind == "int" else 0.5
    if interval.low > -math.inf:
        yield "below", _typed(interval.low - (step if interval.closed_low else 0), kind)
    if interval.high < math.inf:
        yield "above", _typed(interval.high + (step if interval.closed_high else 0), kind)
    if kind == "float":
        yield "not finite", math.nan
        yield from (("not finite", math.inf) for _ in range(math.inf not in interval))


def _typed(number, kind):
    return int(number) if kind == "int" else float(number)


def _lengths(key):
    if key.type == "str":
        yield "length", ""
        return
    if key.length.low > 0:
        yield "length", _of_length(key, int(key.length.low) - 1)
    if key.length.high < math.inf:
        yield "length", _of_length(key, int(key.length.high) + 1)


def _of_length(key, count):
    # Entries of a list of lists are lists: a flat list would be taken for the only entry.
    entries = {"int": range(1, count + 1), "float": [0.5 + i for i in range(count)]}
    kind = key.items.type if key.items else "str"
    return list(entries.get(kind, [f"a{i}" if kind == "str" else False for i in range(count)]))


def _wrong_entries(key):
    if key.unique:
        yield "twice", _entry(key, 2)
    if key.increasing:
        yield "order", [*_right(key, 2)][::-1]
    for kind, value in wrong_values(key.items):
        rest = [right(key.items)] * (int(key.length.low) - 1 if key.length else 0)
        yield f"entry: {kind}", [value, *rest]


def _entry(key, times):
    return [right(key.items)] * times


def _right(key, count):
    first = right(key.items)
    return [first + place * (1 if key.items.type == "int" else 0.125) for place in range(count)]


def right(key):
    """Return a value that an entry may have."""
    if key.choices:
        return key.choices[0]
    if key.type in ("list", "tuple"):
        return [right(key.items) if key.items else "a"] * int(key.length.low if key.length else 1)
    if key.type in ("int", "float") and key.range:
        low = key.range.low if key.range.low > -math.inf else 0
        return low + 1 if key.type == "int" else low + 0.5 * min(1, key.range.high - low)
    return {"bool": False, "str": "a", "int": 1, "float": 0.5}[key.type]
