"""GPS, GPSm and their average precision: by hand, the reference's numbers, nobody, mistakes."""

import math

from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.surface import Surface
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.evaluation import densepose
from maskrcnn_repro.evaluation.densepose import DensePoseEvaluator
from maskrcnn_repro.evaluation.surface_ap import (
    METRICS,
    average_precision,
    body_mask,
    compare,
    point_similarity,
)
from maskrcnn_repro.evaluation.surface_resampling import FILE, read_matches
from maskrcnn_repro.evaluation.table import metrics_table

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from tests.evaluation import densepose_cases
from tests.family import densepose_parity

# Two charts of two vertices each, all in a row, a metre from one to the next.
LINE = Surface(
    ("a", "b"),
    np.array([1, 1, 2, 2]),
    np.array([0.0, 1, 0, 1]),
    np.zeros(4),
    lambda a, b: np.abs(a - b).astype(float),
    np.array([0, 0.5, 2.0]),
)
BOX = [10.0, 20.0, 5.0, 4.0]


def surface(*rows):
    """Return points: x and y in 255ths of the box, chart and u."""
    points = np.array([(x, y, chart, u, 0) for x, y, chart, u in rows], float).reshape(-1, 5)
    return SurfacePoints(points, np.ones((SIDE, SIDE), np.uint8))


def maps(chart, u=0):
    """Return a prediction of 4 by 5 pixels with one chart everywhere."""
    return np.stack([np.full((4, 5), value, np.uint8) for value in (chart, u, 0)])


def test_gps_is_the_mean_of_the_similarity_of_points():
    truth = surface((0, 0, 1, 0.1), (100, 100, 2, 0.9))
    # Vertex 0 is meant, and 3; vertex 1 is predicted, 1 and 2 metres away; the charts' scales are 0.5 and 2.
    expected = (math.exp(-1 / (2 * 0.25)) + math.exp(-4 / (2 * 4))) / 2
    predicted = maps(1, u=200)
    assert point_similarity(LINE, truth, BOX, predicted, BOX) == pytest.approx(expected)
    # Beside the body, and beside the box, nothing is similar.
    assert point_similarity(LINE, truth, BOX, maps(0), BOX) == 0
    half = surface((0, 0, 1, 1), (255, 0, 1, 1))
    assert point_similarity(LINE, half, BOX, predicted, BOX) == pytest.approx(0.5)
    assert point_similarity(LINE, half, BOX, predicted, [100.0, 20, 5, 4]) == 0
    # Points that are on no chart do not count.
    assert point_similarity(LINE, surface((0, 0, 0, 0), (9, 9, 1, 1)), BOX, predicted, BOX) == 1
    assert point_similarity(LINE, surface((0, 0, 0, 0)), BOX, predicted, BOX) == 0


def test_gpsm_is_the_root_of_gps_and_the_iou_of_masks():
    person = {"bbox": BOX, "area": 20, "iscrowd": 0} | surface((100, 10, 1, 1)).fields()
    predicted = maps(1, u=255)
    predicted[0, 3] = 0
    case = compare(LINE, [person], [(0.9, BOX, predicted)], (40, 40))
    assert case.similarity["gps"] == 1
    assert case.similarity["gpsm"] == pytest.approx(math.sqrt(3 / 4))


def test_bodies_are_enlarged_from_middle_to_middle():
    parts = np.zeros((SIDE, SIDE), np.uint8)
    parts[:128] = 3
    assert body_mask(parts, [0, 0, 2, 4]).tolist() == [[True] * 2] * 2 + [[False] * 2] * 2
    assert body_mask(parts, [0, 0, 0.2, 1]).tolist() == [[True]]


def test_numbers_are_those_of_detectron2_s_densepose_project():
    stored, cases = densepose_parity.stored()["evaluator"], densepose_cases.compared()
    for image, case in cases.items():
        gps = np.array(stored["similarity"][image - 1]).reshape(case.similarity["gps"].shape)
        masks = np.array(stored["masks"][image - 1]).reshape(gps.shape) if gps.size else gps
        assert case.similarity["gps"] == pytest.approx(gps, abs=2e-6)
        assert case.similarity["gpsm"] == pytest.approx(np.sqrt(gps * masks), abs=2e-3)
    for task in ("gps", "gpsm"):
        # The reference has -100 where there is nobody; here it is NaN.
        expected = [math.nan if value < 0 else value for value in stored[task]]
        ours = average_precision(cases, task)
        assert tuple(ours) == METRICS
        assert [*ours.values()] == pytest.approx(expected, nan_ok=True, abs=1e-9)
    assert sum(value > 0 for value in stored["gps"]) >= 8


def test_without_people_or_detections_there_is_nothing_to_measure():
    person = {"bbox": BOX, "area": 2000, "iscrowd": 0} | surface((100, 10, 1, 1)).fields()
    nobody = compare(LINE, [], [(0.9, BOX, maps(1))], (40, 40))
    assert math.isnan(average_precision({1: nobody}, "gps")["AP"])
    missed = compare(LINE, [person], [], (40, 40))
    assert average_precision({1: nobody, 2: missed}, "gps")["AP"] == 0


# --- the evaluator


class Maps:
    """The least that a model's ``pred_densepose`` has to be."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def surfaces(self, boxes):
        return [torch.from_numpy(maps(1, u=255)) for _ in boxes]


def evaluator(monkeypatch, folder):
    person = {"id": 1, "image_id": 3, "bbox": BOX, "area": 2000, "iscrowd": 0}
    tree = {
        "images": [{"id": n, "height": 40, "width": 40} for n in (3, 4)],
        "annotations": [person | surface((100, 10, 1, 1)).fields()],
    }
    monkeypatch.setattr(densepose, "read_surfaces", lambda _: tree)
    monkeypatch.setattr(densepose, "surface_of", lambda _: LINE)
    return DensePoseEvaluator("people", folder)


def test_the_evaluator_measures_what_a_model_says(monkeypatch, tmp_path):
    measuring = evaluator(monkeypatch, tmp_path)
    box = torch.tensor([[10.0, 20.0, 15.0, 24.0]])
    seen = Instances((40, 40), pred_boxes=Boxes(box), scores=torch.ones(1))
    seen.pred_densepose = Maps(1)
    empty = Instances((40, 40), pred_boxes=Boxes(box[:0]), scores=torch.ones(0))
    empty.pred_densepose = Maps(0)
    measuring.process(
        [{"image_id": 3}, {"image_id": 4}], [{"instances": seen}, {"instances": empty}]
    )
    results = measuring.evaluate()
    assert {task: values["AP"] for task, values in results.items()} == pytest.approx(
        {"densepose_gps": 100, "densepose_gpsm": 100}
    )
    assert "GPSm" in metrics_table(results)
    matches = read_matches(tmp_path / FILE, "densepose_gpsm")
    assert matches.image_ids == (3, 4)
    assert matches.average_precision()["AP"] == pytest.approx(100)
    measuring.reset()
    assert math.isnan(measuring.evaluate()["densepose_gps"]["AP"])


def test_a_model_without_coordinates_is_refused(monkeypatch, tmp_path):
    seen = Instances((40, 40), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
    with pytest.raises(ConfigError, match="the model predicts no surface coordinates"):
        evaluator(monkeypatch, tmp_path).process([{"image_id": 3}], [{"instances": seen}])
