"""Strategies for files that are nearly right: trees of JSON and bytes with a few changes."""

import copy
import json

import pytest

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

NUMBERS = (
    0,
    -1,
    1,
    2,
    7,
    0.5,
    -0.0,
    1e9,
    1e30,
    -1e30,
    1e308,
    5e-324,
    2**31,
    2**32,
    2**53 + 1,
    2**63,
    -(2**63),
    10**30,
)
ODD = (float("nan"), float("inf"), float("-inf"), 10**400)
TEXTS = (
    "",
    "0",
    "1",
    "a\nb",
    "\x1b[31m",
    "\0",
    "é",
    "\ud800",
    "../..",
    "/",
    "NaN",
    "x" * 5000,
    "\u2028",
    "🦓" * 50,
)
SPECIAL = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(ODD),
    st.sampled_from(TEXTS),
    st.sampled_from(
        [None, True, False, [], {}, [[]], [None], {"": None}, [[[]]], {"a": {"b": []}}]
    ),
    st.integers(-5, 200),
    st.floats(-100, 200),
    st.text(max_size=6),
).map(copy.deepcopy)  # later changes change lists in place
"""Values where others are expected."""


def places(tree, prefix=()):
    """The path of each value below the top of a tree, as a tuple of keys and indices."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield (*prefix, key)
        yield from places(value, (*prefix, key))


def value_at(tree, place):
    for key in place:
        tree = tree[key]
    return tree


def _replace(draw, parent, key):
    parent[key] = draw(SPECIAL)


def _remove(draw, parent, key):
    del parent[key]


def _repeat(draw, parent, key):
    times = draw(st.sampled_from((1, 1, 2, 50)))
    if isinstance(parent, list):
        parent[key:key] = [copy.deepcopy(parent[key]) for _ in range(times)]
    else:
        parent[f"{key}{times}"] = copy.deepcopy(parent[key])


def _wrap(draw, parent, key):
    parent[key] = draw(st.sampled_from((lambda v: [v], lambda v: {"a": v}, str, lambda v: [v, v])))(
        parent[key]
    )


def _unwrap(draw, parent, key):
    value = parent[key]
    if isinstance(value, list | dict) and value:
        parent[key] = value[0] if isinstance(value, list) else next(iter(value.values()))
    else:
        parent[key] = None


def _nudge(draw, parent, key):
    value = parent[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        parent[key] = draw(
            st.sampled_from((value + 1, -value, value * 1000, str(value), f"{value}.5"))
        )
    elif isinstance(value, str):
        parent[key] = draw(
            st.sampled_from(
                (value + " ", value[:-1], value.upper(), value.encode().hex(), value * 2)
            )
        )
    else:
        parent[key] = draw(SPECIAL)


def _rename(draw, parent, key):
    if isinstance(parent, dict):
        parent[
            draw(
                st.one_of(st.sampled_from(TEXTS), st.just(str(key).upper()), st.just(str(key)[:-1]))
            )
        ] = parent.pop(key)
    else:
        parent.reverse()


def _deepen(draw, parent, key):
    for _ in range(draw(st.sampled_from((1, 5, 60)))):
        parent[key] = [parent[key]]


CHANGES = (_replace, _replace, _remove, _repeat, _wrap, _unwrap, _nudge, _nudge, _rename, _deepen)


@st.composite
def trees(draw, tree, most=3):
    """A tree of JSON with 0 to ``most`` changes."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(0, most))):
        everywhere = list(places(tree))[:3000]
        if not everywhere:
            break
        *above, key = everywhere[draw(st.integers(0, len(everywhere) - 1))]
        parent = value_at(tree, above)
        draw(st.sampled_from(CHANGES))(draw, parent, key)
    return tree


ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-be", "latin-1")


@st.composite
def json_files(draw, tree, most=3):
    """Bytes of a JSON file of :func:`trees`: mostly valid JSON, else in another encoding or damaged."""
    text = json.dumps(draw(trees(tree, most)), ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 19)) == 0:  # deeper than Python's parser goes
        text = text.replace(":", ": " + "[" * 10**5, 1)
    encoding = draw(st.sampled_from(ENCODINGS))
    content = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    return draw(damaged(content)) if draw(st.integers(0, 5)) == 0 else content


FILL = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        (
            b"\0",
            b"\xff" * 4,
            b"\xff" * 8,
            b"\0\0\0\x80",
            b"\xff\xff\xff\x7f",
            b"\0" * 64,
            b"9" * 400,
        )
    ),
)


@st.composite
def damaged(draw, content, others=(), most=4):
    """Bytes with 1 to ``most`` changes: cut off, overwritten, inserted, taken out, repeated, or spliced.

    Args:
        content: the bytes as they were.
        others: of the same kind, whose ends may follow its beginning.
    """
    for _ in range(draw(st.integers(1, most))):
        size = len(content)
        begin = draw(st.integers(0, size))
        end = min(size, begin + draw(st.sampled_from((1, 2, 4, 8, 30, 1000))))
        kind = draw(st.integers(0, 6 if others else 5))
        fill = draw(FILL)
        if kind == 0:
            content = content[:begin]
        elif kind in (1, 2):
            content = content[:begin] + fill + content[begin + len(fill) :]
        elif kind == 3:
            content = content[:begin] + fill + content[begin:]
        elif kind == 4:
            content = content[:begin] + content[end:]
        elif kind == 5:
            content = (
                content[:end]
                + content[begin:end] * draw(st.sampled_from((1, 2, 50)))
                + content[end:]
            )
        else:
            other = others[draw(st.integers(0, len(others) - 1))]
            content = content[:begin] + other[min(begin, len(other)) :]
    return content
