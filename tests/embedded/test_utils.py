"""Utilities: events and their writers, registry, logging, files, memory, communication."""

import json
import logging
import random

import maskrcnn_repro

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng, setup_custom_environment
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
)
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table, log_every_n, log_first_n, setup_logger
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry
from torch.testing import assert_close

# Events


def test_storages_nest():
    assert not has_event_storage()
    with EventStorage(5) as outer:
        with EventStorage() as inner:
            assert get_event_storage() is inner
        assert get_event_storage() is outer
        assert outer.iter == 5
    with pytest.raises(AssertionError, match="EventStorage"):
        get_event_storage()


def test_noisy_scalars_are_medians_of_recent_iterations():
    with EventStorage() as storage:
        for value in (100, 3, 1, 2):
            storage.put_scalar("loss", value)
            storage.put_scalar("lr", value, smoothing_hint=False)
            storage.step()
        assert storage.latest() == {"loss": (2.0, 3), "lr": (2.0, 3)}
        assert storage.latest_with_smoothing_hint(3) == {"loss": (2.0, 3), "lr": (2.0, 3)}
        assert storage.latest_with_smoothing_hint(4)["loss"] == (2.5, 3)
        assert storage.count_samples("loss", 3) == 3
        with pytest.raises(AssertionError, match="smoothing_hint"):
            storage.put_scalar("lr", 1)
        with pytest.raises(KeyError, match="accuracy"):
            storage.history("accuracy")


def test_name_scopes_nest():
    with EventStorage() as storage:
        with storage.name_scope("a"):
            storage.put_scalars(x=1)
            with storage.name_scope("b/"):
                storage.put_scalar("x", 1)
        storage.put_scalar("x", 1)
    assert list(storage.histories()) == ["a/x", "b/x", "x"]


@pytest.mark.embedded_only  # Detectron2 stays in the scope
def test_name_scopes_end_after_an_error():
    storage = EventStorage()
    with pytest.raises(RuntimeError), storage.name_scope("a"):
        raise RuntimeError
    storage.put_scalar("x", 1)
    assert list(storage.histories()) == ["x"]


def test_json_lines_hold_each_number_once(tmp_path):
    file = tmp_path / "metrics.json"
    with EventStorage() as storage:
        writer = JSONWriter(str(file))
        storage.put_scalar("a", 1, smoothing_hint=False)
        writer.write()
        writer.write()
        storage.step()
        storage.put_scalar("a", 2, smoothing_hint=False)
        storage.put_scalar("b", 3, cur_iter=4)
        writer.write()
        writer.close()
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"iteration": 0, "a": 1},
        {"iteration": 1, "a": 2},
        {"iteration": 4, "b": 3},
    ]


def test_the_printed_line(caplog):
    with (
        EventStorage(9) as storage,
        caplog.at_level(logging.INFO, logger="detectron2.utils.events"),
    ):
        storage.put_scalars(total_loss=0.12345, time=2.0, data_time=0.5, **{"[metric]x": 3})
        storage.put_scalar("lr", 0.01, smoothing_hint=False)
        CommonMetricPrinter(max_iter=40).write()
        storage.iter = 40
        CommonMetricPrinter(max_iter=40).write()  # training is over
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(
        " eta: 0:01:00  iter: 9  total_loss: 0.1235  [metric]x: 3  time: 2.0000  last_time: 2.0000  "
        "data_time: 0.5000  last_data_time: 0.5000   lr: 0.01  "
    )
    assert storage.latest()["eta_seconds"] == (60.0, 9)


def test_tensorboard_takes_scalars_pictures_and_histograms(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with EventStorage() as storage:
        writer = TensorboardXWriter(str(tmp_path))
        storage.put_scalar("a", 1)
        storage.put_image("picture", torch.zeros(3, 4, 4))
        storage.put_histogram("values", torch.arange(8.0), bins=4)
        writer.write()
        writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in events.Scalars("a")] == [1]
    assert len(events.Images("picture")) == 1
    assert events.Histograms("values")[0].histogram_value.sum == 28


# Registry, logging, files, environment


def test_registry():
    registry = Registry("SHAPES")
    registry.register(dict)
    assert registry.get("dict") is dict
    with pytest.raises(KeyError, match="round"):
        registry.get("round")


def test_a_log_file_per_process(tmp_path, capsys):
    for rank in (0, 1):
        logger = setup_logger(str(tmp_path), rank, name=f"test_log_{rank}", color=False)
        assert setup_logger(str(tmp_path), rank, name=f"test_log_{rank}", color=False) is logger
        logger.info("from rank %d", rank)
        for handler in logger.handlers:
            handler.flush()
    assert capsys.readouterr().out.count("from rank") == 1
    assert "test_log_0 INFO: from rank 0" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "log.txt.rank1").read_text().count("from rank 1") == 1


def test_repeated_messages_are_held_back(caplog):
    caplog.set_level(logging.INFO)
    for i in range(5):
        log_first_n(logging.INFO, f"first {i}", 2)
        log_first_n(logging.INFO, "same text", key="message")
        log_every_n(logging.INFO, f"every {i}", 3)
    log_first_n(logging.INFO, "same text", key="message")
    messages = [record.getMessage() for record in caplog.records]
    assert sorted(messages) == ["every 0", "every 3", "first 0", "first 1", "same text"]
    assert {record.name for record in caplog.records} == {__name__}


def test_a_table_of_one_row():
    lines = create_small_table({"AP": 12.3456, "AP50": 7.0}).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["AP", "AP50"]
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["12.346", "7.000"]


def test_files_of_the_model_zoo_have_a_url(monkeypatch):
    from iopath.common.file_io import HTTPURLHandler

    asked = []
    # A subclass may have taken its place, if this project's own downloads are imported.
    for handler in (HTTPURLHandler, *HTTPURLHandler.__subclasses__()):
        monkeypatch.setattr(
            handler, "_get_local_path", lambda self, path, **kwargs: asked.append(path)
        )
    PathManager.get_local_path("detectron2://ImageNetPretrained/MSRA/R-50.pkl")
    assert asked == ["https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl"]


def test_seeds_reach_every_generator():
    drawn = []
    for _ in range(2):
        seed_all_rng(3)
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]


def test_a_hook_of_the_user(tmp_path):
    hook = tmp_path / "hook.py"
    hook.write_text(
        f"def setup_environment():\n    open({str(tmp_path / 'called')!r}, 'w').close()\n"
    )
    setup_custom_environment(str(hook))
    assert (tmp_path / "called").exists()
    hook.write_text("")
    with pytest.raises((AttributeError, AssertionError), match="setup_environment"):
        setup_custom_environment(str(hook))


def test_the_environment_names_backend_and_torch():
    text = collect_env_info()
    assert maskrcnn_repro.BACKEND.version in text
    assert torch.__version__ in text


def test_only_a_full_gpu_is_retried():
    calls = []

    def fail(message, times):
        calls.append(message)
        if len(calls) <= times:
            raise RuntimeError(message)
        return "done"

    assert retry_if_cuda_oom(fail)("CUDA out of memory. Tried to allocate", 2) == "done"
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(RuntimeError, match="something else"):
        retry_if_cuda_oom(fail)("something else", 1)
    assert len(calls) == 1


# Communication


def test_a_single_process_is_a_world():
    assert (
        comm.get_world_size(),
        comm.get_rank(),
        comm.get_local_rank(),
        comm.get_local_size(),
    ) == (1, 0, 0, 1)
    assert comm.is_main_process()
    assert comm.all_gather("x") == comm.gather("x") == ["x"]
    losses = {"a": torch.tensor(1.0)}
    assert comm.reduce_dict(losses) is losses
    comm.synchronize()


def _talk(rank, rendezvous):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    comm.create_local_process_group(2)
    assert (comm.get_local_rank(), comm.get_local_size()) == (rank, 2)
    assert comm.all_gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert comm.gather(rank, dst=1) == ([] if rank == 0 else [0, 1])
    assert len(set(comm.all_gather(comm.shared_random_seed()))) == 1
    reduced = comm.reduce_dict({"b": torch.tensor(rank + 1.0), "a": torch.tensor(4.0)})
    if rank == 0:
        assert reduced == {"a": torch.tensor(4.0), "b": torch.tensor(1.5)}

    # Synchronized normalization is that of the whole batch, though one process may have nothing.
    torch.manual_seed(0)
    images = torch.rand(4, 3, 5, 5)
    for mode, share in (("", (2, 2)), ("N", (1, 3)), ("N", (0, 4))):
        whole, split = torch.nn.BatchNorm2d(3), NaiveSyncBatchNorm(3, stats_mode=mode)
        expected = whole(images).split(share)[rank]
        mine = images.split(share)[rank].clone().requires_grad_()
        output = split(mine)
        output.square().sum().backward()
        assert_close(output, expected)
        assert_close(split.running_mean, whole.running_mean)
        assert mine.grad.shape == mine.shape
    comm.synchronize()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path):
    mp.spawn(_talk, args=(f"file://{tmp_path}/rendezvous",), nprocs=2)
    assert (tmp_path / "rendezvous").parent.exists()
