"""Generated people in COCO format: 17 keypoints with visibility, exact masks, the same on every machine.

``mini_people_train`` (2,000 images) and ``mini_people_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``mini_people_seed1_train``.
"""

from maskrcnn_repro.data.generated.dataset import GeneratedSet
from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS, flip_map, limbs
from maskrcnn_repro.data.mini_people.scenes import draw_scene

_LIMBS = (
    ("left_ankle", "left_knee"), ("left_knee", "left_hip"),
    ("right_ankle", "right_knee"), ("right_knee", "right_hip"),
    ("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
    ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
)  # fmt: skip

MINI_PEOPLE = GeneratedSet(
    name="mini_people",
    version=1,
    draw=draw_scene,
    categories=(
        {
            "id": 1,
            "name": "person",
            "supercategory": "person",
            "keypoints": list(COCO_KEYPOINTS),
            # COCO counts them from 1.
            "skeleton": [[COCO_KEYPOINTS.index(end) + 1 for end in limb] for limb in _LIMBS],
        },
    ),
    metadata={
        "keypoint_names": COCO_KEYPOINTS,
        "keypoint_flip_map": flip_map(COCO_KEYPOINTS),
        "keypoint_connection_rules": limbs(_LIMBS),
    },
)

DIGESTS = {
    ("train", 50): "50e86baee1bbdab023d83034d5fa554580ff727a98b5abb9c12cefdb85a3d073",
    ("val", 50): "b55be66705dafd138f1b785a415ba4f499b578b5f47e485c9541c877b4427388",
    ("train", 2000): "0eaca132a3bae49964b89e1e847cbb84919db9ebd3db6e0ff2603658e551aae2",
    ("val", 1000): "b2425ffbd0f357afa77a2c7a102b477827b52496fe707930733de478885b845a",
}
"""(split, number of images) of seed 0 to its digest: the same on every machine."""

__all__ = ["DIGESTS", "MINI_PEOPLE"]
