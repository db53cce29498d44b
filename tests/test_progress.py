"""Progress: the line, how often it comes, and a terminal."""

import io

from maskrcnn_repro.utils import progress
from maskrcnn_repro.utils.progress import Progress, clock

import pytest


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def time(monkeypatch):
    """Seconds that pass when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_counts_rate_and_time_left(time):
    bar = Progress("images", 100, io.StringIO())
    time[0] += 4
    bar.step(10)
    # 2.5 a second, 90 to go.
    assert bar.line() == "10 of 100 images, 2.5 images/s, 0:36 left"
    assert Progress("frames", None, io.StringIO()).line().startswith("0 frames, 0 frames/s")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.7, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_durations(seconds, text):
    assert clock(seconds) == text


def test_a_line_now_and_then_where_there_is_no_terminal(time):
    stream = io.StringIO()
    bar = Progress("images", 60, stream)
    for _ in range(60):
        time[0] += 1
        bar.step()
    assert len(stream.getvalue().splitlines()) == 4
    assert "\r" not in stream.getvalue()


def test_one_line_on_a_terminal_that_gives_way_to_what_is_said(time):
    stream = Terminal()
    bar = Progress("images", 2, stream)
    time[0] += 1
    bar.step()
    bar.say("Skipped: x")
    line, rest = stream.getvalue().removeprefix("\r").split("\r", 1)
    assert line == "1 of 2 images, 1 images/s, 0:01 left"
    assert rest == " " * len(line) + "\rSkipped: x\n"
