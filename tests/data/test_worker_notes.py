"""The note of the image that a data-loader worker is on is kept, whatever the file's name."""

import os

from maskrcnn_repro.data import worker_notes
from maskrcnn_repro.data.worker_notes import WIDTH, WorkerNotes

import pytest


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("a.jpg", "a.jpg"),
        # A byte that is no UTF-8, as Python gives it.
        ("f\udcff.jpg", "f\ufffd.jpg"),
        # Two bytes a character: the cut may fall within one.
        ("é" * WIDTH + ".jpg", None),
    ],
)
def test_any_name_is_noted(name, note, monkeypatch):
    worker = type("Worker", (), {"id": 0})
    monkeypatch.setattr(worker_notes, "get_worker_info", lambda: worker)
    notes = WorkerNotes(1)
    notes.write(name)
    (read,) = notes.read([os.getpid()])
    assert read == note if note else read.endswith("éé.jpg")
