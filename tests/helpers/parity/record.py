"""Runs every recipe on an installed Detectron2 and stores the results."""

import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import maskrcnn_repro
from maskrcnn_repro.benchmark import models as settings

import numpy as np
import torch

from tests.helpers.parity import caffe2, compare, data, models, pieces, store

SEEDS = range(20)
# Another kernel and another last bit of the weights may use this share of each tolerance.
STRICTNESS = 2


def main():
    backend = maskrcnn_repro.BACKEND
    if backend.name != "installed":
        sys.exit(f"Only an installed Detectron2 may be recorded, but this is the {backend}.")
    torch.set_num_threads(1)
    _record_models()
    store.write("shapes.json.gz", {name: models.shapes(name) for name in settings.SETTINGS})
    store.write("anchors.json.gz", pieces.anchors())
    store.write("learning_rates.json", pieces.learning_rates())
    store.write("samplers.json", pieces.sampler_orders())
    with tempfile.TemporaryDirectory() as folder:
        annotations, images = data.mapped(Path(folder))
        store.write("mapper.json", annotations)
        store.write_arrays("mapper.npz", images)
        store.write("average_precision.json", data.average_precision(Path(folder)))
        store.write(
            "caffe2.json.gz", {name: caffe2.landing(name, Path(folder)) for name in caffe2.FILES}
        )
    store.write("origin.json", _origin(backend))


def _record_models():
    summaries = {}
    instances = {}
    for name in settings.SETTINGS:
        seed, measured = _stable(name)
        print(f"{name}: seed {seed}, losses {measured['losses']}")
        summaries[name] = {"seed": seed, **{key: measured[key] for key in ("losses", "gradients")}}
        instances[name] = {key: measured[key] for key in ("proposals", "detections")}
    store.write("models.json", summaries)
    store.write("instances.json.gz", instances)


def _stable(name):
    """Return the first seed whose results say enough and do not stand on an edge, and the results."""
    for seed in SEEDS:
        measured = models.measure(models.build(name, seed), name)
        try:
            models.check_substance(measured)
            differences = compare.everything(_measure_otherwise(name, seed), measured, STRICTNESS)
            assert differences == [], differences
        except AssertionError as error:
            print(f"{name}: seed {seed} will not do: {error}")
        else:
            return seed, measured
    sys.exit(f"{name}: no seed of {SEEDS} gives stable results.")


def _measure_otherwise(name, seed):
    """Measure with other convolution kernels and weights that differ by about 1e-6 of their size."""
    model = models.build(name, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + 1e-6 * (2 * torch.rand(parameter.shape, generator=generator) - 1)
    with torch.backends.mkldnn.flags(enabled=False):
        return models.measure(model, name)


def _origin(backend):
    packages = ("torch", "torchvision", "fvcore", "pycocotools", "Pillow")
    return {
        "backend": str(backend),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
