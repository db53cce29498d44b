"""A reader's answer to a damaged file, in a process of its own: accepted, refused in a sentence, or a failure.

``FUZZ_SCALE=20 pytest -m slow tests/fuzz`` tries twenty times as many files, others each time.
"""

import json
import os
import signal
import sys
import traceback
import unicodedata
from collections import Counter
from pathlib import Path

from maskrcnn_repro.errors import UserError

import pytest

from tests.helpers.malicious_files import RAN

hypothesis = pytest.importorskip("hypothesis")
resource = pytest.importorskip("resource", reason="only Unix limits a process")

SCALE = float(os.environ.get("FUZZ_SCALE", "1"))
MEMORY = 1 << 30
"""Bytes of addresses that a reader may take beyond those that its process begins with."""
SECONDS = 10
"""Of a processor, that a reader may take for a small file."""
LENGTH = 2000
"""Characters that a sentence may have, the path of its file apart."""
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.",
    "socket.",
    "ctypes.dlopen",
)
"""Beginnings of the names of audit events that no file may cause."""


def fuzz(examples):
    """Settings of a test: so many files, the same each time, as quick as the machine is."""
    checks = hypothesis.HealthCheck
    return hypothesis.settings(
        max_examples=max(1, int(examples * SCALE)),
        derandomize=SCALE == 1,
        database=None,
        deadline=None,
        suppress_health_check=[
            *(
                checks.function_scoped_fixture,
                checks.too_slow,
                checks.data_too_large,
                checks.filter_too_much,
            )
        ],
    )


def try_files(read, path, sound, contents, examples, places=()):
    """Write files of one name, one after the other, and have each read by :class:`Reader`.

    Args:
        read: takes the path.
        path: of the file.
        sound: contents that must be accepted.
        contents: strategy for others.
        examples: how many of these.
        places: see :meth:`Reader.check`.
    """
    counts = Counter()
    with Reader(read) as reader:
        for content in sound:
            path.write_bytes(content)
            assert reader.check(path) is None

        @fuzz(examples)
        @hypothesis.given(contents)
        def run(content):
            path.write_bytes(content)
            refusal = reader.check(path, places)
            counts["refused" if refusal else "accepted"] += 1
            assert not (path.parent / RAN).exists(), "the file ran code"

        run()
    print(path.name, dict(counts))


class Reader:
    """Calls a function with paths, one after the other, in a process that is begun anew when it dies.

    Args:
        read: asserts that what it accepts is sane; that, and every exception but a user's error, fails the test.
    """

    def __init__(self, read):
        self.read = read
        self.child = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child:
            self.requests.close()
            self.answers.close()
            os.waitpid(self.child, 0)
            self.child = None

    def check(self, path, places=()):
        """Return the sentence of the user's error; None if the file is accepted.

        Args:
            path: of the file.
            places: of which the sentence names one; by default the file's name.
        """
        if not self.child:
            self._begin()
        self.requests.write(f"{path}\n")
        self.requests.flush()
        answer = self.answers.readline()
        if not answer:
            status = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
            self.child = None
            late = -status in (signal.SIGALRM, signal.SIGPROF)
            raise AssertionError("it takes too long" if late else f"the process died, {status}")
        kind, text = json.loads(answer)
        assert kind != "failure", text
        if kind == "accepted":
            return None
        _check_sentence(text, Path(path), places or [path.name])
        return text

    def _begin(self):
        receive_request, send_request = os.pipe()
        receive_answer, send_answer = os.pipe()
        self.child = os.fork()
        if not self.child:
            try:
                os.close(send_request)
                _serve(self.read, os.fdopen(receive_request), os.fdopen(send_answer, "w"))
            finally:
                os._exit(1)
        os.close(receive_request)
        os.close(send_answer)
        self.requests, self.answers = os.fdopen(send_request, "w"), os.fdopen(receive_answer)


def _serve(read, requests, answers):
    _confine()
    for line in requests:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(10 * SECONDS)  # of the clock: it may also wait
        answers.write(json.dumps(_answer(read, Path(line[:-1]))) + "\n")
        answers.flush()
    os._exit(0)


def _answer(read, path):
    try:
        read(path)
    except UserError as error:
        return "refused", str(error)
    except BaseException:  # noqa: BLE001, all others fail the test
        return "failure", traceback.format_exc()[-6000:]
    return "accepted", ""


def _confine():
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.setrecursionlimit(1000)
    limit = _addresses() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    sys.addaudithook(_forbid)


def _addresses():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _forbid(event, arguments):
    if event.startswith(FORBIDDEN) and arguments[:1] != ("git",):  # tells the commit of the code
        raise AssertionError(f"a file made this process do {event} {arguments!r}"[:500])


def _check_sentence(text, path, places):
    assert any(place in text for place in places), f"names none of {places}: {text[:500]}"
    assert len(text) - len(str(path)) < LENGTH, f"{len(text)} characters: {text[:500]}"
    controls = [c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")]
    assert not controls, f"{controls} in {text[:500]!r}"
