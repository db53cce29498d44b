"""Values that are computed ahead and in batches, and errors on their way."""

from concurrent.futures import ThreadPoolExecutor

from maskrcnn_repro.inference.pipeline import batches, compute_ahead

import pytest


def broken(count):
    yield from range(count)
    raise OSError("the disk is gone")


def until_error(items):
    """What is delivered before an error."""
    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        got.extend(items)
    return got


@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_was_computed_before_an_error_is_delivered(count):
    with ThreadPoolExecutor(2) as pool:
        done = until_error(compute_ahead(pool, lambda x: 10 * x, broken(count), 3))
    assert [(value, future.result()) for value, future in done] == [
        (x, 10 * x) for x in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (2, [[0, 1]]), (5, [[0, 1], [2, 3], [4]])]
)
def test_a_batch_that_an_error_cuts_short_is_delivered(count, expected):
    assert until_error(batches(broken(count), 2, lambda _: 0)) == expected


def test_batches_end_at_their_size_and_at_another_key():
    assert list(batches(iter("aaabcc"), 2, str)) == [["a", "a"], ["a"], ["b"], ["c", "c"]]


def test_what_nobody_waits_for_is_not_computed():
    done = []
    with ThreadPoolExecutor(1) as pool:
        stream = compute_ahead(pool, done.append, iter(range(100)), 10)
        next(stream)
        stream.close()
    assert len(done) <= 11
