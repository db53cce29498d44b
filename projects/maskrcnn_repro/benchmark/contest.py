"""Contestants that are timed in turns, each in a process of its own."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from maskrcnn_repro._backend import VARIABLE
from maskrcnn_repro.benchmark.processes import rotate, start_worker
from maskrcnn_repro.benchmark.report import grid

import numpy as np
from tqdm import tqdm


@dataclass(frozen=True)
class Contestant:
    """A process that takes part."""

    name: str
    python: str
    installed: bool = False
    """Whether it runs on an installed Detectron2."""


class Contest:
    """The processes of contestants, all of one module; a context.

    Args:
        module: of the workers, which answers as :func:`maskrcnn_repro.benchmark.worker.serve` does.
        contestants: ours first.
        task: of all; ``contestant`` is added to it.
        threads: of each process.
        **variables: of its environment.
    """

    def __init__(
        self,
        module: str,
        contestants: Sequence[Contestant],
        task: Mapping[str, Any],
        threads: int = 1,
        **variables: str,
    ) -> None:
        self.module, self.contestants, self.task = module, contestants, dict(task)
        self.variables = {"OMP_NUM_THREADS": str(threads), **variables}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the processes and let each describe itself."""
        with ExitStack() as stack:
            self.children = [stack.enter_context(self._start(each)) for each in self.contestants]
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

    def _start(self, each: Contestant) -> Any:
        variables = self.variables | ({VARIABLE: "installed"} if each.installed else {})
        return start_worker(each.name, each.python, self.module, **variables)

    def ask(self, request: str) -> dict[str, Any]:
        """Return the answer of each contestant."""
        return {child.name: child.ask(request) for child in self.children}

    def answers(self, request: str, rounds: int, label: str = "") -> dict[str, list[Any]]:
        """Return the answers of each contestant, round after round; in each round another one begins.

        Args:
            request: asked in each round.
            rounds: their number.
            label: of the progress; by default the request.
        """
        answers: dict[str, list[Any]] = {child.name: [] for child in self.children}
        for turn in tqdm(range(rounds), desc=label or request, unit="round"):
            for child in rotate(self.children, turn):
                answers[child.name].append(child.ask(request))
        return answers

    def timed(
        self, request: str, rounds: int, *, label: str = "", against: str = ""
    ) -> dict[str, dict[str, Any]]:
        """Return, for each contestant, the summary of its times against those of one, and its peak memory.

        Args:
            request: answered by seconds.
            rounds: after a first one, which warms up.
            label: of the progress; by default the request.
            against: name of the contestant to compare with; by default the first.
        """
        answers = self.answers(request, rounds + 1, label)
        seconds = {name: times[1:] for name, times in answers.items()}
        peaks = self.ask("peak_memory")
        reference = seconds[against or self.children[0].name]
        return {
            name: {
                "peak_memory": float(peaks[name]),
                "origin": self.facts[name].get("origin"),
                **summary(times, reference),
            }
            for name, times in seconds.items()
        }


def summary(seconds: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """Return median and 95th percentile of timings, and of the ratios of the rounds median and quartiles."""
    ratios = [theirs / own for theirs, own in zip(seconds, ours, strict=True)]
    low, middle, high = np.percentile(ratios, [25, 50, 75]).tolist()
    return {
        "median_seconds": statistics.median(seconds),
        "p95_seconds": float(np.percentile(seconds, 95)),
        "ratio": {"value": middle, "low": low, "high": high},
        "seconds": list(seconds),
    }


def interval(ratio: Mapping[str, float]) -> str:
    """Return a ratio of :func:`summary` as text: median and quartiles."""
    return "{value:.2f} [{low:.2f}, {high:.2f}]".format(**ratio)


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
            interval(result["ratio"]),
            f"{result['peak_memory'] / 2**20:.0f} MiB",
        ]
        for name, result in results.items()
    ]
    return grid(rows, ["", "median", f"{unit}/s", "ratio [quartiles]", "peak memory"])
