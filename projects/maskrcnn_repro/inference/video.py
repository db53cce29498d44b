"""Videos and cameras, read and written by OpenCV.

H, W = height and width of a frame in pixels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from maskrcnn_repro.errors import DataError, OutputError
from maskrcnn_repro.utils.files import other_than_file, replaced

import cv2
import numpy as np

# FFmpeg's lines on stderr; OpenCV looks for this once, at the first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
"""Of files that are read as videos."""
FPS = 25.0
"""Where a file or a camera tells none."""
TICKS = 65_535
"""The most units of time that a second of MPEG-4 video may have; a frame takes a whole number of them."""
MISSING = 0.1
"""Share of the frames that a header announces which may be missing; some containers estimate their number."""


class Video:
    """The frames of a video file or of a camera, upright where the file says how.

    Args:
        source: path of the file, or number of the camera.

    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, source: Path | int) -> None:
        self.source = source
        self.name = f"Camera {source}" if isinstance(source, int) else f"Video {source}"
        if isinstance(source, int):
            self._capture = _open(source, cv2.CAP_ANY)
        else:
            if kind := other_than_file(source):
                raise DataError(f"{self.name} cannot be read: it is {kind}.")
            # By FFmpeg alone: other readers take a % in a name for a pattern of image files.
            self._capture = _open(str(source.absolute()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            reason = "there is none, or another program holds it; /dev/video* lists those of Linux"
            if not isinstance(source, int):
                empty = source.is_file() and not source.stat().st_size
                reason = "it is an empty file" if empty else "FFmpeg knows no video in it"
            raise DataError(f"{self.name} cannot be opened: {reason}.")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = rate if math.isfinite(rate) and 0 < rate <= 1000 else FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if math.isfinite(count) and count > 0 else None
        """Of frames, as the header says; None where it does not."""
        self.problem = ""
        """A sentence if there was no frame, or the file ended long before its header says."""

    def frames(self, limit: int | None = None) -> Iterator[np.ndarray]:
        """Yield the frames as (H, W, 3) RGB uint8; :attr:`problem` tells afterwards whether they were all.

        Args:
            limit: largest number of frames.
        """
        number = 0
        while number != limit:
            whole, frame = self._capture.read()
            if not whole:
                self.problem = self._problem_after(number)
                break
            number += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def _problem_after(self, number: int) -> str:
        if number == 0:
            return f"{self.name} has no frame that can be read."
        if self.count and number < (1 - MISSING) * self.count:
            return f"{self.name} breaks off after {number} of {self.count} frames; those are done."
        return ""

    def close(self) -> None:
        """Let go of the file or the camera."""
        self._capture.release()


class VideoFile:
    """An mp4 file that takes frames and has its name once it is whole; without frames there is no file.

    OpenCV leaves out the last column or row of an odd width or height. The rate is written with as many decimals, up to
    three, as an mp4 file can hold.

    Args:
        path: of the file.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self.count = 0
        self._beside = path
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, frame: np.ndarray) -> None:
        """Append a frame, (H, W, 3) RGB uint8 of the size of the first.

        Raises:
            OutputError: the file cannot be begun.
        """
        if self._writer is None:
            self._beside = self._stack.enter_context(replaced(self.path))
            height, width = frame.shape[:2]
            code, rate = cv2.VideoWriter.fourcc(*"mp4v"), _writable_rate(self.fps)
            with _quiet():
                self._writer = cv2.VideoWriter(str(self._beside), code, rate, (width, height))
            if not self._writer.isOpened():
                raise OutputError(
                    f"{self.path} cannot be written: OpenCV writes no mp4 of {width} x {height} pixels and "
                    f"{self.fps:g} frames per second there; look at the room on the disk, or leave overlays out with "
                    "--no-overlays."
                )
        with _quiet():
            self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the file; after an error it is removed.

        Raises:
            OutputError: not all frames are in the file; OpenCV does not tell when it cannot write.
        """
        if self._writer is None:
            self._stack.__exit__(kind, error, trace)
            return
        with _quiet():
            self._writer.release()
        if error is None and _frames_in(self._beside) != self.count:
            error = OutputError(
                f"{self.path} cannot be written: not all of its {self.count} frames arrived in the file; look at "
                "the room on the disk."
            )
            self._stack.__exit__(OutputError, error, None)
            raise error
        self._stack.__exit__(kind, error, trace)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what OpenCV tells of an error on stderr, where it can: the sentence for it is ours."""
    log = getattr(cv2.utils, "logging", None)  # not in every build
    if log is None:
        yield
        return
    level = log.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(level)


def _writable_rate(fps: float) -> float:
    """Return the rate with the decimals that MPEG-4 can hold: 119.957 would need 119,957 units in a second."""
    decimals = next((d for d in (3, 2, 1) if fps * 10**d <= TICKS), 0)
    return round(fps, decimals)


def _open(source: str | int, reader: int) -> cv2.VideoCapture:
    with _quiet():
        return cv2.VideoCapture(source, reader)


def _frames_in(path: Path) -> int:
    capture = _open(str(path), cv2.CAP_FFMPEG)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return count
