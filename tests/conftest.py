"""Settings of the whole suite: one thread, no GPU, the backend named at the top of the output."""

import logging
import os
import signal
from contextlib import contextmanager

# Set before torch starts its thread pools: on small inputs one thread is the quickest and reproducible.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import maskrcnn_repro
from maskrcnn_repro.tables.paper import additions, claims, experiments, numbers

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage

from tests.helpers.chromium import chromium


def pytest_configure(config):
    torch.set_num_threads(1)
    # A shell ignores interrupts in its background jobs, nohup ignores SIGHUP, and what is ignored stays so in all
    # their children.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"backend: {maskrcnn_repro.BACKEND}")


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


@pytest.fixture(autouse=True)
def _loggers():
    """Take back what ``setup_logger`` does to a whole process: what is logged reaches later tests' ``caplog``."""
    yield
    for name in ("detectron2", "fvcore"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


@pytest.fixture
def storage():
    with EventStorage() as storage:
        yield storage


@pytest.fixture
def log(caplog):
    """What is logged below "detectron2", wherever its records go otherwise."""
    logger = logging.getLogger("detectron2")
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


@pytest.fixture
def catalog():
    """Forget what a test registers."""
    with _forgetting():
        yield DatasetCatalog


@pytest.fixture(scope="module", autouse=True)
def _catalog_of_a_module():
    """Forget what fixtures of a whole file register: other files may use the same names."""
    with _forgetting():
        yield


@contextmanager
def _forgetting():
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)


@pytest.fixture
def nothing_added(monkeypatch):
    """Without tables of plug-ins, which are registered for the time of the test alone."""
    for module, name in (
        (numbers, "ADDED_TABLES"),
        (numbers, "ADDED_METRICS"),
        (experiments, "ADDED"),
        (claims, "ADDED"),
        (additions, "_files"),
    ):
        monkeypatch.setattr(module, name, {})


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser
