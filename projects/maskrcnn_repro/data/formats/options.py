"""What a reader is told beside the files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Answers to what a format leaves open.

    Attributes:
        class_name: of objects without one, where a format has none: VIA without attributes, maps of instances.
        attribute: the region attribute of VIA that names the class; empty: the only one, or one with a usual name.
        predictions: whether to take Label Studio's predictions for tasks that nobody has annotated.
    """

    class_name: str = "object"
    attribute: str = ""
    predictions: bool = False
