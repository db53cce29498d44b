"""When a training counts as stalled, and what is said of its processes."""

import os
import threading
from types import SimpleNamespace

from maskrcnn_repro.engine.phase_record import SIZE, PhaseRecord, State
from maskrcnn_repro.engine.phases import Phase, Phases
from maskrcnn_repro.engine.stall import Idleness, Peer, allowed_seconds, watch_stalls

import pytest
import torch
from torch import nn


def test_idle_seconds_count_from_the_last_change():
    idleness = Idleness(2.0)
    looks = [("a", 100.0), ("a", 102.0), ("a", 104.0), ("b", 106.0), ("b", 107.0)]
    assert [idleness.look(*look) for look in looks] == [0.0, 2.0, 4.0, 0.0, 1.0]


def test_a_sleep_of_the_whole_computer_counts_as_two_looks():
    idleness = Idleness(2.0)
    assert [idleness.look("a", now) for now in (0.0, 2.0, 9000.0)] == [0.0, 2.0, 6.0]


def state(phase, steps=100):
    return State(phase, steps=steps)


@pytest.mark.parametrize(
    ("states", "stopped", "seconds"),
    [
        ([state(Phase.DATA), state(Phase.BACKWARD)], False, 60.0),
        ([state(Phase.DATA), state(Phase.BACKWARD, steps=4)], False, 600.0),
        ([state(Phase.SAVE), state(Phase.BACKWARD)], False, float("inf")),
        ([state(Phase.STEP_END), state(Phase.EVALUATION)], False, float("inf")),
        ([state(Phase.START)], False, float("inf")),
        ([state(Phase.EVALUATION), state(Phase.EVALUATION)], True, 60.0),
    ],
)
def test_how_long_a_phase_may_take(states, stopped, seconds):
    assert allowed_seconds(states, 60.0, stopped=stopped) == seconds


class Model(nn.Linear):
    def forward(self, batch):
        return super().forward(torch.ones(1, 1))


def test_a_step_goes_through_its_phases_with_the_images_of_its_batch():
    model = Model(1, 1)
    phases, seen = Phases(model), []
    phases.changed = lambda: seen.append((phases.phase.value, list(phases.images)))
    phases.before_step()
    model([{"image_id": 7}, {"file_name": "b.png"}, {}])
    phases.after_backward()
    phases.after_step()
    images = ["7", "b.png", "?"]
    assert seen == [
        ("data", []),
        *((phase, images) for phase in ("forward", "backward", "update", "end of the step")),
    ]
    assert phases.steps == 1


def test_batches_of_an_evaluation_are_progress_of_the_evaluation():
    model = Model(1, 1).eval()
    phases, seen = Phases(model), []
    phases.enter(Phase.EVALUATION)
    phases.changed = lambda: seen.append((phases.phase, list(phases.images)))
    model([{"image_id": 7}])
    assert seen == [(Phase.EVALUATION, ["7"])] * 2


def test_a_record_is_seen_by_peers_and_has_a_fixed_size(tmp_path):
    record = PhaseRecord(tmp_path / "rank0.json")
    peer = PhaseRecord.of_peer(tmp_path / "rank0.json")
    assert peer.read() == State(Phase.START, 0, 0, ())
    for images in (["7", 'a "b".png'], [f"{i}" * 999 for i in range(10)], []):
        record.write(State(Phase.UPDATE, 12, 3, images))
        seen = peer.read()
        assert seen[:3] == (Phase.UPDATE, 12, 3)
        assert seen.images == (images if len(images) < 10 else ["10 with long names"])
        assert (tmp_path / "rank0.json").stat().st_size == SIZE


def test_a_line_says_what_a_process_did_last():
    peer = Peer(0, os.getpid(), "")
    expected = f"Process 0 (pid {os.getpid()}): update, iteration 12, images 7, 8"
    assert peer.describe(State(Phase.UPDATE, 12, 3, ["7", "8"])) == expected
    assert peer.describe(State(Phase.DATA)).endswith("data, iteration 0, after images none")


def test_a_process_alone_writes_no_phases_to_disk(tmp_path):
    phases = Phases(Model(1, 1))
    phases.trainer = SimpleNamespace(iter=12)
    with watch_stalls(phases, tmp_path, 60):
        phases.enter(Phase.UPDATE)
        assert [file.name for file in tmp_path.rglob("*.*")] == ["rank0.stacks.txt"]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_watched_without_seconds(tmp_path):
    before = threading.active_count()
    with watch_stalls(Phases(Model(1, 1)), tmp_path, 0):
        assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []
