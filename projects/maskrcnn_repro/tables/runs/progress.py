"""The console output of a running plan, and the estimate of the time left."""

from __future__ import annotations

import datetime
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from maskrcnn_repro.cluster.job import Job
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.evaluation.table import summary
from maskrcnn_repro.tables.runs.plan import Plan
from maskrcnn_repro.tables.runs.processes import parse_progress
from maskrcnn_repro.tables.runs.records import State, Status, read_record
from maskrcnn_repro.tables.runs.retrained import compare_weights, kept_folders
from maskrcnn_repro.tables.runs.runner import Failure
from maskrcnn_repro.tables.runs.stage import EvaluationStage, Stage, StoreStage, shell_command

from tqdm import tqdm

LINE_SECONDS = 60.0
"""Between two lines of progress where the output is no terminal."""
REDRAW_SECONDS = 1.0


class Costs:
    """Estimates of how long stages take.

    The mean of what the stage or other seeds of it took, otherwise the mean of similar stages at this level. Where
    none has run here: the estimate of a similar stage that is running, otherwise the records in ``results/``,
    which are from another machine.

    Args:
        plan: the stages; times of earlier runs are read from the results in their folders.
    """

    def __init__(self, plan: Plan) -> None:
        self._measured: dict[str, list[float]] = {}
        self._estimated: dict[str, list[float]] = {}
        self._archived: dict[str, list[float]] = {}
        for stage in plan.stages:
            for seconds in _measured_seconds(stage, plan.statuses[stage.key]):
                self.add(stage, seconds)
            if not isinstance(stage, StoreStage):
                self._archived[_groups(stage)[0]] = _seconds(_archived_records(stage))

    def add(self, stage: Stage, seconds: float) -> None:
        """Add the time that a stage took."""
        for group in _groups(stage):
            self._measured.setdefault(group, []).append(seconds)

    def add_estimate(self, stage: Stage, seconds: float) -> None:
        """Set the time that a running stage expects; it counts as long as no similar stage is done."""
        self._estimated |= {group: [seconds] for group in _groups(stage)}

    def of(self, stage: Stage) -> float | None:
        """Return the estimate for a stage, in seconds; None if nothing is known of similar ones."""
        for times in (self._measured, self._estimated, self._archived):
            for group in _groups(stage):
                if times.get(group):
                    return statistics.fmean(times[group])
        return None


class Console:
    """A :class:`Watcher` that prints a line per event and, on a terminal, a redrawn line per child.

    Args:
        plan: the stages.
        jobs: children that run at the same time.
        out: stream to print to; by default stdout.
    """

    def __init__(self, plan: Plan, jobs: int, out: TextIO | None = None) -> None:
        self.costs = Costs(plan)
        self.jobs = jobs
        self.out = sys.stdout if out is None else out
        self.total = len(plan.missing())
        self._numbers: dict[str, int] = {}
        self._bars: list[tqdm] = []
        self._last = time.monotonic()

    def started(self, stage: Stage, console: Path) -> None:
        """Print that a stage was started, and where its output goes."""
        self._numbers[stage.key] = len(self._numbers) + 1
        self._say(f"{self._head(stage)} started; its console: {console}")

    def finished(self, stage: Stage, status: Status, seconds: float) -> None:
        """Print that a stage is done, with its main metrics, and whether it is as a kept record has it."""
        if seconds:
            self.costs.add(stage, seconds)
            how = f"done in {clock(seconds)}"
        else:
            how = "done by another run"
            self.total -= stage.key not in self._numbers
        metrics = status.record.metrics if status.record else {}
        figures = [text for tasks in metrics.values() if (text := summary(tasks))]
        self._say(" · ".join([f"{self._head(stage)} {how}", *figures]))
        if said := compare_weights(stage, status.record):
            self._say(said)

    def failed(self, failure: Failure) -> None:
        """Print that a stage failed, and why."""
        self._say(f"{self._head(failure.stage)} FAILED: {failure.reason}")

    def waiting(self, stage: Stage, holder: str) -> None:
        """Print that another process runs a stage."""
        self._say(f"{self._head(stage)} is run by another process; going on without it. {holder}")

    def tick(self, running: Sequence[tuple[Stage, Job]], left: Sequence[Stage]) -> None:
        """Redraw the lines of progress on a terminal; elsewhere print them as one line a minute."""
        now = time.monotonic()
        terminal = self.out.isatty()
        if not running or now - self._last < (REDRAW_SECONDS if terminal else LINE_SECONDS):
            return
        self._last = now
        lines, times = [], []
        for stage, child in running:
            progress, eta = parse_progress(child.tail(40))
            if eta is not None:
                self.costs.add_estimate(stage, child.seconds + eta)
            expected = self.costs.of(stage)
            # A training's own estimate leaves out the evaluation at its end.
            times.append(eta if expected is None else max(eta or 0.0, expected - child.seconds))
            lines.append(f"{self._head(stage)} {clock(child.seconds)}: {progress}")
        lines.append(
            f"all: {time_left(times, [self.costs.of(stage) for stage in left], self.jobs)} left"
        )
        if terminal:
            self._redraw(lines)
        else:
            self._say(" | ".join(lines))

    def close(self) -> None:
        """Clear the lines of progress from the terminal."""
        while self._bars:
            self._bars.pop().close()

    def _head(self, stage: Stage) -> str:
        return f"[{self._numbers.get(stage.key, '-')}/{self.total}] {stage.title}"

    def _say(self, text: str) -> None:
        # Unlike print, tqdm's writes above the redrawn lines.
        tqdm.write(f"{time.strftime('%H:%M:%S')} {text}", file=self.out)
        self.out.flush()

    def _redraw(self, lines: Sequence[str]) -> None:
        while len(self._bars) < len(lines):
            place = len(self._bars)
            self._bars.append(
                tqdm(
                    bar_format="{desc}",
                    file=self.out,
                    position=place,
                    leave=False,
                    dynamic_ncols=True,
                )
            )
        for number, bar in enumerate(self._bars):
            bar.set_description_str(lines[number] if number < len(lines) else "")


def describe(plan: Plan, jobs: int) -> str:
    """Return the text of ``--plan``: for each stage its state, estimated time, folder and command."""
    costs = Costs(plan)
    todo = {stage.key for stage in plan.missing()}
    lines = []
    for number, stage in enumerate(plan.stages, start=1):
        status = plan.statuses[stage.key]
        state = status.state.value
        if status.state is not State.DONE and stage.key not in todo:
            state += ", kept" if stage.key in plan.kept else ", not needed"
        note = f" ({status.note})" if status.note else ""
        cost = costs.of(stage)
        took = paper_cost(stage) if cost is None else f"about {clock(cost)}"
        lines += [
            f"{number:>3}  {stage.title}: {state}{note}, {took}",
            f"     {stage.folder}",
            f"     {shell_command(stage.command_line(resume=status.state is State.INTERRUPTED))}",
        ]
    about = time_left([], [costs.of(stage) for stage in plan.missing()], jobs)
    lines.append(f"{headline(plan, jobs)}: {about if todo else 'done'}.")
    return "\n".join(lines)


def headline(plan: Plan, jobs: int) -> str:
    """Return ``4 stages, 2 to run, 1 side by side``."""
    count = len(plan.stages)
    return f"{count} stage{'s' * (count != 1)}, {len(plan.missing())} to run, {jobs} side by side"


def paper_cost(stage: Stage) -> str:
    """Return what a training at the paper's sizes takes, in words; ``time unknown`` if that is not known."""
    trains = not isinstance(stage, StoreStage | EvaluationStage)
    cost = stage.experiment.cost if trains and stage.setting.level == "paper" else ""
    return cost or "time unknown"


def time_left(running: Iterable[float | None], left: Iterable[float | None], jobs: int) -> str:
    """Return the time until all stages are done: ``about 0:03:57 and 2 stages of unknown time``.

    A lower bound, the sum divided by the jobs or the longest stage: it ignores which stages wait for others.

    Args:
        running: seconds left of each running stage; None where that is unknown.
        left: seconds of each stage that has not been started.
        jobs: stages that run at the same time.
    """
    times = [*running, *left]
    seconds = [time for time in times if time is not None]
    unknown = len(times) - len(seconds)
    parts = []
    if seconds or not unknown:
        parts.append(f"about {clock(max(sum(seconds) / jobs, max(seconds, default=0.0)))}")
    if unknown:
        parts.append(f"{unknown} stage{'s' * (unknown != 1)} of unknown time")
    return " and ".join(parts)


def clock(seconds: float) -> str:
    """Return ``0:03:57``."""
    return str(datetime.timedelta(seconds=round(seconds)))


def _groups(stage: Stage) -> tuple[str, str, str]:
    """Return the names of the groups of similar stages that a stage belongs to, the most similar first."""
    experiment = stage.experiment
    step = "RPN" if experiment.is_rpn else "backbone" if experiment.is_shared else "training"
    if isinstance(stage, StoreStage):
        step = "proposals"
    elif isinstance(stage, EvaluationStage):
        step = "evaluation"
    return f"{experiment.id} {step}", f"family {experiment.family} {step}", step


def _measured_seconds(stage: Stage, status: Status) -> list[float]:
    """Return how long this stage took, or else other seeds of its experiment."""
    if status.state is State.DONE and status.seconds is not None:
        return [status.seconds]
    if isinstance(stage, StoreStage):
        return []
    name = stage.results.relative_to(stage.folder)
    return _seconds(stage.folder.parent.glob(f"seed*/{name}"))


def _archived_records(stage: Stage) -> list[Path]:
    """Return the records in ``results/`` of a stage's experiment, under its name or a former one."""
    folders = kept_folders(stage.setting, stage.experiment.id)
    return [path for folder in folders for path in folder.glob("seed*.json")]


def _seconds(files: Iterable[Path]) -> list[float]:
    """Return how long the runs of some records took; unreadable and incomplete records are left out."""
    times = []
    for path in sorted(files):
        try:
            times.append(read_record(path).seconds)
        except TableError:
            continue
    return [seconds for seconds in times if seconds is not None]
