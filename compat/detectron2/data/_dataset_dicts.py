"""Lists of data set dicts: loading, filters, statistics. All are public in `data.build`."""

import itertools
import logging
from collections import Counter

from tabulate import tabulate
from torch.utils.data import ConcatDataset, Dataset

from detectron2.utils.logger import log_first_n

from ._proposals import load_proposals_into_dataset
from .catalog import DatasetCatalog, MetadataCatalog
from .detection_utils import check_metadata_consistency

__all__ = ["get_detection_dataset_dicts", "print_instances_class_histogram"]

_logger = logging.getLogger("detectron2.data.build")


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """Return the images that have an annotation which is not a crowd."""
    kept = [d for d in dataset_dicts if not all(a.get("iscrowd", 0) for a in d["annotations"])]
    _logger.info(f"{len(kept)} of {len(dataset_dicts)} images have a usable annotation")
    return kept


def filter_images_with_few_keypoints(
    dataset_dicts: list[dict], min_keypoints_per_image: int
) -> list[dict]:
    """Return the images whose persons have that many labelled (visibility > 0) keypoints."""

    def labelled(image: dict) -> int:
        keypoints = (ann.get("keypoints", ()) for ann in image["annotations"])
        return sum(visibility > 0 for flat in keypoints for visibility in flat[2::3])

    kept = [image for image in dataset_dicts if labelled(image) >= min_keypoints_per_image]
    _logger.info(f"{len(kept)} of {len(dataset_dicts)} images have enough labelled keypoints")
    return kept


def print_instances_class_histogram(dataset_dicts: list[dict], class_names: list[str]) -> None:
    """Log how many instances, crowds not counted, each class has.

    Raises:
        ValueError: a category id is not in [0, number of classes).
    """
    annotations = itertools.chain.from_iterable(image["annotations"] for image in dataset_dicts)
    counts = Counter(int(a["category_id"]) for a in annotations if not a.get("iscrowd", 0))
    if unknown := counts.keys() - set(range(len(class_names))):
        allowed = f"{len(class_names)} classes, from 0 on"
        raise ValueError(f"an annotation has category_id {min(unknown)}, but there are {allowed}")
    cells = [(name, counts[i]) for i, name in enumerate(class_names)]
    cells.append(("total", counts.total()))
    rows = [itertools.chain(*cells[i : i + 3]) for i in range(0, len(cells), 3)]
    table = tabulate(rows, ["category", "#instances"] * min(3, len(cells)), tablefmt="pipe")
    log_first_n(logging.INFO, f"Instances of {len(class_names)} classes:\n{table}", key="message")


def get_detection_dataset_dicts(
    names: str | list[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: list[str] | None = None,
    check_consistency: bool = True,
) -> list[dict] | Dataset:
    """Load registered data sets, as one list.

    Args:
        names: one or more names.
        filter_empty: whether to drop images without any annotation but crowds.
        min_keypoints: drop images with fewer labelled keypoints; 0 drops none.
        proposal_files: a file of proposals per name.
        check_consistency: whether the data sets must have the same classes.

    Returns:
        The dicts of all; or, if the first is a torch data set, it or all concatenated, unfiltered.

    Raises:
        KeyError: a name is not registered.
        ValueError: no names, an empty data set, another number of files than names, different
            classes, or no image left.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError("no data set is named: DATASETS.TRAIN or DATASETS.TEST is empty")
    loaded = [DatasetCatalog.get(name) for name in names]
    if isinstance(loaded[0], Dataset):
        return loaded[0] if len(loaded) == 1 else ConcatDataset(loaded)
    if empty := [name for name, images in zip(names, loaded, strict=True) if not images]:
        raise ValueError(f"data set {empty[0]!r} is empty")
    if proposal_files is not None:
        if len(proposal_files) != len(names):
            raise ValueError(f"{len(proposal_files)} proposal files for {len(names)} data sets")
        for images, file in zip(loaded, proposal_files, strict=True):
            load_proposals_into_dataset(images, file)
    images = list(itertools.chain(*loaded))
    if "annotations" in images[0]:
        if filter_empty:
            images = filter_images_with_only_crowd_annotations(images)
        if min_keypoints > 0:
            images = filter_images_with_few_keypoints(images, min_keypoints)
        class_names = MetadataCatalog.get(names[0]).get("thing_classes")
        if check_consistency and class_names is not None:
            check_metadata_consistency("thing_classes", names)
            print_instances_class_histogram(images, class_names)
    if not images:
        raise ValueError(f"no usable image is left in {', '.join(names)}")
    return images
