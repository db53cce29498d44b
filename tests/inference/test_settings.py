"""What a predictor makes of the names in a model's file."""

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.inference.settings import _flip_indices

import pytest

EYES = ("nose", "left_eye", "right_eye")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (Labels(keypoint_names=EYES, flip_pairs=(EYES[1:],)), [0, 2, 1]),
        (Labels(keypoint_names=("nose", "tail")), [0, 1]),
        # Nobody says that left and right change places: averaged as they are, they would be mixed.
        (Labels(keypoint_names=EYES), None),
        (Labels(), None),
    ],
)
def test_the_mirror_image_of_each_keypoint(labels, expected):
    assert _flip_indices(labels) == expected
