"""From the annotations of a data set dict to the `Instances` that a model is trained on.

H, W = height and width of the image, N = instances, K = keypoints.

Coordinates are absolute pixels, as in `transforms.transform`. An image size is (H, W), that of the
transformed image unless said otherwise.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pycocotools.mask as coco_mask
import torch

from detectron2._absent import module_getattr
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks
from detectron2.structures.masks import polygons_to_bitmask

from . import transforms as T
from ._image_io import convert_PIL_to_numpy, read_image  # noqa: F401
from ._proposals import transform_proposals  # noqa: F401
from .catalog import MetadataCatalog


class SizeMismatchError(ValueError):
    """An image file has another size than its record says."""


def check_image_size(dataset_dict: dict, image: np.ndarray) -> None:
    """Compare the image with "width" and "height" of its record; fill in the one that is missing.

    Raises:
        SizeMismatchError: they differ.
    """
    height, width = image.shape[:2]
    said = dataset_dict.setdefault("width", width), dataset_dict.setdefault("height", height)
    if said != (width, height):
        file = dataset_dict.get("file_name", "")
        raise SizeMismatchError(f"{file!r} is {width} x {height} (W x H), its record says {said}")


def get_bbox(annotation: dict) -> Sequence[float]:
    """Return the box of an annotation as xyxy, absolute pixels."""
    return BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)


def transform_instance_annotations(
    annotation: dict,
    transforms: T.TransformList | Sequence[T.Transform],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: Sequence[int] | None = None,
) -> dict:
    """Move the box, segmentation and keypoints of one annotation, in place, as its image was.

    Args:
        annotation: of a data set dict.
        transforms: what was done to the image.
        image_size: the box is clipped to it.
        keypoint_hflip_indices: see `create_keypoint_hflip_indices`.

    Returns:
        The same dict, with "bbox" (4,) in XYXY_ABS; "segmentation" a list of flat polygons, or for
        RLE an (H, W) array; "keypoints" (K, 3).

    Raises:
        ValueError: the segmentation is neither a list of polygons nor a mask.
        SizeMismatchError: an RLE is not as large as the image.
    """
    if not isinstance(transforms, T.Transform):
        transforms = T.TransformList(transforms)
    corners = transforms.apply_box(np.array([get_bbox(annotation)]))[0]
    clipped = np.minimum(corners.clip(min=0), 2 * tuple(image_size)[::-1])
    annotation.update(bbox=clipped, bbox_mode=BoxMode.XYXY_ABS)
    outline = annotation.get("segmentation")
    if isinstance(outline, list):
        polygons = [np.reshape(polygon, (-1, 2)) for polygon in outline]
        annotation["segmentation"] = [p.ravel() for p in transforms.apply_polygons(polygons)]
    elif outline is not None:
        mask = transforms.apply_segmentation(_to_bitmask(outline, image_size))
        if mask.shape != tuple(image_size):
            raise SizeMismatchError(f"a mask became {mask.shape}, its image {image_size}")
        annotation["segmentation"] = mask
    if (points := annotation.get("keypoints")) is not None:
        annotation["keypoints"] = transform_keypoint_annotations(
            points, transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def _to_bitmask(segmentation: list | dict | np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return polygons, an RLE or a mask as (H, W) array."""
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    if isinstance(segmentation, dict):
        return coco_mask.decode(segmentation)
    if np.ndim(segmentation) != 2:
        kind = type(segmentation).__name__
        raise ValueError(f"a segmentation is polygons, an RLE or an (H, W) array, not {kind}")
    return segmentation


def transform_keypoint_annotations(
    keypoints: Sequence[float],
    transforms: T.TransformList,
    image_size: tuple[int, int],
    keypoint_hflip_indices: Sequence[int] | None = None,
) -> np.ndarray:
    """Move keypoints as their image was.

    Args:
        keypoints: flat x, y, visibility triples, or (K, 3).
        transforms: what was done to the image. Only `HFlipTransform` counts as a mirror.
        image_size: keypoints that end outside become unlabelled.
        keypoint_hflip_indices: see `create_keypoint_hflip_indices`; needed for a mirrored image.

    Returns:
        (K, 3) float64; unlabelled keypoints are all zero.

    Raises:
        ValueError: the image is mirrored and the indices are missing or not K.
    """
    points = np.array(keypoints, dtype="float64").reshape(-1, 3)
    points[:, :2] = transforms.apply_coords(points[:, :2])
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= image_size[::-1])).all(axis=1)
    points[~inside | (points[:, 2] == 0)] = 0
    if sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms) % 2 == 0:
        return points
    mirror = () if keypoint_hflip_indices is None else keypoint_hflip_indices
    if len(mirror) != len(points):
        raise ValueError(f"{len(points)} keypoints cannot flip with {keypoint_hflip_indices=}")
    return points[np.asarray(mirror, dtype=int)]


def annotations_to_instances(
    annos: list[dict], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Collect the annotations of one image.

    Args:
        annos: as `transform_instance_annotations` returns them.
        image_size: of the image.
        mask_format: "polygon" or "bitmask".

    Returns:
        Instances with "gt_boxes", "gt_classes" (N,) int64, and where the first annotation has them,
        "gt_masks" and "gt_keypoints".

    Raises:
        ValueError: polygons are asked for, but an annotation has something else; a segmentation is
            of no known type; or there is no such format.
    """
    boxes = np.array([get_bbox(anno) for anno in annos]).reshape(-1, 4)
    classes = [int(anno["category_id"]) for anno in annos]
    fields = {"gt_boxes": Boxes(boxes), "gt_classes": torch.tensor(classes, dtype=torch.int64)}
    first = annos[0] if annos else {}
    if "segmentation" in first:
        outlines = [anno["segmentation"] for anno in annos]
        fields["gt_masks"] = _collect_masks(outlines, image_size, mask_format)
    if "keypoints" in first:
        fields["gt_keypoints"] = Keypoints(np.array([anno["keypoints"] for anno in annos]))
    return Instances(image_size, **fields)


def _collect_masks(
    outlines: list, image_size: tuple[int, int], mask_format: str
) -> PolygonMasks | BitMasks:
    if mask_format == "bitmask":
        return BitMasks(np.stack([_to_bitmask(outline, image_size) for outline in outlines]))
    if mask_format != "polygon":
        raise ValueError(f"mask_format must be 'polygon' or 'bitmask', got {mask_format!r}")
    try:
        return PolygonMasks(outlines)
    except ValueError as error:
        raise ValueError(f"{error}; for masks set INPUT.MASK_FORMAT to 'bitmask'") from error


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Instances | tuple[Instances, torch.Tensor]:
    """Drop instances that a crop left nothing of.

    Args:
        instances: with "gt_boxes" and perhaps "gt_masks".
        by_box: whether the box must not be empty.
        by_mask: whether the mask, if there is one, must not be.
        box_threshold: a box must be wider and higher than this, in pixels.
        return_mask: whether to return also which were kept, (N,) bool.
    """
    kept = torch.ones(len(instances), dtype=torch.bool, device=instances.gt_boxes.device)
    if by_box:
        kept &= instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        kept &= instances.gt_masks.nonempty()
    return (instances[kept], kept) if return_mask else instances[kept]


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> list[int]:
    """Return for each keypoint the index of its mirror image, or its own.

    Args:
        dataset_names: whose metadata say "keypoint_names" and "keypoint_flip_map", all the same.

    Raises:
        AttributeError: one of them does not say it.
        ValueError: they differ, or there is no name.
    """
    data_sets = [dataset_names] if isinstance(dataset_names, str) else dataset_names
    if not data_sets:
        raise ValueError("which keypoints are left and right is unknown: no data set is named")
    for fact in ("keypoint_names", "keypoint_flip_map"):
        check_metadata_consistency(fact, data_sets)
    facts = MetadataCatalog.get(data_sets[0])
    mirror = {left: right for pair in facts.keypoint_flip_map for left, right in (pair, pair[::-1])}
    names = list(facts.keypoint_names)
    return [names.index(mirror.get(name, name)) for name in names]


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Check that data sets which are used together agree on a fact.

    Raises:
        AttributeError: one does not have it.
        ValueError: they differ.
    """
    values = {name: getattr(MetadataCatalog.get(name), key) for name in dataset_names}
    for (first, a), (second, b) in itertools.pairwise(values.items()):
        if a != b:
            raise ValueError(
                f"Metadata {key!r} of data sets {first!r} and {second!r} differ: {a!r} and {b!r}"
            )


def build_augmentation(cfg, is_train: bool) -> list[T.Augmentation]:
    """Build what `INPUT` of a config says: resizing of the shorter side, and in training a flip."""
    inputs = cfg.INPUT
    if not is_train:
        return [T.ResizeShortestEdge(inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST, "choice")]
    flip, style = inputs.RANDOM_FLIP, inputs.MIN_SIZE_TRAIN_SAMPLING
    resize = T.ResizeShortestEdge(inputs.MIN_SIZE_TRAIN, inputs.MAX_SIZE_TRAIN, style)
    if flip == "none":
        return [resize]
    if flip not in ("horizontal", "vertical"):
        raise ValueError(f"INPUT.RANDOM_FLIP must be none, horizontal or vertical, got {flip!r}")
    return [resize, T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical")]


build_transform_gen = build_augmentation  # the name in older releases of Detectron2

__getattr__ = module_getattr(__name__)
