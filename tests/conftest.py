"""Settings of the whole suite: one thread, no GPU, the backend named at the top of the output."""

import os

# Set before torch starts its thread pools: on small inputs one thread is the quickest and reproducible.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import maskrcnn_repro

import pytest
import torch


def pytest_configure(config):
    torch.set_num_threads(1)


def pytest_report_header(config):
    return f"backend: {maskrcnn_repro.BACKEND}"


def pytest_collection_modifyitems(config, items):
    if maskrcnn_repro.BACKEND.name == "embedded":
        return
    skip = pytest.mark.skip(reason="about the embedded Detectron2 itself")
    for item in items:
        if "embedded_only" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
