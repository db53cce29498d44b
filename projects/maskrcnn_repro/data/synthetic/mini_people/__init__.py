"""Generated people in COCO format: 17 keypoints with visibility, exact masks, the same on every machine.

Figures face the viewer within 60 degrees, so that left and right can be learnt in minutes.

``mini_people_train`` (2,000 images) and ``mini_people_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``mini_people_seed1_train``.

Where on the body the pixels of a figure lie follows from its joints; these coordinates are written when a config asks for
them.
"""

from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS, flip_map, limbs
from maskrcnn_repro.data.synthetic.dataset import GeneratedSet
from maskrcnn_repro.data.synthetic.mini_people.scenes import draw_scene

_LIMBS = (
    ("left_ankle", "left_knee"), ("left_knee", "left_hip"),
    ("right_ankle", "right_knee"), ("right_knee", "right_hip"),
    ("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
    ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
)  # fmt: skip

CATEGORIES = (
    {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO_KEYPOINTS),
        # COCO counts keypoints from 1.
        "skeleton": [[COCO_KEYPOINTS.index(end) + 1 for end in limb] for limb in _LIMBS],
    },
)
"""As in a COCO JSON."""

METADATA = {
    "keypoint_names": COCO_KEYPOINTS,
    "keypoint_flip_map": flip_map(COCO_KEYPOINTS),
    "keypoint_connection_rules": limbs(_LIMBS),
    "densepose_surface": "mini_people",
}
"""Keypoints, their skeleton and the surface of the body, for Detectron2."""

MINI_PEOPLE = GeneratedSet(
    name="mini_people",
    version=2,
    draw=draw_scene,
    has_surfaces=True,
    categories=CATEGORIES,
    metadata=METADATA,
)

DIGESTS = {
    ("train", 50): "d6c3d60c78680669cbd4c3a834fab5fcde710dffab536ddf7cdb984d5dc564ca",
    ("val", 50): "6a4249c395c53fcaae57dfaa3f699fe31694f90fbd294d4ec10f76bd8a1c37e5",
    ("train", 2000): "40124fb994564c79809a41e74cc90502872d5be9fb740d7b1d90431de50b3b92",
    ("val", 1000): "0f3c7d83d17b862e3f7fc78ec6c782d02253dba055c4698ffafbbce5e99662fa",
}
"""(split, number of images) -> digest of that data set with seed 0, on every machine."""

__all__ = ["CATEGORIES", "DIGESTS", "METADATA", "MINI_PEOPLE"]
