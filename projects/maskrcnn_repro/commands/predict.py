"""The command ``maskrcnn predict``: a model on images, videos and a camera; pictures and annotations."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from maskrcnn_repro.data.image_file import ImageError, ImageFiles, check_pixel_range
from maskrcnn_repro.engine.signals import STATUSES, handling
from maskrcnn_repro.errors import ConfigError, DataError, Ended, OutputError, counted
from maskrcnn_repro.inference.formats import (
    WRITERS,
    CocoWriter,
    Item,
    Shapes,
    Writer,
    check_corrections,
)
from maskrcnn_repro.inference.input_files import Input, check_output_folder, find_inputs
from maskrcnn_repro.inference.overlays import PICTURES, magnification, overlay_path, write_picture
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.inference.stream import in_threads, predict_frames, predict_images
from maskrcnn_repro.inference.video import Video, VideoFile
from maskrcnn_repro.utils.files import check_output
from maskrcnn_repro.utils.freed_memory import UNUSED, keep_freed_memory
from maskrcnn_repro.utils.lock import locked
from maskrcnn_repro.utils.progress import Progress

import numpy as np

T = TypeVar("T")


def run(args: argparse.Namespace) -> int:
    """Predict on the inputs of ``maskrcnn predict``; return 1 if one could not be read."""
    overlays = None if args.no_overlays else args.out / "overlays"
    inputs = find_inputs(args.inputs) if args.inputs else []
    written = [args.out / "overlays", args.out / "labelme"]
    check_output_folder(args.out, written, args.inputs, inputs)
    _check_options(args, inputs)
    if not args.overwrite:
        check_corrections(args.format, args.out, [item.name for item in inputs])
    keep_freed_memory(UNUSED)
    model = Predictor(
        args.model,
        "auto" if args.threshold is None else args.threshold,
        classes=args.classes,
        device=args.device,
        precision=args.precision,
        tta=args.tta or None,
        tiles=args.tiles,
        trust=args.trust,
    )
    names = {item.name for item in inputs}
    work = Work(model, _writers(args, model), overlays, names, args)
    # Each of two commands would replace the annotations of the other.
    with locked(args.out, "--out"):
        return _work(work, inputs, args)


def _work(work: Work, inputs: list[Input], args: argparse.Namespace) -> int:
    try:
        with handling(work.interrupt):
            work.images([item for item in inputs if not item.video])
            for video in [item for item in inputs if item.video]:
                work.video(video.path, video.name)
            if args.camera is not None:
                work.video(args.camera, f"camera{args.camera}")
    except Exception:
        # What is done is kept, if there is room for it.
        with suppress(OutputError):
            work.close()
        raise
    work.close()
    return work.status()


def _check_options(args: argparse.Namespace, inputs: list[Input]) -> None:
    check_pixel_range(args.pixel_range or ())
    if args.json is not None:
        check_output("--json", args.json, ".json", [args.out / "label_studio.json"])
    moving = args.camera is not None or any(item.video for item in inputs)
    if moving and args.format != "coco":
        raise OutputError(
            f"--format {args.format} holds images, and frames of a video are no files; leave it out for COCO, or "
            "save the frames as images first."
        )
    if args.format == "panoptic":
        if args.tiles:
            raise ConfigError(
                f"--tiles {args.tiles}: segments of neighbouring tiles are not joined, so that there is no map for --format "
                "panoptic; leave one of them out."
            )
        for option, value in (("--shapes", args.shapes), ("--tolerance", args.tolerance)):
            if value is not None and args.json is None:
                raise ConfigError(
                    f"{option} {value}: --format panoptic has each segment as pixels of a map; leave {option} out."
                )
    if args.tolerance is not None and not _writes_polygons(args):
        raise ConfigError(
            f"--tolerance {args.tolerance:g}: masks keep every pixel; add --shapes polygons, or leave --tolerance out."
        )


def _writes_polygons(args: argparse.Namespace) -> bool:
    return args.format != "coco" if args.shapes is None else args.shapes == "polygons"


def _writers(args: argparse.Namespace, model: Predictor) -> list[Writer]:
    if args.format == "panoptic" and not model.makes_panoptic:
        raise ConfigError(
            f"--format panoptic is for models that make panoptic maps, and {args.model} makes none; choose coco for this one."
        )
    polygons, tolerance = _writes_polygons(args), 1.0 if args.tolerance is None else args.tolerance
    writers: list[Writer] = []
    if args.json is not None:
        shapes = Shapes(polygons, tolerance)
        writers.append(CocoWriter(args.json, model.labels, shapes, model.path))
    if args.json is None or args.format != "coco":
        shapes = Shapes(polygons, tolerance)
        writers.append(WRITERS[args.format](args.out, model.labels, shapes, model.path))
    return writers


class Work:
    """Inputs through a model into overlays and annotations, until a signal comes.

    Args:
        model: the model.
        writers: of annotations.
        overlays: folder of the pictures; None for none.
        names: of all inputs.
        args: of the command line.
    """

    def __init__(
        self,
        model: Predictor,
        writers: list[Writer],
        overlays: Path | None,
        names: set[str],
        args: argparse.Namespace,
    ) -> None:
        self.names = names
        self.model, self.writers, self.overlays, self.args = model, writers, overlays, args
        self.skipped = self.images_done = self.objects = self.segments = self.signal = 0
        self.seconds = 0.0
        self.progress = Progress("images")

    def interrupt(self, number: int) -> None:
        """Stop after the current batch; a second interruption stops at once."""
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def images(self, inputs: list[Input]) -> None:
        """Predict on images."""
        self.progress = Progress("images", len(inputs))
        files = ImageFiles(tuple(self.args.pixel_range or self.model.cfg.INPUT.PIXEL_RANGE))

        def skip(error: ImageError) -> None:
            self.progress.total = len(inputs) - self.skipped - 1
            self._skip(error)

        pairs = predict_images(self.model, files, self._until_signal(inputs), self.args.batch, skip)
        for item in in_threads(self._write_overlay, self._until_signal(pairs)):
            self._add(item)
        self._end_part()

    def video(self, source: Path | int, name: str) -> None:
        """Predict on the frames of a video file or a camera."""
        if self.signal:
            return
        try:
            video = Video(source)
        except DataError as error:
            self._skip(error)
            return
        limit = self.args.frames
        self.progress = Progress("frames", min(filter(None, (limit, video.count)), default=None))
        frames = self._until_signal(video.frames(limit))
        pairs = predict_frames(self.model, name, Path(name), frames, self.args.batch)
        with closing(video), self._video_file(name, video.fps) as file:
            for item, picture in in_threads(self._frame_overlay, self._until_signal(pairs)):
                if file is not None and picture is not None:
                    file.add(picture)
                self._add(item)
        self._end_part()
        if video.problem:
            self._skip(DataError(video.problem))

    def close(self) -> None:
        """Write the annotations, and say what there is.

        Raises:
            OutputError: some cannot be written; the others are.
        """
        sentences: list[str] = []
        errors = []
        for writer in self.writers:
            try:
                sentences += writer.close()
            except OutputError as error:
                errors.append(error)
        rate = self.images_done / max(self.seconds, 1e-9)
        counts = [counted(self.images_done, "image")]
        if self.args.format == "panoptic":
            counts.append(counted(self.segments, "segment"))
        if self.args.format != "panoptic" or self.args.json is not None:
            counts.append(counted(self.objects, "object"))
        print(f"{', '.join(counts)}, {rate:.3g} images/s")
        if self.overlays is not None and self.images_done:
            print(f"Overlays: {self.overlays}")
        print("\n".join(dict.fromkeys(sentences)))
        if self.skipped:
            print(f"Skipped and named above: {self.skipped}", file=sys.stderr)
        if errors:
            raise errors[0]

    def status(self) -> int:
        """Return the exit status: 1 if an input was skipped.

        Raises:
            KeyboardInterrupt: it was interrupted.
            Ended: another signal came.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal:
            raise Ended(STATUSES[self.signal])
        return 1 if self.skipped else 0

    def _until_signal(self, items: Iterable[T]) -> Iterator[T]:
        return itertools.takewhile(lambda _: not self.signal, items)

    def _skip(self, error: DataError) -> None:
        self.skipped += 1
        self.progress.say(f"Skipped: {error}")

    def _add(self, item: Item) -> None:
        for writer in self.writers:
            try:
                writer.add(item)
            except DataError as error:
                self._skip(error)
        self.objects += len(item.prediction)
        self.segments += len(item.prediction.segments_info)
        self.progress.step()

    def _end_part(self) -> None:
        self.progress.clear()
        self.images_done += self.progress.done
        self.seconds += self.progress.seconds

    def _write_overlay(self, pair: tuple[np.ndarray, Item]) -> Item:
        image, item = pair
        if self.overlays is not None:
            colors = range(len(item.prediction)) if self.args.colors == "objects" else None
            scale = magnification(*image.shape[:2])
            picture = item.prediction.draw(image, scale, colors)
            path = overlay_path(self.overlays, item.name, PICTURES, self.names)
            write_picture(path, picture)
        return item

    def _frame_overlay(self, pair: tuple[np.ndarray, Item]) -> tuple[Item, np.ndarray | None]:
        frame, item = pair
        if self.overlays is None:
            return item, None
        colors = None if self.args.colors == "classes" else item.tracks
        return item, item.prediction.draw(frame, 1, colors)

    def _video_file(self, name: str, fps: float) -> AbstractContextManager[VideoFile | None]:
        if self.overlays is None:
            return nullcontext()
        return VideoFile(overlay_path(self.overlays, name, [".mp4"], self.names), fps)
