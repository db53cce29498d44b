"""The surface of the SMPL model, on which COCO's DensePose is annotated: 24 charts, from files with a licence of their own.

The files are those that DensePose's authors distribute, in ``densepose/`` in Detectron2's folder of data sets.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.densepose.surface import Floats, Ints, Mirror, Surface
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.utils.pickles import UNREADABLE, as_array, entries

import numpy as np

SYMMETRY, VERTICES, SUBDIVISION, DISTANCES = (
    "UV_symmetry_transforms.mat",
    "SMPL_subdiv.mat",
    "SMPL_SUBDIV_TRANSFORM.mat",
    "Pdist_matrix.pkl",
)
CHARTS = (
    "torso_back", "torso_front", "right_hand", "left_hand", "left_foot", "right_foot", "right_thigh_back",
    "left_thigh_back", "right_thigh_front", "left_thigh_front", "right_shin_back", "left_shin_back",
    "right_shin_front", "left_shin_front", "left_upper_arm_inside", "right_upper_arm_inside",
    "left_upper_arm_outside", "right_upper_arm_outside", "left_forearm_inside", "right_forearm_inside",
    "left_forearm_outside", "right_forearm_outside", "right_face", "left_face",
)  # fmt: skip
# Mean distances within torso, hand, foot, thigh, shin, upper arm, forearm and head, in metres, and the charts of each.
_SCALES = (0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150)
_CHARTS_OF_SCALE = (2, 2, 2, 4, 4, 4, 4, 2)


def default_folder() -> Path:
    """Return where the files are looked for."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser() / "densepose"


@functools.cache
def smpl_surface(folder: Path | None = None) -> Surface:
    """Return the surface of the files in a folder, by default :func:`default_folder`.

    Raises:
        DataError: one is missing or cannot be read.
    """
    folder = folder or default_folder()
    mesh = _read(folder / VERTICES, "measures DensePose")
    chart, u, v = (mesh[f"{name}_subdiv"].ravel() for name in ("Part_ID", "U", "V"))
    # Vertices on the seam of two charts are one vertex of the distances; counted from 1.
    index = _read(folder / SUBDIVISION, "measures DensePose")["index"].ravel().astype(np.int64) - 1
    packed = _read_distances(folder / DISTANCES)

    def distance(first: Ints, second: Ints) -> Floats:
        a, b = index[first], index[second]
        low, high = np.minimum(a, b), np.maximum(a, b)
        # The lower triangle, row by row.
        place = np.where(high > low, high * (high - 1) // 2 + low, 0)
        return np.where(high > low, packed[place], 0.0)

    scale = np.repeat(_SCALES, _CHARTS_OF_SCALE)
    return Surface(CHARTS, chart.astype(np.int64), u, v, distance, np.array([0.0, *scale]))


@functools.cache
def smpl_mirror(folder: Path | None = None) -> Mirror:
    """Return what a mirror does, by the tables of 256 x 256 coordinates; arguments and errors as of :func:`smpl_surface`."""
    tables = _read((folder or default_folder()) / SYMMETRY, "mirrors people (INPUT.RANDOM_FLIP)")
    u_table, v_table = (
        np.stack([*tables[f"{name}_transforms"][0]]).astype(np.float32) for name in "UV"
    )
    # Torso, then pairs of both sides; of the masks the head, too, is one part.
    pairs = np.arange(3, 25) + np.tile([1, -1], 11)
    parts = np.arange(256, dtype=np.uint8)
    parts[2:14] += np.tile(np.array([1, 255], np.uint8), 6)

    def coordinates(chart: Ints, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        places = np.maximum(chart, 1) - 1, (v * 255).astype(int), (u * 255).astype(int)
        on_body = chart > 0
        return np.where(on_body, u_table[places], u), np.where(on_body, v_table[places], v)

    return Mirror(np.array([0, 1, 2, *pairs]), parts, coordinates)


def _check_there(file: Path, purpose: str) -> None:
    if not file.is_file():
        raise DataError(
            f"{file} does not exist, without which nothing {purpose} of COCO; it comes from DensePose's authors with a "
            "licence of its own."
        )


def _read_distances(file: Path) -> Floats:
    """Return the packed distances, a vector."""
    _check_there(file, "measures DensePose")
    try:
        with file.open("rb") as stream:
            return as_array(entries(stream)["Pdist_matrix"]).ravel()
    except (OSError, *UNREADABLE) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error


def _read(file: Path, purpose: str) -> dict[str, Any]:
    _check_there(file, purpose)
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(f"{file} is read by scipy, which is not installed.") from error
    try:
        return dict(loadmat(str(file)))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
