"""From the annotations of a data set dict to the `Instances` that a model is trained on.

H, W = height and width of the image, P = proposals, N = instances, K = keypoints.

Coordinates are absolute pixels, as in `transforms.transform`. An image size is (H, W), that of the transformed
image unless said otherwise.
"""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as mask_util
import torch

from detectron2._absent import module_getattr
from detectron2.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    polygons_to_bitmask,
)

from . import transforms as T
from .catalog import MetadataCatalog
from .image_io import convert_image_to_rgb, convert_PIL_to_numpy, read_image  # noqa: F401


class SizeMismatchError(ValueError):
    """An image file has another size than its record says."""


def check_image_size(dataset_dict: dict, image: np.ndarray) -> None:
    """Compare the image with "width" and "height" of its record; fill in the one that is missing.

    Raises:
        SizeMismatchError: they differ.
    """
    height, width = image.shape[:2]
    said = dataset_dict.get("width", width), dataset_dict.get("height", height)
    if said != (width, height):
        raise SizeMismatchError(
            f"image {dataset_dict.get('file_name', '')!r} has width x height {width} x {height}, "
            f"but its annotation says {said[0]} x {said[1]}"
        )
    dataset_dict.setdefault("width", width)
    dataset_dict.setdefault("height", height)


def transform_proposals(
    dataset_dict: dict,
    image_shape: tuple[int, int],
    transforms: T.TransformList,
    *,
    proposal_topk: int,
    min_box_size: float = 0,
) -> None:
    """Replace "proposal_boxes" and what belongs to them by "proposals", `Instances` in the transformed image.

    Does nothing without "proposal_boxes".

    Args:
        dataset_dict: see `load_proposals_into_dataset`; changed in place.
        image_shape: boxes are clipped to it.
        transforms: what was done to the image.
        proposal_topk: how many to keep, of those sorted best first.
        min_box_size: boxes must be wider and higher than this, in pixels.
    """
    if "proposal_boxes" not in dataset_dict:
        return
    stored = dataset_dict.pop("proposal_boxes")
    mode = dataset_dict.pop("proposal_bbox_mode")
    logits = dataset_dict.pop("proposal_objectness_logits").astype("float32")
    boxes = Boxes(transforms.apply_box(BoxMode.convert(stored, mode, BoxMode.XYXY_ABS)))
    boxes.clip(image_shape)
    keep = boxes.nonempty(threshold=min_box_size)
    proposals = Instances(image_shape)
    proposals.proposal_boxes = boxes[keep][:proposal_topk]
    proposals.objectness_logits = torch.as_tensor(logits)[keep][:proposal_topk]
    dataset_dict["proposals"] = proposals


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
        The same dict, with "bbox" (4,) in XYXY_ABS; "segmentation" a list of flat polygons, or for RLE an (H, W)
        array; "keypoints" (K, 3).

    Raises:
        ValueError: the segmentation is neither a list of polygons nor an RLE dict.
        SizeMismatchError: an RLE is not as large as the image.
    """
    if isinstance(transforms, tuple | list):
        transforms = T.TransformList(transforms)
    height, width = image_size
    box = transforms.apply_box(np.array([get_bbox(annotation)]))[0]
    annotation["bbox"] = np.minimum(box.clip(min=0), [width, height, width, height])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" in annotation:
        annotation["segmentation"] = _transform_segmentation(
            annotation["segmentation"], transforms, image_size
        )
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def _transform_segmentation(
    segmentation: list | dict, transforms: T.TransformList, image_size: tuple[int, int]
) -> list[np.ndarray] | np.ndarray:
    if isinstance(segmentation, list):
        points = [np.asarray(polygon).reshape(-1, 2) for polygon in segmentation]
        return [polygon.reshape(-1) for polygon in transforms.apply_polygons(points)]
    if not isinstance(segmentation, dict):
        raise _bad_segmentation(segmentation)
    mask = transforms.apply_segmentation(mask_util.decode(segmentation))
    if mask.shape[:2] != tuple(image_size):
        raise SizeMismatchError(
            f"an RLE of size {segmentation['size']} became {mask.shape[:2]}, its image {image_size}"
        )
    return mask


def _bad_segmentation(segmentation: object) -> ValueError:
    return ValueError(
        "a segmentation must be a list of polygons (flat x, y, x, y ...), a COCO RLE dict or an (H, W) "
        f"array, got {type(segmentation)}"
    )


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
    points = np.asarray(keypoints, dtype="float64").reshape(-1, 3)
    xy = transforms.apply_coords(points[:, :2])
    inside = ((xy >= 0) & (xy <= image_size[::-1])).all(axis=1)
    visibility = np.where(inside, points[:, 2], 0)
    moved = np.where(visibility[:, None] == 0, 0, np.column_stack([xy, visibility]))
    mirrors = sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms)
    if mirrors % 2 == 0:
        return moved
    if keypoint_hflip_indices is None:
        raise ValueError(
            "the image is mirrored: keypoint_hflip_indices must say which are left and right"
        )
    if len(keypoint_hflip_indices) != len(moved):
        raise ValueError(
            f"an annotation has {len(moved)} keypoints, but keypoint_hflip_indices has "
            f"{len(keypoint_hflip_indices)}"
        )
    return moved[np.asarray(keypoint_hflip_indices, dtype=np.int32)]


def annotations_to_instances(
    annos: list[dict], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Collect the annotations of one image.

    Args:
        annos: as `transform_instance_annotations` returns them.
        image_size: of the image.
        mask_format: "polygon" or "bitmask".

    Returns:
        Instances with "gt_boxes", "gt_classes" (N,) int64, and where the first annotation has them, "gt_masks"
        and "gt_keypoints".

    Raises:
        ValueError: polygons are asked for, but an annotation has something else; a segmentation is of no known
            type; or there is no such format.
    """
    boxes = np.array([get_bbox(anno) for anno in annos]).reshape(-1, 4)
    target = Instances(image_size)
    target.gt_boxes = Boxes(boxes)
    target.gt_classes = torch.tensor(
        [int(anno["category_id"]) for anno in annos], dtype=torch.int64
    )
    if annos and "segmentation" in annos[0]:
        target.gt_masks = _collect_masks(
            [anno["segmentation"] for anno in annos], image_size, mask_format
        )
    if annos and "keypoints" in annos[0]:
        target.gt_keypoints = Keypoints(np.array([anno["keypoints"] for anno in annos]))
    return target


def _collect_masks(
    segmentations: list, image_size: tuple[int, int], mask_format: str
) -> PolygonMasks | BitMasks:
    if mask_format == "bitmask":
        masks = [np.ascontiguousarray(_to_bitmask(s, image_size)) for s in segmentations]
        return BitMasks(torch.stack([torch.from_numpy(mask) for mask in masks]))
    if mask_format != "polygon":
        raise ValueError(f"mask_format must be 'polygon' or 'bitmask', got {mask_format!r}")
    try:
        return PolygonMasks(segmentations)
    except ValueError as e:
        raise ValueError(
            f"not all segmentations are polygons ({e}); "
            "set the mask format (INPUT.MASK_FORMAT) to 'bitmask'"
        ) from e


def _to_bitmask(segmentation: list | dict | np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    if isinstance(segmentation, dict):
        return mask_util.decode(segmentation)
    if not isinstance(segmentation, np.ndarray) or segmentation.ndim != 2:
        raise _bad_segmentation(segmentation)
    return segmentation


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

    Raises:
        ValueError: neither `by_box` nor `by_mask`.
    """
    if not (by_box or by_mask):
        raise ValueError("filter_empty_instances needs by_box or by_mask")
    tests = []
    if by_box:
        tests.append(instances.gt_boxes.nonempty(threshold=box_threshold))
    if by_mask and instances.has("gt_masks"):
        tests.append(instances.gt_masks.nonempty())
    keep = torch.stack(tests).all(0) if tests else torch.ones(len(instances), dtype=torch.bool)
    return (instances[keep], keep) if return_mask else instances[keep]


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> list[int]:
    """Return for each keypoint the index of its mirror image, or its own.

    Args:
        dataset_names: whose metadata say "keypoint_names" and "keypoint_flip_map", all the same.

    Raises:
        AttributeError: one of them does not say it.
        ValueError: they differ, or there is no name.
    """
    names = [dataset_names] if isinstance(dataset_names, str) else dataset_names
    if not names:
        raise ValueError("which keypoints are left and right is unknown: no data set is named")
    for key in ("keypoint_names", "keypoint_flip_map"):
        check_metadata_consistency(key, names)
    metadata = MetadataCatalog.get(names[0])
    mirror = dict(metadata.keypoint_flip_map)
    mirror |= {right: left for left, right in metadata.keypoint_flip_map}
    keypoints = list(metadata.keypoint_names)
    return [keypoints.index(mirror.get(keypoint, keypoint)) for keypoint in keypoints]


def gen_crop_transform_with_instance(
    crop_size: tuple[int, int], image_size: tuple[int, int], instance: dict
) -> T.CropTransform:
    """Draw a window that holds the centre of an instance's box.

    Args:
        crop_size: (H, W) of the window.
        image_size: of the image that is to be cropped.
        instance: an annotation.

    Raises:
        AssertionError: the centre is outside the image, or the window larger than it (Detectron2's type).
    """
    box = get_bbox(instance)
    corner = []
    for axis in (0, 1):
        center = (box[1 - axis] + box[3 - axis]) * 0.5
        side, window = image_size[axis], int(crop_size[axis])
        assert center <= side, f"the centre of box {box} is outside an image of {image_size} pixels"
        assert window <= side, f"a crop of {crop_size} is larger than an image of {image_size}"
        first = max(int(np.floor(center)) - window, 0)
        last = min(side - window, int(np.ceil(center)))
        corner.append(np.random.randint(first, last + 1))
    return T.CropTransform(corner[1], corner[0], int(crop_size[1]), int(crop_size[0]))


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Check that data sets which are used together agree on a fact.

    Raises:
        AttributeError: one does not have it.
        ValueError: they differ.
    """
    values = {name: getattr(MetadataCatalog.get(name), key) for name in dataset_names}
    first = next(iter(values), None)
    for name, value in values.items():
        if value != values[first]:
            raise ValueError(
                f"Metadata {key!r} of data sets {first!r} and {name!r} differ: "
                f"{values[first]!r} and {value!r}"
            )


def build_augmentation(cfg, is_train: bool) -> list[T.Augmentation]:
    """Build what `INPUT` of a config says: resizing of the shorter side, and in training a flip."""
    if not is_train:
        return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
    augmentations: list[T.Augmentation] = [
        T.ResizeShortestEdge(
            cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
        )
    ]
    flip = cfg.INPUT.RANDOM_FLIP
    if flip not in ("none", "horizontal", "vertical"):
        raise ValueError(f"INPUT.RANDOM_FLIP must be none, horizontal or vertical, got {flip!r}")
    if flip != "none":
        augmentations.append(
            T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical")
        )
    return augmentations


# The name in older releases of Detectron2.
build_transform_gen = build_augmentation

__getattr__ = module_getattr(__name__)
