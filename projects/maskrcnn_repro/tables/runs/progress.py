"""What a person sees while a plan runs, and how long it will still take."""

from __future__ import annotations

import datetime
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro._location import RESULTS as KEPT
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.evaluation.table import summary
from maskrcnn_repro.old_names import former_experiments
from maskrcnn_repro.tables.runs.plan import Plan
from maskrcnn_repro.tables.runs.processes import Child, last_words
from maskrcnn_repro.tables.runs.records import RESULTS, State, Status, read_record
from maskrcnn_repro.tables.runs.runner import Failure
from maskrcnn_repro.tables.runs.stage import EvaluationStage, Stage, StoreStage, shown

from tqdm import tqdm

LINE_SECONDS = 60.0
"""Between two lines on a console that cannot be redrawn, such as a file."""
REDRAW_SECONDS = 1.0


class Costs:
    """Seconds that a stage takes: what it took, or other seeds, else the mean of similar stages at this level.

    Where nothing like it has run here: what a running stage expects, else what the records kept in ``results/``
    say, which are another machine's.

    Args:
        plan: the stages; what other runs of the same experiments took is read from their results.
    """

    def __init__(self, plan: Plan) -> None:
        self._measured: dict[str, list[float]] = {}
        self._guessed: dict[str, float] = {}
        self._kept: dict[str, list[float]] = {}
        for stage in plan.stages:
            for seconds in _recorded(stage, plan.statuses[stage.key]):
                self.add(stage, seconds)
            if not isinstance(stage, StoreStage):
                self._kept[_kin(stage)[0]] = _seconds(_kept_records(stage))

    def add(self, stage: Stage, seconds: float) -> None:
        """Learn from a stage that was run."""
        for kin in _kin(stage):
            self._measured.setdefault(kin, []).append(seconds)

    def guess(self, stage: Stage, seconds: float) -> None:
        """Take what a running stage says it will take, for as long as none of its kin is done."""
        self._guessed.update(dict.fromkeys(_kin(stage), seconds))

    def of(self, stage: Stage) -> float | None:
        """Return the mean of the nearest kin that has been run, else a guess; None if there is none."""
        for times in (self._measured, {k: [v] for k, v in self._guessed.items()}, self._kept):
            for kin in _kin(stage):
                if times.get(kin):
                    return statistics.fmean(times[kin])
        return None


class Console:
    """Tells what a runner does: one line per event, and on a terminal a line per child that is redrawn.

    Args:
        plan: the stages.
        jobs: children side by side.
        out: where to.
    """

    def __init__(self, plan: Plan, jobs: int, out: TextIO = sys.stdout) -> None:
        self.costs = Costs(plan)
        self.jobs = jobs
        self.out = out
        self.total = len(plan.missing())
        self._numbers: dict[str, int] = {}
        self._bars: list[tqdm] = []
        self._last = time.monotonic()

    def started(self, stage: Stage, console: Path) -> None:
        """Say that a stage was started and where its output goes."""
        self._numbers[stage.key] = len(self._numbers) + 1
        self._say(f"{self._head(stage)} started; its console: {console}")

    def finished(self, stage: Stage, status: Status, seconds: float) -> None:
        """Say that a stage is done, with its headline numbers."""
        if seconds:
            self.costs.add(stage, seconds)
            how = f"done in {clock(seconds)}"
        else:
            how = "done by another run"
            self.total -= stage.key not in self._numbers
        metrics = status.record.metrics if status.record else {}
        figures = [text for tasks in metrics.values() if (text := summary(tasks))]
        self._say(" · ".join([f"{self._head(stage)} {how}", *figures]))

    def failed(self, failure: Failure) -> None:
        """Say that a stage failed."""
        self._say(f"{self._head(failure.stage)} FAILED: {failure.reason}")

    def waiting(self, stage: Stage, holder: str) -> None:
        """Say that another process has a stage."""
        self._say(f"{self._head(stage)} is run by another process; going on without it. {holder}")

    def tick(self, running: Sequence[tuple[Stage, Child]], left: Sequence[Stage]) -> None:
        """Redraw, or on a plain console say how things stand once a minute."""
        now = time.monotonic()
        terminal = self.out.isatty()
        if not running or now - self._last < (REDRAW_SECONDS if terminal else LINE_SECONDS):
            return
        self._last = now
        lines, needs = [], []
        for stage, child in running:
            words, own = last_words(child.tail(40))
            if own is not None:
                self.costs.guess(stage, child.seconds + own)
            expected = self.costs.of(stage)
            needs.append(own if expected is None else max(own or 0.0, expected - child.seconds))
            lines.append(f"{self._head(stage)} {clock(child.seconds)}: {words}")
        rest = remaining(needs, [self.costs.of(stage) for stage in left], self.jobs)
        time_left = "time left unknown yet" if rest is None else f"about {clock(rest)} left"
        lines.append(f"all: {time_left}")
        if terminal:
            self._redraw(lines)
        else:
            self._say(" | ".join(lines))

    def close(self) -> None:
        """Take the lines of the children off the terminal."""
        while self._bars:
            self._bars.pop().close()

    def _head(self, stage: Stage) -> str:
        return f"[{self._numbers.get(stage.key, '-')}/{self.total}] {stage.title}"

    def _say(self, text: str) -> None:
        # Between the redrawn lines, if there are any.
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
    """Return all stages in the order of running: how far each is, its cost, its folder, its command."""
    costs = Costs(plan)
    todo = {stage.key for stage in plan.missing()}
    lines = []
    for number, stage in enumerate(plan.stages, start=1):
        status = plan.statuses[stage.key]
        state = status.state.value
        if status.state is not State.DONE and stage.key not in todo:
            state += ", not needed"
        note = f" ({status.note})" if status.note else ""
        cost = costs.of(stage)
        took = paper_cost(stage) if cost is None else f"about {clock(cost)}"
        lines += [
            f"{number:>3}  {stage.title}: {state}{note}, {took}",
            f"     {stage.folder}",
            f"     {shown(stage.command_line(resume=status.state is State.INTERRUPTED))}",
        ]
    rest = remaining([], [costs.of(stage) for stage in plan.missing()], jobs)
    about = "time unknown before the first run" if rest is None else f"about {clock(rest)}"
    lines.append(f"{headline(plan, jobs)}: {about if todo else 'done'}.")
    return "\n".join(lines)


def headline(plan: Plan, jobs: int) -> str:
    """Return ``4 stages, 2 to run, 1 side by side``."""
    count = len(plan.stages)
    return f"{count} stage{'s' * (count != 1)}, {len(plan.missing())} to run, {jobs} side by side"


def paper_cost(stage: Stage) -> str:
    """Return what a training takes at the paper's sizes, if that is known; else that nothing is."""
    trains = not isinstance(stage, StoreStage | EvaluationStage)
    cost = stage.experiment.cost if trains and stage.setting.level == "paper" else ""
    return cost or "time unknown"


def remaining(
    running: Iterable[float | None], left: Iterable[float | None], jobs: int
) -> float | None:
    """Return seconds until all is done, from each stage's own; None if one of them is unknown.

    The sum spread over the jobs, but no less than the longest: which one waits for which is left out.
    """
    times = [*running, *left]
    seconds = [time for time in times if time is not None]
    if len(seconds) < len(times):
        return None
    return max(sum(seconds) / jobs, max(seconds, default=0.0))


def clock(seconds: float) -> str:
    """Return ``0:03:57``."""
    return str(datetime.timedelta(seconds=round(seconds)))


def _kin(stage: Stage) -> tuple[str, str, str]:
    """Return names of groups of like stages, nearest first."""
    experiment = stage.experiment
    step = "RPN" if experiment.is_rpn else "training"
    if isinstance(stage, StoreStage):
        step = "proposals"
    return f"{experiment.id} {step}", f"family {experiment.family} {step}", step


def _recorded(stage: Stage, status: Status) -> list[float]:
    """Return what this stage, or other seeds of its experiment, took."""
    if status.state is State.DONE and status.seconds is not None:
        return [status.seconds]
    if isinstance(stage, StoreStage):
        return []
    return _seconds(stage.folder.parent.glob(f"seed*/{RESULTS}"))


def _kept_records(stage: Stage) -> list[Path]:
    """Return the records that are kept of a stage's experiment, under its name or a former one."""
    folder = KEPT / stage.setting.label / BACKEND.name
    names = (stage.experiment.id, *former_experiments(stage.experiment.id))
    return [path for name in names for path in (folder / name).glob("seed*.json")]


def _seconds(files: Iterable[Path]) -> list[float]:
    """Return what the runs of some records took, as far as they can be read and say it."""
    times = []
    for path in sorted(files):
        try:
            times.append(read_record(path).seconds)
        except TableError:
            continue
    return [seconds for seconds in times if seconds is not None]
