"""Losses and metrics for MLflow and Weights & Biases: what is sent, and that no training depends on it."""

import json
import logging
import sys

from maskrcnn_repro.config import get_config
from maskrcnn_repro.engine import trackers
from maskrcnn_repro.engine.checks import check_training
from maskrcnn_repro.engine.trackers import IDS, MLflow, Tracker, WandB, build_trackers
from maskrcnn_repro.errors import ConfigError

import pytest
from detectron2.utils.events import EventStorage


class Listed(Tracker):
    """Keeps what it is sent; fails at an iteration named ``fails_at``."""

    name = package = extra = "listed"
    fails_at = None

    def open(self, folder, config, former):
        self.config, self.former, self.sent, self.ended = config, former, [], False
        return former or "run-1"

    def send(self, values, iteration):
        if iteration == self.fails_at:
            raise ConnectionError("no route\nto host")
        self.sent.append((iteration, dict(values)))

    def end(self):
        self.ended = True


def follow(tracker, losses, start=0):
    """Put a loss an iteration into a storage; write after every second one."""
    with EventStorage(start) as storage:
        for count, loss in enumerate(losses, 1):
            storage.put_scalar("loss", loss, smoothing_hint=False)
            if count % 2 == 0:
                tracker.write()
            storage.step()
        tracker.close()


def test_values_are_sent_once_with_their_iteration(tmp_path):
    tracker = Listed(tmp_path, {"SEED": 1})
    follow(tracker, [4.0, 3.0, 2.0, 1.0])
    assert tracker.sent == [(1, {"loss": 3.0}), (3, {"loss": 1.0})]
    assert tracker.ended


def test_a_resumed_training_goes_on_in_its_run(tmp_path):
    follow(Listed(tmp_path, {}), [1.0])
    assert json.loads((tmp_path / IDS).read_text()) == {"listed": "run-1"}
    assert Listed(tmp_path, {}).former == "run-1"


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_ids_that_cannot_be_read_begin_a_new_run(tmp_path, text):
    (tmp_path / IDS).write_text(text)
    assert Listed(tmp_path, {}).former is None


def test_a_service_that_fails_is_told_of_once_and_left_out(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(Listed, "fails_at", 1)
    tracker = Listed(tmp_path, {})
    with caplog.at_level(logging.WARNING):
        follow(tracker, [4.0, 3.0, 2.0, 1.0])
    assert (tracker.sent, tracker.ended) == ([], False)
    (record,) = caplog.records
    assert "listed failed and is left out from here on (ConnectionError: no route to host)" in (
        record.getMessage()
    )


def test_a_service_that_cannot_be_opened_stops_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(Listed, "open", lambda *_: 1 / 0)
    follow(Listed(tmp_path, {}), [1.0])
    assert not (tmp_path / IDS).exists()


def test_none_are_built_and_none_imported_unless_asked_for(tmp_path):
    cfg = get_config()
    cfg.OUTPUT_DIR = str(tmp_path)
    assert build_trackers(cfg) == []
    assert not {"mlflow", "wandb"} & set(sys.modules)


def test_a_missing_package_is_found_before_the_training(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    cfg = get_config()
    cfg.TRACKERS = ("mlflow",)
    with pytest.raises(
        ConfigError, match=r"needs the package mlflow: pip install 'maskrcnn-repro\[mlflow\]'"
    ):
        check_training(cfg, 1)


def test_names_that_mlflow_refuses_are_written_plainly():
    assert trackers._plain("segm/AP-a (b)") == "segm/AP-a _b_"


@pytest.mark.slow
def test_mlflow_keeps_config_and_curve(tmp_path, monkeypatch):
    client_of = pytest.importorskip("mlflow.tracking").MlflowClient
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "cells" / "first"
    run.mkdir(parents=True)
    follow(MLflow(run, {"SEED": 1, "LONG": "x" * 9000}), [4.0, 3.0])
    follow(MLflow(run, {"SEED": 1}), [2.0, 1.0], start=2)
    client = client_of(tracking_uri=f"sqlite:///{run.parent / 'mlflow.db'}")
    (stored,) = client.search_runs([client.get_experiment_by_name("cells").experiment_id])
    assert stored.data.params["SEED"] == "1"
    history = client.get_metric_history(stored.info.run_id, "loss")
    assert [(entry.step, entry.value) for entry in history] == [(1, 3.0), (3, 1.0)]
    assert stored.info.status == "FINISHED"


@pytest.mark.slow
def test_wandb_keeps_a_run_and_sends_nothing(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    tracker = WandB(tmp_path, {"SEED": 1})
    follow(tracker, [4.0, 3.0])
    assert not tracker._broken
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
