"""Files that are written whole, and what is no file at all."""

import os
import signal
import stat

from maskrcnn_repro.checkpoint.folder import CheckpointFolder
from maskrcnn_repro.checkpoint.weight_file import read_content, read_weights
from maskrcnn_repro.config import get_config
from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.records import parse
from maskrcnn_repro.data.image_file import ImageError, image_header
from maskrcnn_repro.engine.resume import refuse_other_classes
from maskrcnn_repro.errors import CheckpointError, Ended, OutputError
from maskrcnn_repro.utils.files import replaced, write_text

import numpy as np
import pytest
import torch

from tests.helpers.weight_files import pickled


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_no_file_takes_the_place_of_a_pipe_or_a_device(pipe):
    link = pipe.with_name("link.json")
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(OutputError, match="it is a pipe or a device; name a file"):
            write_text(path, "a")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()


def test_a_link_to_a_file_is_replaced_and_the_file_stays(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").symlink_to("a")
    write_text(tmp_path / "b", "b")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]


def test_a_pipe_is_not_waited_for(pipe):
    with pytest.raises(ImageError, match="it is a pipe or a device"):
        image_header(pipe)
    with pytest.raises(CheckpointError, match="it is a pipe or a device"):
        read_content(pipe)
    pipe.with_name("last_checkpoint").hardlink_to(pipe)
    assert CheckpointFolder(pipe.parent, read_content).hint() is None
    findings = Findings(pipe)
    assert parse(pipe, findings) is None
    assert "it is a pipe or a device" in findings.sentence("file-unreadable")


def test_a_pickle_of_a_model_zoo_can_be_evaluated(tmp_path):
    path = pickled({"a": np.zeros(2, np.float32)}, tmp_path / "a.pkl")
    refuse_other_classes(get_config(), str(path))
    with pytest.raises(CheckpointError, match=r"which MODEL\.WEIGHTS takes as it is"):
        read_content(path)


@pytest.mark.parametrize("ending", [".pkl", ".safetensors"])
def test_weights_under_another_ending(tmp_path, ending):
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / f"a{ending}")
    with pytest.raises(CheckpointError, match=r"file of torch\.save; let its name end in \.pth"):
        read_weights(tmp_path / f"a{ending}")


def test_a_lone_tensor_is_no_weights(tmp_path):
    torch.save(torch.zeros(2), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="it holds a tensor, no dict"):
        read_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_beside(tmp_path, number):
    former = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(Ended) as ended, replaced(tmp_path / "a") as beside:  # noqa: PT012 - all of it
            beside.write_text("half")
            os.kill(os.getpid(), number)
        assert ended.value.code == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, former)
    assert not list(tmp_path.iterdir())
