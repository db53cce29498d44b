"""Generated images of people and detections on a flat surface of 24 charts, and what the reference measures of them."""

import contextlib
import io
from functools import cache

from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.surface import Surface
from maskrcnn_repro.evaluation.surface_ap import compare

import numpy as np

IMAGES = 16
COUNT = 24
SIZE = (120, 160)
COARSE = np.array([0, 1, 1, 2, 2, 3, 3, *[4] * 4, *[5] * 4, *[6] * 4, *[7] * 4, 8, 8])
SCALES = np.array([0, 0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150])


def surface():
    """Return a sheet of 0.9 by 1.8 metres: 3 by 8 charts of 3 by 3 vertices."""
    chart = np.repeat(np.arange(1, COUNT + 1), 9)
    u, v = np.tile(np.repeat([0.1, 0.5, 0.9], 3), COUNT), np.tile([0.1, 0.5, 0.9], 3 * COUNT)
    column, row = (chart - 1) % 3 + u, (chart - 1) // 3 + v
    places = np.stack([column * 0.3, row * 0.225], axis=1)
    matrix = np.sqrt(((places[:, None] - places) ** 2).sum(axis=2))
    return Surface(
        tuple(f"chart {n}" for n in range(1, COUNT + 1)),
        chart,
        u,
        v,
        lambda a, b: matrix[a, b],
        SCALES[COARSE],
    )


def _coordinates(x, y):
    """Return chart, u and v of places in a person's box, each in [0, 1)."""
    column, row = np.floor(x * 3), np.floor(y * 8)
    return row * 3 + column + 1, x * 3 - column, y * 8 - row


def _person(rng, kind, box):
    left, top, width, height = box
    outline = [left, top, left + width, top, left + width, top + height, left, top + height]
    person = {"category_id": 1, "bbox": box, "area": width * height * 0.8, "iscrowd": 0}
    person["segmentation"] = [[float(value) for value in outline]]
    if kind == "crowd":
        mask = np.zeros(SIZE, np.uint8, order="F")
        mask[10:60, 10:90] = 1
        runs = np.diff(np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=0)), prepend=0)
        counts = [*runs.tolist(), mask.size - int(runs.sum())]
        person |= {"iscrowd": 1, "segmentation": {"size": list(SIZE), "counts": counts}}
    if kind in ("crowd", "unlabelled"):
        return person
    x, y = rng.random((2, 30)) * 0.99
    chart, u, v = _coordinates(x, y)
    # Some points are not on the body.
    chart[:2] = 0
    cells = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    inside = (cells[:, None] / 0.5) ** 2 + (cells / 0.45) ** 2 < 1
    parts = np.where(inside, 1 + np.arange(SIDE)[:, None] // 64, 0).astype(np.uint8)
    points = np.stack([x * SIDE, y * SIDE, chart, u, v], axis=1)
    return person | SurfacePoints(points, None if kind == "outline" else parts).fields()


def _detection(rng, person, spread):
    shift = np.array([*rng.normal(0, spread, 2), *rng.normal(0, spread, 2)])
    box = np.array(person["bbox"]) * 1.0 + shift * 12
    box[2:] = np.maximum(box[2:], 0.5)
    width, height = np.maximum(box[2:].astype(int), 1)
    x = (box[0] + np.arange(width) + 0.5 - person["bbox"][0]) / person["bbox"][2]
    y = (box[1] + np.arange(height) + 0.5 - person["bbox"][1]) / person["bbox"][3]
    x, y = (np.clip(place + rng.normal(0, spread / 12), 0, 0.999) for place in (x, y))
    chart, u, v = _coordinates(x[None, :], y[:, None])
    maps = np.stack(np.broadcast_arrays(chart, u * 255, v * 255)).clip(0, 255).astype(np.uint8)
    maps[0, : int(height * spread / 4)] = 0
    return round(float(rng.random()), 2), box.tolist(), maps


def images():
    """Return of each image its people, as COCO's annotations, and its detections."""
    rng = np.random.Generator(np.random.PCG64(7))
    cases, number = [], 0
    kinds = ("whole", "whole", "outline", "unlabelled", "crowd", "whole")
    for image in range(1, IMAGES + 1):
        people, detections = [], []
        for _ in range(image % 5):
            size = rng.integers(12, 100, 2)
            box = [*rng.integers(0, 50, 2).tolist(), *size.tolist()]
            number += 1
            kind = kinds[number % len(kinds)]
            people.append({"id": number, "image_id": image} | _person(rng, kind, box))
            for _ in range(int(rng.integers(0, 4))):
                detections.append(_detection(rng, people[-1], rng.choice([0.05, 0.2, 0.6])))
        if image % 5 == 0 or image == 7:
            # Nobody is there, or more than count.
            ghost = {"bbox": [20, 30, 40, 50]}
            detections += [_detection(rng, ghost, 0.3) for _ in range(3 if image % 5 == 0 else 22)]
        cases.append((people, detections))
    return cases


@cache
def compared():
    """Return how detections compare with people, by id of the image."""
    own = surface()
    return {
        image: compare(own, people, detections, SIZE)
        for image, (people, detections) in enumerate(images(), start=1)
    }


def reference():
    """Return what the DensePose project of an installed Detectron2 measures: metrics of each task, and similarities."""
    import torch
    from densepose.evaluation import densepose_coco_evaluation as module
    from densepose.structures.chart_result import DensePoseChartResultQuantized
    from pycocotools.coco import COCO

    own = surface()

    class Evaluation(module.DensePoseCocoEval):
        def _loadGEval(self):
            index = np.arange(len(own.chart)) + 1
            parts = [own.chart == n for n in range(1, COUNT + 1)]
            self.PDIST_transform = index
            self.Part_UVs = [np.array([own.u[part], own.v[part]]) for part in parts]
            self.Part_ClosestVertInds = [index[part] for part in parts]
            self.Part_ids, self.Mean_Distances, self.CoarseParts = own.chart, SCALES, COARSE

        def getDistancesUV(self, truth, predicted):
            on_body = truth > 0
            a, b = truth[on_body].astype(int) - 1, predicted[on_body].astype(int) - 1
            return np.where(b >= 0, own.distance(a, b), np.inf)

    cases, truth = images(), COCO()
    truth.dataset = {
        "images": [{"id": n, "height": SIZE[0], "width": SIZE[1]} for n in range(1, IMAGES + 1)],
        "annotations": [person for people, _ in cases for person in people],
        "categories": [{"id": 1, "name": "person"}],
    }
    results = [
        {
            "image_id": image,
            "category_id": 1,
            "bbox": box,
            "score": score,
            "densepose": DensePoseChartResultQuantized(torch.from_numpy(maps)),
        }
        for image, (_, detections) in enumerate(cases, start=1)
        for score, box, maps in detections
    ]
    measured = {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        predicted = truth.loadRes(results)
        for task, mode in (("gps", "GPS"), ("gpsm", "GPSM")):
            kind = getattr(module.DensePoseEvalMode, mode)
            evaluation = Evaluation(truth, predicted, "densepose", dpEvalMode=kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            measured[task] = [float(100 * value) for value in evaluation.stats]
    tables = [evaluation.ious[image, 1] for image in range(1, IMAGES + 1)]
    masks = [evaluation.real_ious[image, 1] for image in range(1, IMAGES + 1)]
    measured["similarity"] = [table[0].round(6).tolist() if len(table) else [] for table in tables]
    measured["masks"] = [np.round(table, 6).tolist() if len(table) else [] for table in masks]
    return measured
