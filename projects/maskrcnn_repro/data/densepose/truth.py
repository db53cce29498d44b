"""Surface coordinates of registered data sets: their file, and the surface that they lie on.

A data set has them if its COCO JSON, or the file that ``densepose_json`` of its metadata names, has DensePose fields.
``densepose_surface`` of the metadata names the surface; without it, it is that of the SMPL model, as of COCO.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.densepose.annotation import FIELDS, SurfacePoints
from maskrcnn_repro.data.densepose.smpl import CHARTS as SMPL_CHARTS
from maskrcnn_repro.data.densepose.smpl import smpl_mirror, smpl_surface
from maskrcnn_repro.data.densepose.surface import Mirror, Surface
from maskrcnn_repro.data.synthetic.families import GENERATED
from maskrcnn_repro.data.synthetic.mini_people.body import body_mirror, body_surface
from maskrcnn_repro.data.synthetic.mini_people.figures import CHARTS as BODY_CHARTS
from maskrcnn_repro.data.synthetic.writing import cache_root
from maskrcnn_repro.errors import ConfigError, DataError, check_choice

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json

Record = dict[str, Any]

SURFACES = {
    "smpl": (smpl_surface, smpl_mirror, len(SMPL_CHARTS)),
    "mini_people": (body_surface, body_mirror, len(BODY_CHARTS)),
}
"""``densepose_surface`` -> what returns the surface, what returns its mirror, and the number of charts."""


def surface_of(dataset: str) -> Surface:
    """Return the surface that a data set is annotated on.

    Raises:
        ConfigError: there is no such surface.
        DataError: its files are missing.
    """
    return _parts_of(dataset)[0]()


def mirror_of(dataset: str) -> Mirror:
    """Return what a mirror makes of the annotations of a data set; errors as of :func:`surface_of`."""
    return _parts_of(dataset)[1]()


def surface_name(dataset: str) -> str:
    """Return the name of the surface that a data set is annotated on; generated sets need not be registered."""
    generated = (family.metadata for family in GENERATED if family.identify(dataset))
    metadata: Any = next(generated, MetadataCatalog.get(dataset))
    return str(metadata.get("densepose_surface", "smpl"))


def _parts_of(dataset: str) -> Any:
    name = surface_name(dataset)
    check_choice(f"densepose_surface of {dataset!r}", name, SURFACES)
    return SURFACES[name]


def surface_file(dataset: str) -> Path:
    """Return the COCO JSON with surface coordinates; that of generated data is written first.

    Raises:
        DataError: the data set has none, or the file cannot be read.
    """
    for family in GENERATED:
        if family.has_surfaces and (identity := family.identify(dataset)):
            return family.generate_surfaces(cache_root(), *identity)
    metadata = MetadataCatalog.get(dataset)
    file = metadata.get("densepose_json") or metadata.get("json_file")
    if file is None or not Path(file).is_file():
        raise DataError(
            f"Data set {dataset!r} has no surface coordinates, which MODEL.DENSEPOSE_ON needs: "
            + (f"{file} does not exist." if file else "it is not in COCO's format.")
        )
    return Path(file)


def read_surfaces(dataset: str) -> dict[str, Any]:
    """Return the COCO JSON with surface coordinates.

    Raises:
        DataError: the file cannot be read, or nobody in it has coordinates.
    """
    file = surface_file(dataset)
    try:
        tree = json.loads(file.read_text("utf-8"))
        annotated = any("dp_x" in annotation for annotation in tree["annotations"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"Surface coordinates {file} cannot be read: {type(error).__name__}: {error}."
        ) from error
    if not annotated:
        raise DataError(
            f"Data set {dataset!r} has no surface coordinates, which MODEL.DENSEPOSE_ON needs: no annotation of {file} has "
            "dp_x; take one in COCO's DensePose format, such as 'mini_people_train'."
        )
    return dict(tree)


def check_densepose(cfg: CfgNode, *, training: bool = True) -> None:
    """Check that all data sets have surface coordinates on one surface, which a model with ``MODEL.DENSEPOSE_ON`` needs.

    Args:
        cfg: its sets are registered.
        training: False for an evaluation alone.

    Raises:
        ConfigError: the images are augmented in a way that coordinates do not follow.
        DataError: a data set has none, or they have values that they cannot have.
    """
    if "ROI_DENSEPOSE_HEAD" not in cfg.MODEL:
        raise ConfigError(
            "MODEL.DENSEPOSE_ON is True, but no plug-in has a DensePose head; add 'maskrcnn_family.densepose' to PLUGINS."
        )
    names = dict.fromkeys((*(cfg.DATASETS.TRAIN if training else ()), *cfg.DATASETS.TEST))
    surfaces = {name: surface_name(name) for name in names}
    if len(set(surfaces.values())) > 1:
        raise DataError(
            "MODEL.DENSEPOSE_ON needs data sets on one surface, but they are on "
            + ", ".join(f"{surface!r} ({name})" for name, surface in surfaces.items())
            + "."
        )
    for name in names:
        check_surfaces(name, min(_parts_of(name)[2], cfg.MODEL.ROI_DENSEPOSE_HEAD.NUM_PATCHES))
    if training and cfg.INPUT.CROP.ENABLED:
        raise ConfigError(
            "INPUT.CROP.ENABLED is True, but surface coordinates are relative to whole boxes; set it to False."
        )
    if training and cfg.INPUT.RANDOM_FLIP == "vertical":
        raise ConfigError(
            "INPUT.RANDOM_FLIP 'vertical' does not go with MODEL.DENSEPOSE_ON; set it to 'horizontal' or 'none'."
        )
    if training and cfg.INPUT.RANDOM_FLIP == "horizontal":
        mirror_of(cfg.DATASETS.TRAIN[0])
    for name in cfg.DATASETS.TEST:
        surface_of(name)


def check_surfaces(dataset: str, charts: int) -> None:
    """Raise DataError unless a data set has surface coordinates, all with values that they may have.

    Args:
        dataset: name.
        charts: number of charts that a model tells apart.
    """
    for annotation in read_surfaces(dataset)["annotations"]:
        surface = SurfacePoints.read(annotation, painted=False)
        if surface is not None and (most := int(surface.points[:, 2].max(initial=0))) > charts:
            raise DataError(
                f"Annotation {annotation.get('id')} of data set {dataset!r} has dp_I {most}, but there are {charts} charts "
                "(MODEL.ROI_DENSEPOSE_HEAD.NUM_PATCHES)."
            )


def with_surfaces(records: Iterable[Record], dataset: str) -> list[Record]:
    """Return records of a data set whose annotations have DensePose fields.

    Raises:
        DataError: the data set has none, or they are not of its images.
    """
    file, root = surface_file(dataset), MetadataCatalog.get(dataset).get("image_root", "")
    loaded = load_coco_json(str(file), root, dataset, extra_annotation_keys=list(FIELDS))
    annotations = {record["image_id"]: record["annotations"] for record in loaded}
    records = list(records)
    for record in records:
        if record["image_id"] not in annotations:
            raise DataError(f"Image {record['file_name']} is not in {file}.")
    return [{**record, "annotations": annotations[record["image_id"]]} for record in records]
