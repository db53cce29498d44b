"""Levels as data: their names, and the trainings that take the place of published weights (``levels.yaml``)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType

from maskrcnn_cli.tables import LEVELS
from maskrcnn_repro.errors import TableError, listing
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, describe_missing, read_data

__all__ = ["LEVELS", "backbone_in_place_of", "backbone_names", "check_level", "parse_levels"]


def check_level(level: str) -> None:
    """Raise TableError if there is no such level."""
    if level not in LEVELS:
        raise TableError(
            f"{describe_missing(LEVELS, level, 'Level')} There are {', '.join(LEVELS)}."
        )


def backbone_in_place_of(weights: str, level: str) -> str:
    """Return the id of the experiment that trains at a level what published weights are elsewhere.

    Args:
        weights: ``MODEL.WEIGHTS`` of a config.
        level: one of :data:`LEVELS`.

    Returns:
        The id; empty if the level takes weights as they are.

    Raises:
        TableError: the level trains backbones, but none in place of these weights.
    """
    trained = _levels().get(level)
    if not trained or not weights:
        return ""
    if weights not in trained:
        raise TableError(
            f"Level {level!r} has no backbone in place of {weights!r}; it has {listing(trained.values())}."
        )
    return trained[weights]


def backbone_names(level: str = "") -> tuple[str, ...]:
    """Return the ids of the backbones that a level trains, each once; of all levels without one."""
    levels = [level] if level else [*_levels()]
    return tuple(
        dict.fromkeys(name for item in levels for name in _levels().get(item, {}).values())
    )


@functools.cache
def _levels() -> Mapping[str, Mapping[str, str]]:
    return parse_levels(read_data(FOLDER / "levels.yaml"))


def parse_levels(top: Node) -> Mapping[str, Mapping[str, str]]:
    """Return, for each level of a file like ``levels.yaml``, published weights to the id of a backbone.

    Raises:
        TableError: a level does not exist, or a backbone is no string.
    """
    parsed = {}
    for level, node in top.nodes():
        check_level(level)
        weights = node.rest()
        parsed[level] = {str(key): Node(weights, node.place).take(key, str) for key in weights}
    return MappingProxyType(parsed)
