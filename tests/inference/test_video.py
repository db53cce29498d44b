"""Videos that are written with the rate of the one that they are made of."""

from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.inference.video import Video, VideoFile

import numpy as np
import pytest


def write(path, fps):
    with VideoFile(path, fps) as file:
        for _ in range(3):
            file.add(np.zeros((16, 16, 3), np.uint8))


@pytest.mark.parametrize(
    ("fps", "written"),
    [
        (0.5, 0.5),
        (24_000 / 1001, 23.976),
        (119.957, 119.96),
        (239.857, 239.86),
        (999.99, 1000.0),
        (1000.0, 1000.0),
    ],
)
def test_any_rate_of_a_camera_is_written(tmp_path, fps, written):
    write(tmp_path / "a.mp4", fps)
    video = Video(tmp_path / "a.mp4")
    assert (video.fps, len(list(video.frames()))) == (written, 3)


def test_a_rate_that_no_file_can_hold_is_named(tmp_path, capfd):
    with pytest.raises(
        OutputError, match=r"no mp4 of 16 x 16 pixels and 0\.0001 frames per second"
    ):
        write(tmp_path / "a.mp4", 0.0001)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""
