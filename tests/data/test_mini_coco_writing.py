"""Names and files of the generated data: written on first use, safe to write at once."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace

from maskrcnn_repro.data.synthetic import writing
from maskrcnn_repro.data.synthetic.dataset import SPLITS, GeneratedSet
from maskrcnn_repro.data.synthetic.mini_coco import MINI_COCO
from maskrcnn_repro.data.synthetic.mini_coco.shapes import SHAPES
from maskrcnn_repro.data.synthetic.writing import cache_root, digest
from maskrcnn_repro.errors import DataError

import portalocker
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.helpers.mini_coco_images import open_image

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the test forks"
)


# --- names


def test_names_are_registered_and_nothing_is_written():
    for seed in (0, 1):
        for split in SPLITS:
            metadata = MetadataCatalog.get(MINI_COCO.dataset_name(split, seed))
            assert metadata.name in DatasetCatalog
            assert metadata.evaluator_type == "coco"
            assert metadata.thing_classes == sorted(SHAPES)
    assert MINI_COCO.dataset_name("val") == "mini_coco_val"
    assert MINI_COCO.dataset_name("train", 5) == "mini_coco_seed5_train"


def test_first_loading_writes_the_json(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_REPRO_CACHE", str(tmp_path))
    monkeypatch.setitem(SPLITS, "train", 3)
    monkeypatch.setitem(SPLITS, "val", 2)
    MINI_COCO.register(977)
    MINI_COCO.register(977)  # a second time changes nothing
    metadata = MetadataCatalog.get("mini_coco_seed977_val")
    assert not any(tmp_path.iterdir())
    dicts = DatasetCatalog.get("mini_coco_seed977_val")
    assert [os.path.isfile(d["file_name"]) for d in dicts] == [True, True]
    assert os.path.isfile(metadata.json_file)
    assert metadata.image_root == os.path.dirname(dicts[0]["file_name"])
    for split in SPLITS:
        DatasetCatalog.remove(MINI_COCO.dataset_name(split, 977))
        MetadataCatalog.remove(MINI_COCO.dataset_name(split, 977))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MASKRCNN_REPRO_CACHE": "a", "DETECTRON2_DATASETS": "b"}, "a"),
        ({"DETECTRON2_DATASETS": "b", "XDG_CACHE_HOME": "c"}, "b"),
        ({"XDG_CACHE_HOME": "c"}, os.path.join("c", "maskrcnn_repro")),
    ],
)
def test_cache_folder_follows_the_variables(monkeypatch, variables, expected):
    for name in ("MASKRCNN_REPRO_CACHE", "DETECTRON2_DATASETS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(cache_root()) == expected


def test_cache_folder_without_variables_is_the_users(monkeypatch):
    for name in ("MASKRCNN_REPRO_CACHE", "DETECTRON2_DATASETS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cache_root().is_relative_to(os.path.expanduser("~"))


# --- writing


@needs_fork
def test_many_processes_at_once_write_once(tmp_path, monkeypatch):
    log = tmp_path / "log"
    draw_all = GeneratedSet._draw_all

    def slowly(data, images, contents):
        with log.open("a") as file:
            file.write("written\n")
        time.sleep(0.3)
        return draw_all(data, images, contents)

    monkeypatch.setattr(GeneratedSet, "_draw_all", slowly)
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=MINI_COCO.generate, args=(tmp_path, "val", 0, 4), daemon=True)
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert log.read_text() == "written\n"
    monkeypatch.undo()
    data = MINI_COCO.generate(tmp_path, "val", 0, 4)
    assert len(list((data / "images").iterdir())) == 4
    assert not list(data.parent.glob("*.tmp-*"))


def test_a_set_that_another_process_keeps_writing_is_no_broken_folder(tmp_path, monkeypatch):
    target = MINI_COCO.folder(tmp_path, "val", 0, 2)
    target.parent.mkdir(parents=True)
    monkeypatch.setattr(writing, "PATIENCE", 0.1)
    with (
        portalocker.Lock(target.with_name(f"{target.name}.lock")),
        pytest.raises(DataError, match=r"still written by another process") as caught,
    ):
        MINI_COCO.generate(tmp_path, "val", 0, 2)
    assert "MASKRCNN_REPRO_CACHE" not in str(caught.value)
    assert MINI_COCO.generate(tmp_path, "val", 0, 2) == target


@needs_fork
def test_killed_writer_leaves_nothing_behind(tmp_path, monkeypatch):
    def die_half_way(data, images, contents):
        (images / "000001.png").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(GeneratedSet, "_draw_all", die_half_way)
        writer = multiprocessing.get_context("fork").Process(
            target=MINI_COCO.generate, args=(tmp_path, "val", 0, 2)
        )
        writer.start()
        writer.join(30)
    assert writer.exitcode == -signal.SIGKILL
    target = MINI_COCO.folder(tmp_path, "val", 0, 2)
    assert not target.exists()
    assert len(list(target.parent.glob("*.tmp-*"))) == 1
    assert MINI_COCO.generate(tmp_path, "val", 0, 2) == target
    assert open_image(target).ndim == 3
    assert not list(target.parent.glob("*.tmp-*"))


def test_folder_without_the_right_marker_is_written_again(tmp_path):
    data = MINI_COCO.generate(tmp_path, "val", 0, 1)
    expected = digest(data)
    (data / "complete.json").write_text('{"version":0}')
    (data / "instances.json").write_text("{}")
    assert digest(MINI_COCO.generate(tmp_path, "val", 0, 1)) == expected


def test_complete_set_is_not_touched(tmp_path):
    data = MINI_COCO.generate(tmp_path, "val", 0, 1)
    before = (data / "instances.json").stat().st_mtime_ns
    MINI_COCO.generate(tmp_path, "val", 0, 1)
    assert (data / "instances.json").stat().st_mtime_ns == before


def test_new_version_gets_a_new_folder(tmp_path):
    old = MINI_COCO.generate(tmp_path, "val", 0, 1)
    new = replace(MINI_COCO, version=MINI_COCO.version + 1).generate(tmp_path, "val", 0, 1)
    assert new != old
    assert old.is_dir()


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(
        DataError, match=r"Split 'vall' is not one of train, val\. Did you mean 'val'"
    ):
        MINI_COCO.generate(tmp_path, "vall")
    with pytest.raises(DataError, match=r"Seed -1 has to be >= 0"):
        MINI_COCO.generate(tmp_path, "val", -1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to .*set MASKRCNN_REPRO_CACHE"):
        MINI_COCO.generate(tmp_path / "file", "val", 0, 1)
