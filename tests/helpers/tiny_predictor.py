"""A tiny model as a file that can be used alone, and pictures of several sizes."""

from maskrcnn_repro.checkpoint.model_file import Labels, write_model

import numpy as np
from PIL import Image

from tests.helpers.tiny_models import tiny_config, tiny_model

SIZES = ((64, 80), (64, 80), (50, 90), (64, 80), (90, 50), (64, 80))
"""(H, W): several of one size behind each other, and others between them."""
LABELS = Labels(
    class_names=("disc", "bar", "ring"),
    category_ids=(4, 7, 9),
    keypoint_names=("nose", "left_eye", "right_eye"),
    flip_pairs=(("left_eye", "right_eye"),),
    skeleton=(("nose", "left_eye"),),
)
TORCHVISION = {
    "INPUT.RESIZE": "torchvision",
    "MODEL.ANCHOR_GENERATOR.NAME": "TorchvisionAnchorGenerator",
    "MODEL.ROI_BOX_HEAD.MIN_SIZE": 4.0,
    "MODEL.ROI_BOX_HEAD.UNUSED_CLASSES": 2,
}
"""Keys of a model that computes as torchvision's do, with a size that some detections lack."""
SMALL = {"INPUT.MIN_SIZE_TEST": 64, "INPUT.MAX_SIZE_TEST": 128}


def write_tiny_model(folder, kind="both", labels=LABELS, **keys):
    """Write a model of random weights and return its file; ``keys`` as in ``tiny_config``."""
    keys = SMALL | keys
    file = folder / f"{kind}.safetensors"
    state = tiny_model(kind, **keys).state_dict()
    write_model(file, state, tiny_config(kind, **keys), labels, {"data": "none"})
    return file


def write_pictures(folder, sizes=SIZES):
    """Write noise as PNG files into a folder and return their paths, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    files = [folder / f"{number:03d}.png" for number in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(file)
    return files


def assert_equal(first, second, *, path=True):
    """Assert that two predictions are equal to the last bit."""
    for name in ("boxes", "scores", "class_ids", "keypoints"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None) == (b is None), name
        assert a is None or (a.dtype == b.dtype and np.array_equal(a, b)), name
    assert first.rles == second.rles
    assert (first.height, first.width) == (second.height, second.width)
    assert not path or first.path == second.path
