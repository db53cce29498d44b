"""Broken images and dying workers in loaders: named, or left out and counted when asked for."""

import itertools
import json
import os
import signal
from pathlib import Path

from maskrcnn_repro.data.cached_images import CachedImages
from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.data.loader import build_test_loader, build_train_loader
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.data.watched_loader import WatchedLoader
from maskrcnn_repro.data.worker_notes import WorkerNotes
from maskrcnn_repro.errors import ConfigError, DataError

import pytest
import torch

from tests.helpers.proposal_files import tiny_config
from tests.helpers.tiny_coco import write_tiny_coco

NEEDED = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def data(tmp_path, catalog):
    """A data set of four images, 10 to 13, of which 11 is cut off."""
    json_file, folder = write_tiny_coco(tmp_path)
    names = {i["id"]: i["file_name"] for i in json.loads(json_file.read_text())["images"]}
    broken = folder / names[11]
    broken.write_bytes(broken.read_bytes()[:60])
    return (json_file, folder), broken


def config(data, *opts, workers=0):
    cfg = tiny_config(data, *map(str, opts))
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.SOLVER.IMS_PER_BATCH = 2
    return cfg


def ids_of(loader, batches=None):
    return [s["image_id"] for batch in itertools.islice(loader, batches) for s in batch]


@NEEDED
@pytest.mark.parametrize("build", [build_train_loader, lambda cfg: build_test_loader(cfg, "tiny")])
def test_a_broken_image_is_one_sentence_with_its_path(data, workers, build):
    files, broken = data
    with pytest.raises(ImageError) as error:
        ids_of(build(config(files, "DATALOADER.CACHE_IMAGES", "False", workers=workers)), 10)
    assert str(error.value).startswith(f"Image {broken} cannot be read: ")
    assert "\n" not in str(error.value)


def test_a_broken_image_of_a_cache_is_named_at_start(data):
    with pytest.raises(ImageError, match=str(data[1])):
        build_train_loader(config(data[0], "DATALOADER.CACHE_IMAGES", "True"))


@pytest.mark.parametrize("cache", [False, True])
def test_a_substitute_is_drawn_from_the_seed_for_any_number_of_workers(
    data, monkeypatch, log, cache
):
    monkeypatch.setattr("maskrcnn_repro.data.watched_loader.BROKEN_SHARE", 0.25)
    opts = ["DATALOADER.SKIP_BROKEN", "True", "DATALOADER.CACHE_IMAGES", cache]
    whole = ids_of(build_train_loader(config(data[0], *opts)), 20)
    assert set(whole) == {10, 12, 13}
    assert whole == ids_of(build_train_loader(config(data[0], *opts, workers=2)), 20)
    assert whole[20:] == ids_of(build_train_loader(config(data[0], *opts), first=10), 10)
    assert whole != ids_of(build_train_loader(config(data[0], *opts, "SEED", "4")), 20)
    told = [r.message for r in log.records if "Left out" in r.message]
    assert len(told) == 4  # once for each loader
    assert told[0].startswith(f"Left out, 1 of 4 images so far: Image {data[1]} cannot be read")


def test_without_broken_images_leaving_them_out_changes_nothing(tmp_path, catalog):
    files = write_tiny_coco(tmp_path)
    first, second = (
        next(iter(build_train_loader(config(files, "DATALOADER.SKIP_BROKEN", skip))))
        for skip in (False, True)
    )
    for kept, all_kept in zip(first, second, strict=True):
        assert kept.keys() == all_kept.keys()
        assert torch.equal(kept["image"], all_kept["image"])


@NEEDED
def test_more_broken_images_than_one_in_a_hundred_are_an_error(data, workers):
    cfg = config(data[0], "DATALOADER.SKIP_BROKEN", "True", workers=workers)
    cfg.DATALOADER.CACHE_IMAGES = False
    sentence = (
        r"^1 of 4 images are broken, more than the 1% that DATALOADER\.SKIP_BROKEN leaves out"
    )
    for loader in (build_train_loader(cfg), build_test_loader(cfg, "tiny")):
        with pytest.raises(ImageError, match=rf"{sentence}: '{data[1]}'\.$"):
            ids_of(loader, 20)


@NEEDED
def test_in_evaluation_a_broken_image_is_not_given_to_the_model(data, monkeypatch, workers):
    monkeypatch.setattr("maskrcnn_repro.data.watched_loader.BROKEN_SHARE", 0.25)
    loader = build_test_loader(
        config(data[0], "DATALOADER.SKIP_BROKEN", "True", workers=workers), "tiny"
    )
    assert len(loader) == 4
    assert ids_of(loader) == [10, 12, 13]


class Failing(TrainMapper):
    """Fails, or dies, at image 12."""

    end = staticmethod(lambda: 1 / 0)

    def __call__(self, record):
        if record["image_id"] == 12:
            self.end()
        return super().__call__(record)


class Dying(Failing):
    end = staticmethod(lambda: os.kill(os.getpid(), signal.SIGKILL))


def image(data, number):
    tree = json.loads(data[0].read_text())
    return str(Path(data[1]) / next(i["file_name"] for i in tree["images"] if i["id"] == number))


@NEEDED
def test_a_failing_mapper_names_the_image_it_was_at(tmp_path, catalog, workers):
    files = write_tiny_coco(tmp_path)
    cfg = config(files, workers=workers)
    with pytest.raises(ZeroDivisionError) as error:
        ids_of(build_train_loader(cfg, mapper=Failing(cfg, True)), 10)
    # A worker's error comes as text, notes included.
    text = "\n".join([str(error.value), *getattr(error.value, "__notes__", ())])
    assert f"The mapper was at image {image(files, 12)}." in text


def test_a_worker_that_is_killed_leaves_the_name_of_its_image(tmp_path, catalog):
    files = write_tiny_coco(tmp_path)
    cfg = config(files, workers=2)
    with pytest.raises(DataError) as error:
        ids_of(build_train_loader(cfg, mapper=Dying(cfg, True)), 10)
    assert str(error.value).startswith(f"A data-loader worker died at image '{image(files, 12)}': ")


def test_a_worker_without_shared_memory_is_told_what_to_do():
    def loader():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is …")
        yield

    with pytest.raises(DataError, match=r"found no room in /dev/shm .*--shm-size.*NUM_WORKERS"):
        list(WatchedLoader(loader(), WorkerNotes(0), 1))


def test_other_errors_of_the_main_process_stay_what_they_are():
    def loader():
        raise RuntimeError("mat1 and mat2 cannot be multiplied")
        yield

    with pytest.raises(RuntimeError, match=r"^mat1"):
        list(WatchedLoader(loader(), WorkerNotes(0), 1))


def test_a_cache_needs_shared_memory_for_workers_alone(tmp_path, monkeypatch):
    # 64 kB, less than the 64 x 64 x 3 bytes of each of 10 images.
    monkeypatch.setattr("maskrcnn_repro.data.cached_images.free_shared_memory", lambda: 64 * 1024)
    _, folder = write_tiny_coco(tmp_path)
    file = str(next(folder.iterdir()))
    records = [
        {"file_name": f"{folder}/./{'./' * n}{Path(file).name}", "height": 64, "width": 64}
        for n in range(10)
    ]
    assert CachedImages(records, "BGR")[records[9]["file_name"]].shape == (64, 64, 3)
    with pytest.raises(ConfigError, match=r"needs 0 MB in /dev/shm for the 2 workers, .*shm-size"):
        CachedImages(records, "BGR", workers=2)


def test_workers_without_any_shared_memory_are_refused(monkeypatch):
    monkeypatch.setattr("maskrcnn_repro.data.worker_notes.free_shared_memory", lambda: 64 * 1024)
    assert WorkerNotes(0).workers == 0
    with pytest.raises(
        ConfigError, match=r"NUM_WORKERS 2 needs room in /dev/shm, of which 0\.1 MB"
    ):
        WorkerNotes(2)
