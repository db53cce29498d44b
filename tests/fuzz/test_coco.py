"""COCO files that are nearly right: trained and evaluated with a perfect model, or refused by name."""

import contextlib
import json
import tempfile
from functools import partial
from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.custom import SCANS
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.evaluation.coco import build_evaluator

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

from tests.data.check.spoiling import COUNTS, STRING, sound, write
from tests.fuzz.harness import try_files
from tests.fuzz.mutations import SPECIAL, json_files, st

pytestmark = pytest.mark.slow
NAME = "fuzz"


@pytest.fixture(scope="module")
def cfg():
    return load_config(
        "mini/mask_rcnn_fpn.yaml",
        [
            "MODEL.ROI_HEADS.NUM_CLASSES",
            "80",
            "MODEL.DEVICE",
            "cpu",
            "DATASETS.TRAIN",
            "('fuzz',)",
            "DATASETS.TEST",
            "('fuzz',)",
        ],
    )


@contextlib.contextmanager
def registered(cfg, path, training):
    cfg = cfg.clone()
    cfg.DATASETS.CUSTOM = [(NAME, str(path), str(path.parent / "images"))]
    try:
        yield resolve_config(cfg, training=training)
    finally:
        for catalog in (DatasetCatalog, MetadataCatalog, SCANS):
            if NAME in (catalog if catalog is SCANS else catalog.list()):
                catalog.pop(NAME)


def read(cfg, path):
    """A training's samples and a perfect model's AP, each where the check lets the file pass."""
    tempfile.tempdir = str(path.parent)
    refusals = []
    for use in (train, evaluate):
        try:
            with registered(cfg, path, use is train) as resolved:
                use(resolved)
        except ValueError as error:
            if type(error).__name__ != "DataError":
                raise
            refusals.append(error)
    if refusals:
        raise refusals[0]


def train(cfg):
    mapper = TrainMapper(cfg, True)
    for record in DatasetCatalog.get(NAME):
        instances = mapper(record)["instances"]
        boxes = instances.gt_boxes.tensor
        assert boxes.isfinite().all()
        assert (instances.gt_classes < cfg.MODEL.ROI_HEADS.NUM_CLASSES).all()
        if len(instances):
            masks = instances.gt_masks.crop_and_resize(boxes, 14)
            assert masks.shape == (len(instances), 14, 14)


def evaluate(cfg):
    evaluator = build_evaluator(cfg, NAME, Path(cfg.DATASETS.CUSTOM[0][1]).parent / "output")
    evaluator.reset()
    truth = COCO(MetadataCatalog.get(NAME).json_file)
    for record in DatasetCatalog.get(NAME):
        evaluator.process([record], [{"instances": perfect(record, truth)}])
    for numbers in evaluator.evaluate().values():
        assert all(np.isnan(v) or 0 <= v <= 100 for v in numbers.values())


def perfect(record, truth):
    """The objects of an image as predictions."""
    size = record["height"], record["width"]
    objects = [a for a in truth.imgToAnns[record["image_id"]] if not a.get("iscrowd")]
    classes = MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id
    boxes = torch.tensor([a["bbox"] for a in objects], dtype=torch.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = [truth.annToMask(a) for a in objects]
    assert all(mask.shape == size for mask in masks)
    return Instances(
        size,
        pred_boxes=Boxes(boxes.float()),
        scores=torch.ones(len(objects)),
        pred_classes=torch.tensor([classes[a["category_id"]] for a in objects], dtype=torch.long),
        pred_masks=torch.from_numpy(np.stack(masks))
        if masks
        else torch.zeros(0, *size, dtype=torch.uint8),
    )


def try_trees(cfg, folder, contents, examples):
    path, _ = write(folder)
    try_files(partial(read, cfg), path, [path.read_bytes()], contents, examples, [path.name, NAME])


def test_nearly_right_files(cfg, tmp_path):
    try_trees(cfg, tmp_path, json_files(sound(), most=4), 600)


NUMBERS = st.one_of(st.integers(-20, 120), st.floats(-20, 120), SPECIAL)
RINGS = st.lists(NUMBERS, min_size=0, max_size=12)
TEXTS = st.one_of(
    st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12),
    st.integers(0, len(STRING)).map(lambda place: STRING[:place] + "0" + STRING[place + 1 :]),
    st.integers(0, len(STRING)).map(lambda place: STRING[:place]),
)
RUNS = st.one_of(
    st.lists(st.integers(0, 300), max_size=8),
    st.lists(NUMBERS, max_size=4),
    st.integers(0, 7680).map(lambda inside: [100, inside, 7580 - inside]),
    st.just(COUNTS),
)
SIZES = st.one_of(st.just([80, 96]), st.just([96, 80]), st.lists(SPECIAL, max_size=3))
OUTLINES = st.one_of(
    st.lists(RINGS, max_size=3),
    st.lists(
        st.lists(st.one_of(st.integers(0, 96), st.floats(0, 96)), min_size=6, max_size=6),
        min_size=1,
        max_size=2,
    ),
    st.fixed_dictionaries({"size": SIZES, "counts": st.one_of(TEXTS, RUNS, SPECIAL)}),
    st.fixed_dictionaries({"size": st.just([80, 96]), "counts": st.one_of(TEXTS, RUNS)}),
    SPECIAL,
)


def test_outlines(cfg, tmp_path):
    def file(outlines):
        tree = sound()
        for annotation, outline in zip(tree["annotations"], outlines, strict=False):
            annotation["segmentation"] = outline
        return json.dumps(tree).encode()

    try_trees(cfg, tmp_path, st.lists(OUTLINES, min_size=1, max_size=3).map(file), 600)
