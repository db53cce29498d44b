"""Panoptic maps of a Panoptic FPN that was exported with --pasted: python panoptic_without_torch.py model.onnx photo.jpg."""

import json
import sys

import numpy as np
import onnxruntime
from onnx_without_torch import detect  # beside this file
from PIL import Image

Segment = tuple[bool, int]
"""Whether it is a thing, and its class: a place in ``class_names`` or ``stuff_names``."""


def fuse(
    outputs: dict[str, np.ndarray], fusion: dict[str, float]
) -> tuple[np.ndarray, list[Segment]]:
    """Return ids (H, W) int32, 0 for none, and the segments 1, 2, …; ``fusion`` is that of the metadata ``export``."""
    ids, segments = np.zeros(outputs["semantic"].shape, np.int32), []
    things = (outputs[name] for name in ("pasted", "scores", "classes"))
    for mask, score, index in zip(*things, strict=True):  # by falling score
        free = mask & (ids == 0)
        covered = 1 - free.sum() / max(mask.sum(), 1)
        if score >= fusion["score"] and free.any() and covered <= fusion["overlap"]:
            segments.append((True, int(index)))
            ids[free] = len(segments)
    for label in np.unique(outputs["semantic"]):
        free = (outputs["semantic"] == label) & (ids == 0)
        if label > 0 and free.sum() >= max(fusion["stuff_area"], 1):  # 0 is all things
            segments.append((False, int(label)))
            ids[free] = len(segments)
    return ids, segments


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    if not {"semantic", "pasted"} <= {output.name for output in session.get_outputs()}:
        sys.exit(f"{sys.argv[1]} is no Panoptic FPN that was exported with --pasted.")
    names = {True: json.loads(facts["class_names"]), False: json.loads(facts["stuff_names"])}
    outputs = detect(session, Image.open(sys.argv[2]))
    ids, segments = fuse(outputs, json.loads(facts["export"])["fusion"])
    for number, (thing, index) in enumerate(segments, start=1):
        print(f"{names[thing][index]:<16} {'thing' if thing else 'stuff'} {(ids == number).sum()}")
