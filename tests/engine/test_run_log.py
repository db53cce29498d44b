"""Logs of a resumed training: what they say of later iterations is cut off."""

import json

from maskrcnn_repro.engine.run_log import cut_back

import pytest
from torch.utils.tensorboard import SummaryWriter


def lines(*entries):
    return "".join(json.dumps(entry) + "\n" for entry in entries)


TRAINING = [{"iteration": i, "total_loss": 1.0} for i in (19, 39, 59)]
EVALUATION = {"iteration": 40, "segm/AP": 3.0}


@pytest.mark.parametrize(
    ("first", "repeats", "left"),
    [
        (60, False, [*TRAINING[:2], EVALUATION, TRAINING[2]]),
        (40, False, [*TRAINING[:2], EVALUATION]),
        (40, True, TRAINING[:2]),
        (39, False, TRAINING[:1]),
        (0, False, []),
    ],
)
def test_the_log_of_numbers_is_cut_back(tmp_path, first, repeats, left):
    file = tmp_path / "metrics.json"
    file.write_text(lines(*TRAINING[:2], EVALUATION, TRAINING[2]) + '{"iterat')
    cut_back(tmp_path, first, repeats=repeats)
    assert file.read_text() == lines(*left)


def test_events_are_cut_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with SummaryWriter(str(tmp_path)) as writer:
        for step in (19, 39, 59):
            writer.add_scalar("loss", step, step)
    (file,) = tmp_path.glob("events*")
    with file.open("ab") as stream:
        stream.write(b"\x07broken")
    cut_back(tmp_path, 40, repeats=False)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [19, 39]
    size = file.stat().st_size
    cut_back(tmp_path, 40, repeats=False)
    assert file.stat().st_size == size
    cut_back(tmp_path, 0, repeats=False)
    assert 0 < file.stat().st_size < size
