"""COCO's annotation files, read into data set dicts and written from them.

Two conventions differ. COCO's keypoints are indices of pixels, ours are points: half a pixel is
added or taken. COCO's category ids may have gaps, ours are 0, 1, 2 ...;
`thing_dataset_id_to_contiguous_id` in the metadata maps one to the other. Boxes are absolute
pixels: xywh in COCO, any `BoxMode` here.
"""

import datetime
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from iopath.common.file_io import file_lock

from detectron2._absent import module_getattr
from detectron2.structures import Boxes, BoxMode, PolygonMasks
from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog

__all__ = ["convert_to_coco_json", "load_coco_json", "register_coco_instances"]

_logger = logging.getLogger(__name__)


def load_coco_json(
    json_file: str,
    image_root: str | os.PathLike,
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict]:
    """Read instances or person keypoints from an annotation file; no image is opened.

    Args:
        json_file: COCO's format.
        image_root: folder of the images.
        dataset_name: if given, its metadata get `thing_classes` and
            `thing_dataset_id_to_contiguous_id`, and category ids become 0, 1, 2 ...; otherwise they
            stay as they are.
        extra_annotation_keys: what else to keep of an annotation, as it is.

    Returns:
        One dict per image, by ascending image id. An instance whose polygons all have fewer than
        three points is left out; RLEs are compressed.

    Raises:
        KeyError: an annotation has a category that the file does not list.
        ValueError: the file is not COCO's format, annotation ids repeat, an annotation has an empty
            box or is marked "ignore".
    """
    with PathManager.open(json_file) as stream:
        content = json.load(stream)
    if not isinstance(content, dict) or "images" not in content:
        raise ValueError(f"{json_file} is not a COCO annotation file: it lists no images")
    id_map = None if dataset_name is None else _set_classes(dataset_name, content, json_file)
    annotations_of = _group_by_image(content, json_file)
    keep = {"iscrowd", "bbox", "keypoints", "category_id", *(extra_annotation_keys or ())}
    records, dropped = [], 0
    for image in sorted(content["images"], key=lambda image: image["id"]):
        annotations = annotations_of[image["id"]]
        objects = [obj for ann in annotations if (obj := _read_annotation(ann, keep, id_map))]
        dropped += len(annotations) - len(objects)
        record = {"file_name": os.path.join(image_root, image["file_name"])}
        record |= {key: image[key] for key in ("height", "width")}
        records.append({**record, "image_id": image["id"], "annotations": objects})
    if dropped:
        _logger.warning(f"{json_file}: {dropped} instances left out, no polygon has three points")
    _logger.info(f"{len(records)} images in {json_file}")
    return records


def _set_classes(dataset_name: str, content: dict, json_file: str) -> dict[int, int]:
    """Put the classes into the metadata; return the map from COCO's ids to ours."""
    names = {category["id"]: category["name"] for category in content.get("categories", ())}
    id_map = {category_id: ours for ours, category_id in enumerate(sorted(names))}
    MetadataCatalog.get(dataset_name).set(
        thing_classes=[names[category_id] for category_id in id_map],
        thing_dataset_id_to_contiguous_id=id_map,
    )
    if "coco" not in dataset_name and any(theirs != ours + 1 for theirs, ours in id_map.items()):
        _logger.warning(f"{json_file}: category ids are not 1, 2 ...; they become 0, 1 ...")
    return id_map


def _group_by_image(content: dict, json_file: str) -> dict[int, list[dict]]:
    annotations = content.get("annotations", [])
    image_ids = {image["id"] for image in content["images"]}
    annotations_of = defaultdict(list)
    for annotation in annotations:
        annotations_of[annotation["image_id"]].append(annotation)
    if strays := sum(annotation["image_id"] not in image_ids for annotation in annotations):
        _logger.warning(f"{json_file}: {strays} of {len(annotations)} annotations have no image")
    counts = Counter(a["id"] for i in image_ids for a in annotations_of[i])
    repeated = [annotation_id for annotation_id, count in counts.items() if count > 1]
    # The widely used "minival" splits of 2014 repeat a few ids, without harm.
    if repeated and "minival" not in json_file:
        raise ValueError(f"{json_file}: annotation ids are not unique, such as {repeated[:5]}")
    return annotations_of


def _read_annotation(
    annotation: dict, keep: set[str], id_map: dict[int, int] | None
) -> dict[str, Any] | None:
    """Return one annotation in our format, None if no polygon of it is valid."""
    where = f"annotation {annotation.get('id')} of image {annotation['image_id']}"
    if annotation.get("ignore", 0):
        raise ValueError(f"{where} has 'ignore' set, which is not supported")
    obj = {key: value for key, value in annotation.items() if key in keep}
    obj["bbox_mode"] = BoxMode.XYWH_ABS
    if not len(obj.get("bbox", [0])):
        raise ValueError(f"{where} has an empty 'bbox'")
    if segmentation := annotation.get("segmentation"):
        if isinstance(segmentation, list):
            segmentation = [p for p in segmentation if len(p) % 2 == 0 and len(p) >= 6]
            if not segmentation:
                return None
        elif isinstance(segmentation["counts"], list):
            segmentation = coco_mask.frPyObjects(segmentation, *segmentation["size"])
        obj["segmentation"] = segmentation
    if keypoints := annotation.get("keypoints"):
        obj["keypoints"] = _shift_keypoints(keypoints, 0.5)
    if id_map is not None:
        if obj["category_id"] not in id_map:
            raise KeyError(f"{where}: 'categories' has no category_id {obj['category_id']}")
        obj["category_id"] = id_map[obj["category_id"]]
    return obj


def _shift_keypoints(keypoints: Sequence[float], offset: float) -> list[float]:
    """Add `offset` pixels to every x and y of flat x, y, visibility triples."""
    return [v if i % 3 == 2 else v + offset for i, v in enumerate(keypoints)]


def convert_to_coco_dict(dataset_name: str) -> dict[str, Any]:
    """Return a registered data set in COCO's format, ready for `json.dump`.

    Args:
        dataset_name: its metadata must have `thing_classes`.

    Returns:
        "info", "images", "categories", "licenses", and "annotations" if there are any. Areas are
        counted in pixels of the mask, or of the box where there is no mask.

    Raises:
        ValueError: a box has neither four nor, rotated, five numbers.
        TypeError: a segmentation is neither a list of polygons nor an RLE dict.
    """
    records = DatasetCatalog.get(dataset_name)
    # Only now: to load a data set may add to its metadata.
    facts = MetadataCatalog.get(dataset_name)
    id_map = facts.get("thing_dataset_id_to_contiguous_id")
    to_coco_id = int if id_map is None else {i: theirs for theirs, i in id_map.items()}.__getitem__
    images, annotations = [], []
    for position, record in enumerate(records):
        image = {"id": record.get("image_id", position), "file_name": str(record["file_name"])}
        images.append(image | {side: int(record[side]) for side in ("width", "height")})
        for annotation in record.get("annotations", ()):
            # COCO's evaluation takes an annotation id of 0 for "no match": ids start at 1.
            link = {"id": len(annotations) + 1, "image_id": image["id"]}
            annotations.append(link | _to_coco_annotation(annotation, to_coco_id))
    now = str(datetime.datetime.now())
    coco = {
        "info": {"date_created": now, "description": f"Data set {dataset_name} in COCO's format"},
        "images": images,
        "categories": [
            {"id": to_coco_id(i), "name": name} for i, name in enumerate(facts.thing_classes)
        ],
        "licenses": None,
    }
    return coco | {"annotations": annotations} if annotations else coco


def _to_coco_annotation(annotation: dict, to_coco_id: Callable[[int], int]) -> dict[str, Any]:
    box = np.ravel(annotation["bbox"]).tolist()
    if len(box) not in (4, 5):
        raise ValueError(f"a bbox must have 4 numbers, or 5 if rotated, got {annotation['bbox']}")
    mode = BoxMode.XYWH_ABS if len(box) == 4 else BoxMode.XYWHA_ABS
    box = BoxMode.convert(box, annotation["bbox_mode"], mode)
    segmentation = annotation.get("segmentation")
    result = {
        "bbox": [round(float(x), 3) for x in box],
        "area": _area(box, segmentation),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "category_id": int(to_coco_id(annotation["category_id"])),
    }
    if (keypoints := annotation.get("keypoints")) is not None:
        result["keypoints"] = _shift_keypoints(keypoints, -0.5)
        labelled = sum(visibility > 0 for visibility in keypoints[2::3])
        result["num_keypoints"] = annotation.get("num_keypoints", labelled)
    if segmentation is not None:
        if isinstance(segmentation, dict) and isinstance(segmentation["counts"], bytes):
            segmentation = {**segmentation, "counts": segmentation["counts"].decode("ascii")}
        result["segmentation"] = segmentation
    return result


def _area(box: list[float], segmentation: list | dict | None) -> float:
    """Return the area of the mask, or else of the xywh or xywha box in float32 as in `Boxes`."""
    match segmentation:
        case list():
            return float(PolygonMasks([segmentation]).area())
        case dict():
            return float(coco_mask.area(segmentation))
        case None if len(box) == 5:
            return float(np.float32(box[2]) * np.float32(box[3]))
        case None:
            return Boxes([BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)]).area().item()
    raise TypeError(f"a segmentation must be polygons or an RLE dict, got {type(segmentation)}")


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write a registered data set to a file in COCO's format, whole or not at all.

    Args:
        dataset_name: see `convert_to_coco_dict`.
        output_file: its folder is created.
        allow_cached: whether to leave a file alone that is there already.
    """
    PathManager.mkdirs(os.path.dirname(output_file))
    with file_lock(output_file):
        if allow_cached and PathManager.exists(output_file):
            _logger.warning(f"{output_file} is there and taken as it is; delete it if it is old")
            return
        _logger.info(f"Writing data set {dataset_name!r} in COCO's format to {output_file}")
        content, unfinished = convert_to_coco_dict(dataset_name), f"{output_file}.tmp"
        with PathManager.open(unfinished, "w") as stream:
            json.dump(content, stream)
        os.replace(unfinished, output_file)


def register_coco_instances(
    name: str, metadata: dict, json_file: str | os.PathLike, image_root: str | os.PathLike
) -> None:
    """Register a data set in COCO's format. Its file is not read before `DatasetCatalog.get(name)`.

    Args:
        name: by which configs refer to it.
        metadata: facts beside those that the file gives; may be empty.
        json_file: instances or person keypoints.
        image_root: folder of the images.
    """
    if name not in DatasetCatalog:
        path = os.fspath(json_file)
        DatasetCatalog.register(name, lambda: load_coco_json(path, image_root, name))
    facts = {"json_file": json_file, "image_root": image_root, "evaluator_type": "coco"}
    MetadataCatalog.get(name).set(**facts, **metadata)


__getattr__ = module_getattr(__name__)
