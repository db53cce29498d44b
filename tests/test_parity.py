"""The active backend against numbers stored from an installed Detectron2."""

import gc

import maskrcnn_repro
from maskrcnn_repro.benchmark import models as settings

import numpy as np
import pytest

from tests.helpers.parity import caffe2, compare, data, models, pieces, store

MODELS = list(settings.SETTINGS)
# Seconds of convolutions each, with the RoI heads of R50-FPN; their state_dicts are compared all the same.
SLOW = ("X101-FPN", "R50-DC5")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS],
)
def pair(request):
    """Ours and the stored measurement of one model."""
    name = request.param
    stored = store.read("models.json")[name] | store.read("instances.json.gz")[name]
    ours = models.measure(models.build(name, stored["seed"]), name)
    gc.collect()
    return ours, stored


def test_weights_give_something_to_compare(pair):
    models.check_substance(pair[0])


@pytest.mark.parametrize("part", ["losses", "gradients", "proposals", "detections"])
def test_model(pair, part):
    ours, stored = pair
    differences = getattr(compare, part)(ours[part], stored[part])
    assert differences == []


@pytest.mark.parametrize("name", MODELS)
def test_state_dict(name):
    assert models.shapes(name) == store.read("shapes.json.gz")[name]


def test_anchors():
    stored = store.read("anchors.json.gz")
    ours = pieces.anchors()
    assert ours.keys() == stored.keys()
    for name, levels in stored.items():
        for level, expected in zip(ours[name], levels, strict=True):
            assert np.array(level) == pytest.approx(np.array(expected), abs=1e-3)


@pytest.mark.parametrize("name", list(pieces.SCHEDULES))
def test_learning_rates(name):
    rates = pieces.learning_rates()[name]
    assert rates == pytest.approx(store.read("learning_rates.json")[name], rel=1e-9)


def test_sampler_orders():
    assert pieces.sampler_orders() == store.read("samplers.json")


def test_mapper(tmp_path):
    annotations, images = data.mapped(tmp_path)
    stored_images = store.read_arrays("mapper.npz")
    assert images.keys() == stored_images.keys()
    for name, stored in stored_images.items():
        # Pillow may round half a grey level the other way.
        assert np.abs(images[name].astype(int) - stored).max() <= 1, name
    stored_annotations = store.read("mapper.json")
    assert annotations.keys() == stored_annotations.keys()
    for name, stored in stored_annotations.items():
        _check_instances(annotations[name], stored)


def _check_instances(ours, stored):
    assert ours.keys() == stored.keys()
    for key in ("size", "classes", "bitmasks"):
        assert ours.get(key) == stored.get(key)
    for key in ("boxes", "keypoints"):
        assert np.array(ours.get(key, [])) == pytest.approx(np.array(stored.get(key, [])), abs=1e-3)
    for parts, expected in zip(ours.get("polygons", []), stored.get("polygons", []), strict=True):
        for part, points in zip(parts, expected, strict=True):
            assert np.array(part) == pytest.approx(np.array(points), abs=1e-3)


def test_average_precision(tmp_path):
    ours = data.average_precision(tmp_path)
    stored = store.read("average_precision.json")
    assert ours.keys() == stored.keys()
    flat = [(ours[task], stored[task]) for task in ("bbox", "segm")]
    flat += [(ours["person"][task], stored["person"][task]) for task in ("bbox", "keypoints")]
    for results, expected in flat:
        assert results == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", list(caffe2.FILES))
def test_caffe2_names(name, tmp_path):
    landing = caffe2.landing(name, tmp_path)
    assert landing == store.read("caffe2.json.gz")[name]
    assert all(origin[0] is not None for origin in landing.values()), "a tensor kept its old values"


def test_recorded_on_an_installed_detectron2():
    assert store.read("origin.json")["backend"].startswith("installed")
    assert maskrcnn_repro.BACKEND.name in ("installed", "embedded")
