"""Lists of data set dicts: filters, proposals, statistics. All names are public in `detectron2.data.build`.

P = proposals of one image.
"""

import itertools
import logging
import pickle
from collections import Counter

from tabulate import tabulate
from torch.utils.data import ConcatDataset, Dataset

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import log_first_n

from .catalog import DatasetCatalog, MetadataCatalog
from .detection_utils import check_metadata_consistency

logger = logging.getLogger("detectron2.data.build")

# Names of Detectron's proposal files, and what they are called since.
_OLD_PROPOSAL_KEYS = {"indexes": "ids", "scores": "objectness_logits"}


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """Return the images that have an annotation which is not a crowd."""
    kept = [
        record
        for record in dataset_dicts
        if not all(ann.get("iscrowd", 0) for ann in record["annotations"])
    ]
    logger.info(
        f"{len(dataset_dicts) - len(kept)} images have no usable annotation; {len(kept)} are left"
    )
    return kept


def filter_images_with_few_keypoints(
    dataset_dicts: list[dict], min_keypoints_per_image: int
) -> list[dict]:
    """Return the images whose persons together have that many labelled keypoints (visibility above 0)."""

    def labelled(record: dict) -> int:
        keypoints = (ann.get("keypoints", ()) for ann in record["annotations"])
        return sum(visibility > 0 for flat in keypoints for visibility in flat[2::3])

    kept = [record for record in dataset_dicts if labelled(record) >= min_keypoints_per_image]
    logger.info(
        f"{len(dataset_dicts) - len(kept)} images have fewer than {min_keypoints_per_image} "
        f"keypoints; {len(kept)} are left"
    )
    return kept


def load_proposals_into_dataset(dataset_dicts: list[dict], proposal_file: str) -> list[dict]:
    """Add the proposals of a file to the images, in place, best first.

    The file is a pickled dict of equally long lists, an entry per image, and a mode:

    - "ids": image ids, int or str;
    - "boxes": arrays (P, 4);
    - "objectness_logits": arrays (P,);
    - "bbox_mode": the `BoxMode` of all boxes, XYXY_ABS if missing.

    An image gets "proposal_boxes" (P, 4), "proposal_objectness_logits" (P,) and "proposal_bbox_mode".

    Raises:
        KeyError: the file has nothing for one of the images.
    """
    logger.info(f"Loading proposals from {proposal_file}")
    with PathManager.open(proposal_file, "rb") as f:
        # latin1: pickles of Python 2 hold NumPy arrays as byte strings.
        stored = pickle.load(f, encoding="latin1")
    stored = {_OLD_PROPOSAL_KEYS.get(key, key): value for key, value in stored.items()}
    row_of = {str(image_id): row for row, image_id in enumerate(stored["ids"])}
    mode = BoxMode(stored.get("bbox_mode", BoxMode.XYXY_ABS))
    for record in dataset_dicts:
        row = row_of.get(str(record["image_id"]))
        if row is None:
            raise KeyError(f"{proposal_file} has no proposals for image {record['image_id']!r}")
        logits = stored["objectness_logits"][row]
        best_first = logits.argsort()[::-1]
        record["proposal_boxes"] = stored["boxes"][row][best_first]
        record["proposal_objectness_logits"] = logits[best_first]
        record["proposal_bbox_mode"] = mode
    return dataset_dicts


def print_instances_class_histogram(dataset_dicts: list[dict], class_names: list[str]) -> None:
    """Log how many instances, crowds not counted, each class has.

    Raises:
        ValueError: a category id is not in [0, number of classes).
    """
    counts = Counter(
        int(ann["category_id"])
        for record in dataset_dicts
        for ann in record["annotations"]
        if not ann.get("iscrowd", 0)
    )
    for category_id in counts:
        if not 0 <= category_id < len(class_names):
            raise ValueError(
                f"an annotation has category_id {category_id}, "
                f"but the data set has {len(class_names)} classes, from 0 on"
            )
    cells = [(_shortened(name), counts[i]) for i, name in enumerate(class_names)]
    cells.append(("total", counts.total()))
    rows = [itertools.chain(*cells[i : i + 3]) for i in range(0, len(cells), 3)]
    header = ["category", "#instances"] * min(3, len(cells))
    table = tabulate(rows, header, tablefmt="pipe", numalign="left", stralign="center")
    log_first_n(
        logging.INFO, f"Instances of {len(class_names)} categories:\n{table}", key="message"
    )


def _shortened(name: str, limit: int = 13) -> str:
    return name if len(name) <= limit else f"{name[: limit - 2]}.."


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
        The dicts of all; or, if the first one is a torch data set, it or the concatenation of all, unfiltered.

    Raises:
        KeyError: a name is not registered.
        ValueError: no names, an empty data set, another number of files than names, different classes, or no
            image left.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(
            "no data set to load: the list of names (DATASETS.TRAIN or .TEST) is empty"
        )
    loaded = [DatasetCatalog.get(name) for name in names]
    if isinstance(loaded[0], Dataset):
        return loaded[0] if len(loaded) == 1 else ConcatDataset(loaded)
    for name, dicts in zip(names, loaded, strict=True):
        if not dicts:
            raise ValueError(f"data set {name!r} is empty")
    if proposal_files is not None:
        if len(proposal_files) != len(names):
            raise ValueError(
                f"{len(names)} data sets need as many proposal files, got {len(proposal_files)}"
            )
        for dicts, proposal_file in zip(loaded, proposal_files, strict=True):
            load_proposals_into_dataset(dicts, proposal_file)
    dataset_dicts = list(itertools.chain.from_iterable(loaded))
    if "annotations" in dataset_dicts[0]:
        if filter_empty:
            dataset_dicts = filter_images_with_only_crowd_annotations(dataset_dicts)
        if min_keypoints > 0:
            dataset_dicts = filter_images_with_few_keypoints(dataset_dicts, min_keypoints)
        if check_consistency:
            _check_classes(dataset_dicts, names)
    if not dataset_dicts:
        raise ValueError(f"no usable image is left in {', '.join(names)}")
    return dataset_dicts


def _check_classes(dataset_dicts: list[dict], names: list[str]) -> None:
    class_names = MetadataCatalog.get(names[0]).get("thing_classes")
    if class_names is not None:
        check_metadata_consistency("thing_classes", names)
        print_instances_class_histogram(dataset_dicts, class_names)
