"""What stands in the way of a run's files is told before anything is trained."""

import os

from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.places import check_places
from maskrcnn_repro.errors import OutputError

import pytest

from tests.helpers.tiny_coco import command_line, write_tiny_coco

FILES = [
    *("log.txt", "config.yaml", "metrics.json", "results.json", "predictions.png", "best.json"),
    *("last_checkpoint", "model_final.pth", "model_0000002.pth", "events.out.tfevents.1.a.2.0"),
    *("inference/tiny/coco_instances_results.json", "inference/tiny/box_proposals.pkl"),
]
FOLDERS = ["inference", "inference/tiny", "processes"]


@pytest.fixture
def cfg(tmp_path):
    opts = ["OUTPUT_DIR", str(tmp_path / "run"), "DATASETS.TEST", "('tiny',)"]
    return load_config("configs/mini/mask_rcnn_fpn.yaml", opts)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", FILES)
def test_a_folder_or_a_pipe_in_the_place_of_a_file(cfg, tmp_path, name, make):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    check_places(cfg, tmp_path / "run", training=True)
    make(path)
    kind = "a folder" if make is os.mkdir else "a pipe or a device"
    with pytest.raises(OutputError, match=rf"{name} is {kind}, where the run writes a file: move"):
        check_places(cfg, tmp_path / "run", training=True)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_the_place_of_a_folder(cfg, tmp_path, name):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text("")
    with pytest.raises(OutputError, match=rf"{name} is a file, where the run writes a folder: "):
        check_places(cfg, tmp_path / "run", training=True)


def test_what_a_run_does_not_write_may_be_anything(cfg, tmp_path):
    (tmp_path / "run/inference/metrics.json").mkdir(parents=True)
    (tmp_path / "run/notes").mkdir()
    check_places(cfg, tmp_path / "run/inference", training=False)


@pytest.mark.parametrize("name", ["metrics.json", ".lock"])
def test_a_pipe_is_one_sentence_and_nothing_is_waited_for(tmp_path, capsys, name):
    data = write_tiny_coco(tmp_path / "data")
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / name)
    assert main(command_line(data, tmp_path / "run")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert "choose another" in line
