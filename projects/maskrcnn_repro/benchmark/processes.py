"""Child processes of the benchmarks, which import the same copy of this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from maskrcnn_repro._location import SEARCH_PATH
from maskrcnn_repro.errors import UserError

T = TypeVar("T")


class BenchmarkError(UserError):
    """A benchmark cannot be run as asked, a process of it failed, or the results compared differ."""


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with further variables, for a child process.

    This copy of the package comes first on the child's search path, and warnings are silenced.
    """
    path = [str(SEARCH_PATH), os.environ.get("PYTHONPATH", "")]
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONWARNINGS": "ignore"}
    return os.environ | settings | variables


def run_module(module: str, *arguments: object, **variables: str) -> Any:
    """Run a module in a process of its own and return what it prints as JSON.

    Args:
        module: run by ``python -m``.
        *arguments: of its command line.
        **variables: see :func:`environment`.

    Raises:
        BenchmarkError: the process failed.
    """
    process = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode:
        raise BenchmarkError(
            f"The process of {module} ended with status {process.returncode}; see above."
        )
    return json.loads(process.stdout)


@dataclass
class Child:
    """A running worker process, which answers each line of JSON with one."""

    name: str
    process: subprocess.Popen[str]

    def ask(self, request: Any) -> Any:
        """Send a request and return the answer.

        Raises:
            BenchmarkError: the worker has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            status = self.process.wait()
            raise BenchmarkError(f"The {self.name} worker ended with status {status}; see above.")
        return json.loads(answer)


def check_python(python: str) -> None:
    """Raise BenchmarkError unless a Python can be started."""
    with _starting(python):
        subprocess.run([python, "-c", ""], capture_output=True, check=False)


@contextmanager
def _starting(python: str) -> Iterator[None]:
    """Turn the error of a program that cannot be started into a BenchmarkError."""
    try:
        yield
    except OSError as error:
        raise BenchmarkError(f"Cannot start {python}: {error.strerror}.") from error


@contextmanager
def start_worker(name: str, python: str, module: str, **variables: str) -> Iterator[Child]:
    """Run a worker within the block.

    Args:
        name: in error messages.
        python: to run it with.
        module: of the worker.
        **variables: see :func:`environment`.

    Raises:
        BenchmarkError: there is no such Python.
    """
    pipe = subprocess.PIPE
    with _starting(python):
        process = subprocess.Popen(
            [python, "-m", module], env=environment(**variables), stdin=pipe, stdout=pipe, text=True
        )
    try:
        yield Child(name, process)
    finally:
        process.kill()
        process.communicate()  # closes the pipes and waits for the end


def rotate(children: Sequence[T], turn: int) -> list[T]:
    """Return the children rotated by ``turn``, so that each is first, middle and last equally often."""
    start = turn % len(children)
    return [*children[start:], *children[:start]]
