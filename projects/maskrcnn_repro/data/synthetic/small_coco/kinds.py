"""The classes: a shape and a texture each; neither alone tells all of them."""

from __future__ import annotations

from maskrcnn_repro.data.synthetic.small_coco.things import Kind

KINDS = (
    Kind("spotted", "beetle", (163, 77, 58)),
    Kind("banded", "beetle", (102, 118, 48)),
    Kind("lined", "chair", (173, 122, 64)),
    Kind("banded", "fish", (74, 131, 176)),
    Kind("netted", "fish", (176, 134, 102)),
    Kind("mottled", "gear", (118, 122, 141)),
    Kind("checked", "key", (179, 163, 70)),
    Kind("lined", "leaf", (77, 160, 70)),
    Kind("mottled", "leaf", (163, 125, 45)),
    Kind("checked", "snake", (109, 157, 109)),
    Kind("netted", "snake", (134, 90, 128)),
    Kind("spotted", "umbrella", (157, 74, 157)),
)
"""Classes of objects to detect. Shapes and textures come twice each, four shapes once."""

FURTHER_KINDS = (
    Kind("netted", "beetle", (102, 90, 134)),
    Kind("checked", "chair", (134, 138, 157)),
    Kind("spotted", "chair", (163, 99, 122)),
    Kind("mottled", "fish", (90, 154, 141)),
    Kind("banded", "gear", (157, 141, 115)),
    Kind("checked", "gear", (90, 112, 163)),
    Kind("lined", "key", (150, 144, 141)),
    Kind("spotted", "key", (125, 160, 77)),
    Kind("banded", "leaf", (147, 166, 58)),
    Kind("spotted", "snake", (166, 118, 70)),
    Kind("banded", "umbrella", (80, 102, 166)),
    Kind("lined", "umbrella", (166, 80, 96)),
)
"""Further combinations of the same shapes and textures, for classification; with :data:`KINDS` each shape comes thrice."""
