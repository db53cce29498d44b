"""Shared by the tests of data sets, samplers, loaders and mappers."""

import itertools

# What the real Detectron2 raises for a mistake, and what the embedded one does.
MISTAKE = (ValueError, AssertionError)

TRIANGLE = [2.0, 2.0, 6.0, 2.0, 6.0, 8.0]


def take(stream, count):
    return list(itertools.islice(stream, count))
