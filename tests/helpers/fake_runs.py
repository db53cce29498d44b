"""Two small tables, and child processes that take milliseconds instead of a training."""

import json
import sys
import textwrap
from pathlib import Path
from types import MappingProxyType

import maskrcnn_repro
from maskrcnn_repro.data.proposals.writer import StoreWriter
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.numbers import Metric, Row, Table
from maskrcnn_repro.tables.report.report import PaperData, reports
from maskrcnn_repro.tables.runs import stage as stage_module
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.records import hashes_of_file
from maskrcnn_repro.tables.runs.stage import Setting, StoreStage

import yaml

METRICS = {"AP": Metric("AP", "AP", "segm", "AP"), "bbAP": Metric("bbAP", "AP bb", "bbox", "AP")}
ITERATIONS = 10

# Written by each fake child before it does anything: when and its arguments, one JSON list a line.
CHILD = """
    import json, os, shutil, sys, time
    prepared, words = sys.argv[1], sys.argv[2:]
    output = words[words.index("OUTPUT_DIR") + 1]
    if "store" in words[0]:
        output = os.path.join(output, "proposals")
    with open(os.path.join(prepared, "calls.txt"), "a") as file:
        print(json.dumps([time.time(), *words]), file=file)
    mine = os.path.join(prepared, output.replace(os.sep, "_"))
    if os.path.exists(mine + ".fail"):
        print("Traceback: out of memory")
        sys.exit(3)
    if os.path.exists(mine + ".hang"):
        print("[12:00:00]  eta: 0:01:40  iter: 19  total_loss: 2.5  loss_cls: 1.0", flush=True)
        with open(mine + ".pid", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(60)
    shutil.copytree(mine, output, dirs_exist_ok=True)
"""


def fake_experiments(folder):
    """Return an RPN, two detectors on its proposals, a joint one, and an evaluation; by id."""
    (folder / "rpn").mkdir(parents=True, exist_ok=True)
    data = 'DATASETS: {TRAIN: ["mini_coco_train"], TEST: ["mini_coco_val"]}'
    stored = (
        "MODEL: {MASK_ON: True, LOAD_PROPOSALS: True, "
        "PROPOSAL_GENERATOR: {NAME: PrecomputedProposals}, ROI_HEADS: {NUM_CLASSES: %d}}"
    )
    bodies = {
        "rpn/rpn": "MODEL: {META_ARCHITECTURE: ProposalNetwork}",
        "a": stored % 8,
        "b": stored % 9,
        "joint": "MODEL: {MASK_ON: True, ROI_HEADS: {NUM_CLASSES: 8}}",
    }
    for name, body in bodies.items():
        text = f"{body}\n{data}\nSOLVER: {{MAX_ITER: {ITERATIONS}}}\nVERSION: 2\n"
        (folder / f"{name}.yaml").write_text(text)

    def experiment(name, file=None, **more):
        return Experiment(name, str(folder / f"{file or name}.yaml"), "c4", **more)

    experiments = [
        experiment("rpn", "rpn/rpn"),
        experiment("a", proposals="rpn"),
        experiment("b", proposals="rpn", baseline="a"),
        experiment("joint"),
        experiment("tuned", "joint", init="a"),
        experiment(
            "a-nms",
            "a",
            proposals="rpn",
            evaluates="a",
            overrides=("MODEL.ROI_HEADS.NMS_THRESH_TEST", "0.3"),
        ),
    ]
    return {entry.id: entry for entry in experiments}


def table(*rows, baseline="T.a", columns=("AP", "bbAP"), held_out=()):
    return Table(
        id="fake",
        title="Two models",
        split="COCO minival",
        columns=columns,
        rows=MappingProxyType({row.id: row for row in rows}),
        baseline_row=baseline,
        held_out=frozenset(held_out),
    )


def row(name, experiment, ap=None, box=None, **more):
    metrics = {"AP": ap, "bbAP": box}
    return Row(
        f"T.{name}", f"Model {name}", MappingProxyType(metrics), experiment=experiment, **more
    )


def report_of(shown, setting, experiments, columns, **options):
    """Return the report of one table; ``options`` are those of ``reports``."""
    paper = PaperData({shown.id: shown}, columns, experiments, {})
    (report,) = reports([shown], setting, paper, **options)
    return report


def results_of(stage, config, metrics, **changed):
    """Return the text of the ``results.json`` that ends a run of ``stage`` with this ``config.yaml``."""
    data = [{"name": name, "sha256": "0" * 64} for name in ("mini_coco_train", "mini_coco_val")]
    result = {
        "metrics": {"mini_coco_val": metrics},
        "iterations": ITERATIONS,
        "train_seconds": 50.0,
        "eval_seconds": 10.0,
        "seed": stage.seed,
        "weights": "",
        "config_sha256": hashes_of_file(config)[0],
        "datasets": {"TRAIN": data[:1], "TEST": data[1:]},
        "code": {"backend": {"name": maskrcnn_repro.BACKEND.name}, "commit": "c" * 40},
        "machine": {"gpu": None, "cpu": "a processor"},
        "written": "2026-01-01T00:00:00+00:00",
    }
    return json.dumps({**result, **changed})


def dumped(cfg):
    """Return what ``cfg.dump()`` returns, in a tenth of its time."""
    return yaml.dump(json.loads(json.dumps(cfg)), Dumper=yaml.CSafeDumper)


def write_run(stage, folder=None, *, metrics=None, finished=True, **changed):
    """Write what a run of ``stage`` leaves, into its folder or another one."""
    folder = folder or stage.folder
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(stage, StoreStage):
        for name in ("mini_coco_train", "mini_coco_val"):
            writer = StoreWriter(folder / f"{name}.proposals")
            writer.add(1, [[0, 0, 5, 5]], [1.0])
            writer.finish(dataset=name, images_sha256=None, origin={})
        (folder / "recall.json").write_text("{}")
        return
    at = folder / stage.results.relative_to(stage.folder).parent
    at.mkdir(parents=True, exist_ok=True)
    config = at / "config.yaml"
    config.write_text(dumped(stage.config))
    (folder / "last_checkpoint").write_text("model_final.pth" if finished else "model_0000004.pth")
    if finished:
        metrics = metrics or {"segm": {"AP": 30.0}, "bbox": {"AP": 40.0}}
        (at / "results.json").write_text(results_of(stage, config, metrics, **changed))


class Fake:
    """Fake programs, and what they were called with.

    Args:
        folder: of the test.
        monkeypatch: pytest's.
    """

    def __init__(self, folder, monkeypatch):
        self.prepared = folder / "prepared"
        self.prepared.mkdir()
        self.experiments = fake_experiments(folder / "configs")
        self.setting = Setting("paper", root=folder / "output")
        child = folder / "child.py"
        child.write_text(textwrap.dedent(CHILD))
        head = [sys.executable, "-S", "-E", str(child), str(self.prepared)]
        monkeypatch.setattr(stage_module, "TRAIN_NET", [*head, "train"])
        monkeypatch.setattr(stage_module, "STORE_PROPOSALS", [*head, "store"])

    def plan(self, *names, seeds=(1,), setting=None):
        """Return a plan whose children will leave finished runs."""
        table_plan = plan(names, seeds, setting or self.setting, self.experiments)
        for stage in table_plan.stages:
            write_run(stage, self.place(stage))
        return table_plan

    def place(self, stage, suffix=""):
        return self.prepared / (str(stage.folder).replace("/", "_") + suffix)

    def calls(self):
        """Return program and OUTPUT_DIR of each child, and whether it resumed, in order of starting."""
        file = self.prepared / "calls.txt"
        lines = file.read_text().splitlines() if file.is_file() else []
        calls = []
        for _, program, *words in sorted(json.loads(line) for line in lines):
            output = Path(words[words.index("OUTPUT_DIR") + 1])
            name = str(output.relative_to(self.setting.folder)) if output.is_absolute() else output
            calls.append(f"{program} {name}{' resumed' * ('--resume' in words)}")
        return calls
