"""Contestants that are timed in turns, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from maskrcnn_repro._backend import VARIABLE
from maskrcnn_repro.benchmark.inference import summary
from maskrcnn_repro.benchmark.processes import BenchmarkError, Child, rotated, started
from maskrcnn_repro.benchmark.report import grid

from tqdm import tqdm

MIN_ROUNDS = 2


@dataclass(frozen=True)
class Contestant:
    """A process that takes part."""

    name: str
    python: str
    installed: bool = False
    """Whether it runs on an installed Detectron2."""


def check_rounds(rounds: int) -> None:
    """Raise BenchmarkError if quartiles of so few rounds say nothing."""
    if rounds < MIN_ROUNDS:
        raise BenchmarkError(f"--rounds is {rounds}; it must be at least {MIN_ROUNDS}.")


class Contest:
    """The processes of contestants, all of one module; a context.

    Args:
        module: of the workers, which answers as :func:`maskrcnn_repro.benchmark.worker.serve` does.
        contestants: ours first.
        task: of all; ``contestant`` is added to it.
        threads: of each process.
    """

    def __init__(
        self,
        module: str,
        contestants: Sequence[Contestant],
        task: Mapping[str, Any],
        threads: int = 1,
    ) -> None:
        self.module, self.contestants, self.task = module, contestants, dict(task)
        self.threads = str(threads)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the processes and let each describe itself."""
        with ExitStack() as stack:
            self.children = [stack.enter_context(self._started(each)) for each in self.contestants]
            # All start at once, then each is waited for.
            self.facts: dict[str, dict[str, Any]] = {
                child.name: child.ask({**self.task, "contestant": child.name})
                for child in self.children
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes."""
        self._stack.close()

    def _started(self, each: Contestant) -> Any:
        variables = {"OMP_NUM_THREADS": self.threads}
        variables |= {VARIABLE: "installed"} if each.installed else {}
        return started(each.name, each.python, self.module, **variables)

    def timed(self, request: str, rounds: int) -> dict[str, dict[str, Any]]:
        """Return, for each contestant, the summary of its times against those of the first, and its peak memory.

        Args:
            request: answered by seconds.
            rounds: after a first one, which warms up.
        """
        seconds: dict[str, list[float]] = {child.name: [] for child in self.children}
        for turn in tqdm(range(rounds + 1), desc=request, unit="round"):
            for child in rotated(self.children, turn):
                duration = child.ask(request)
                if turn:
                    seconds[child.name].append(duration)
        first = seconds[self.children[0].name]
        return {
            child.name: {
                "peak_memory": _peak(child),
                "origin": self.facts[child.name].get("origin"),
                **summary(seconds[child.name], first),
            }
            for child in self.children
        }


def _peak(child: Child) -> float:
    return float(child.ask("peak_memory"))


def table(results: Mapping[str, Mapping[str, Any]], count: int, unit: str) -> str:
    """Return a text table with a line per contestant.

    Args:
        results: of :meth:`Contest.timed`.
        count: of what is done in the time of a round.
        unit: its name, in the plural.
    """
    rows = [
        [
            name,
            f"{result['median_seconds']:.3f} s",
            f"{count / result['median_seconds']:.1f}",
            "{value:.2f} [{low:.2f}, {high:.2f}]".format(**result["ratio"]),
            f"{result['peak_memory'] / 2**20:.0f} MiB",
        ]
        for name, result in results.items()
    ]
    return grid(rows, ["", "median", f"{unit}/s", "ratio [quartiles]", "peak memory"])
