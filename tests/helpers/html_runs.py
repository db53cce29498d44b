"""Runs for the HTML report, made by hand: records with curves and detections on four small images."""

import json
from dataclasses import replace
from html.parser import HTMLParser

from maskrcnn_repro.data.custom import register_custom
from maskrcnn_repro.tables.report.model import (
    Cell,
    Estimate,
    Interval,
    Origin,
    Report,
    ReportColumn,
    ReportRow,
    Verdict,
)

from tests.helpers.tiny_coco import write_tiny_coco

DATASET = "html_tiny"
NASTY = "<script>alert('name')</script>"
VOID = frozenset({"input", "meta", "link", "img", "br"})


def register_tiny(folder):
    """Write and register four images of 64 pixels with two objects each; return their annotations."""
    file, pictures = write_tiny_coco(folder / "tiny")
    register_custom([[DATASET, str(file), str(pictures)]])
    return json.loads(file.read_text())


def write_detections(folder, truth, count, shift=0.0):
    """Write the first ``count`` objects of each image as found, moved by ``shift`` pixels."""
    detections = []
    for image in truth["images"]:
        own = [
            annotation
            for annotation in truth["annotations"]
            if annotation["image_id"] == image["id"]
        ]
        for annotation in own[:count]:
            x, y, width, height = annotation["bbox"]
            entry = {key: annotation[key] for key in ("image_id", "category_id", "segmentation")}
            detections.append(entry | {"bbox": [x + shift, y, width, height], "score": 0.9})
    path = folder / "inference" / DATASET / "coco_instances_results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(detections))
    return path


def write_curve(folder, values, name="total_loss"):
    """Write ``metrics.json``: one value of a loss every 20 iterations."""
    lines = [json.dumps({"iteration": 20 * i + 19, name: v}) for i, v in enumerate(values)]
    (folder / "metrics.json").write_text("\n".join(lines) + "\n")


def write_record(folder, seed, ap, box, dataset=DATASET, experiment="a"):
    """Write ``results.json`` into ``folder``; return the origin that it is of a number."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = {
        "metrics": {dataset: {"bbox": {"AP": box}, "segm": {"AP": ap}}},
        "iterations": 1200,
        "train_seconds": 95.0,
        "eval_seconds": 10.0,
        "seed": seed,
        "weights": "",
        "config_sha256": "ab" * 32,
        "datasets": {"TRAIN": [], "TEST": [{"name": dataset, "sha256": "cd" * 32}]},
        "code": {
            "commit": "e" * 40 + "-dirty",
            "backend": {"name": "embedded", "version": "0.6+embedded"},
            "torch": "2.15.0",
            "plugins": [{"name": "mine"}],
        },
        "machine": {"gpu": None, "cpu": "a <fast> processor", "threads": 2, "system": "Linux"},
        "written": "2026-01-02T03:04:05+00:00",
    }
    (folder / "results.json").write_text(json.dumps(tree))
    return Origin(
        results=str(folder / "results.json"),
        seed=seed,
        commit=tree["code"]["commit"],
        machine=tree["machine"]["cpu"],
        weights="",
        data={dataset: "cd" * 32},
        written=tree["written"],
        experiment=experiment,
        split=dataset,
    )


def whole_report(folder, truth):
    """Return a table: two rows with two seeds, one that was not run, one that cannot be."""
    origin = []
    for name, ap in (("a", 40.0), ("b", 44.0)):
        for seed in (1, 2):
            run = folder / name / f"seed{seed}"
            origin.append(write_record(run, seed, ap + seed, ap + 10, experiment=name))
            write_curve(run, [3.0, 2.0, 1.5 - 0.1 * seed])
            write_detections(run, truth, count=2 if name == "a" else 1)
    cells = {
        "a": {"AP": _cell(30.0, [41.0, 42.0]), "bbAP": _cell(38.0, [50.0, 50.0])},
        NASTY: {
            "AP": _cell(33.5, [45.0, 46.0], paper_gap=3.5, gap=[4.0, 4.0]),
            "bbAP": _cell(None, [54.0, 54.0], gap=[4.0, 4.0]),
        },
        "late": {"AP": _cell(35.0, [], paper_gap=5.0), "bbAP": _cell(40.0, [], paper_gap=2.0)},
        "lost": {"AP": _cell(36.0, [], paper_gap=6.0), "bbAP": _cell(41.0, [], paper_gap=3.0)},
    }
    rows = (
        row_of("a", "a", cells),
        row_of(NASTY, "b", cells, note="A <b>note</b>."),
        row_of("late", "late", cells, unfinished=("seed 1 at model_0000004.pth",)),
        row_of("lost", None, cells, why_not="Weights were not published"),
    )
    refused = ("output/b/seed3: SOLVER.MAX_ITER is 9, planned 10",)
    return replace(
        report_of(*rows),
        claims=VERDICTS,
        refused=refused,
        our_splits=(DATASET,),
        origin=tuple(origin),
    )


def row_of(name, experiment, cells, **more):
    """Return a row with its cells by its name."""
    return ReportRow(f"T.{name}", f"Model {name}", experiment, cells=cells[name], **more)


def report_of(*rows, **more):
    """Return a table of mask AP and box AP without any record."""
    report = Report(
        table="fake",
        title="Two models",
        level="mini",
        overrides=(),
        overlays=(),
        backend="embedded Detectron2",
        paper_split="COCO minival",
        our_splits=(),
        baseline_row="T.a",
        rows=rows,
        columns=(
            ReportColumn("AP", "AP", "segm", "AP", False),
            ReportColumn("bbAP", "AP bb", "bbox", "AP", False),
        ),
    )
    return replace(report, **more)


def _cell(paper, ours, paper_gap=None, gap=()):
    interval = Interval(gap[0] - 1.0, gap[0] + 2.0, 95.0, (1, 2), 1000) if gap else None
    estimate = Estimate.of(dict(enumerate(ours, start=1)))
    return Cell(paper, paper_gap, estimate, Estimate.of(dict(enumerate(gap, start=1))), interval)


def verdict(name, outcome, gap, direction=">", margin=0.0, ends=(), note=""):
    """Return a verdict on a claim that row b beats row a."""
    rows = ((f"T.{NASTY}", "T.a"),)
    level = 90.0 if direction == "≈" else 95.0
    interval = Interval(*ends, level, (1, 2), 1000) if ends else None
    return Verdict(
        name,
        f"{name} <i>holds</i>",
        rows,
        "AP",
        direction,
        margin,
        3.5,
        outcome,
        gap,
        interval,
        note,
    )


VERDICTS = (
    verdict("first", "holds", 4.0, ends=(3.0, 6.0)),
    verdict("second", "fails", -4.0, ends=(-5.0, -3.0)),
    verdict("third", "undecided", 0.5, "≈", 1.5, (-1.0, 2.0), "one seed: images alone"),
    verdict("fourth", "missing", None, note="no record of T.a"),
)


class Page(HTMLParser):
    """What a page has: all tags with their attributes, and the text of each element of some kinds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts, self.unbalanced = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")
        if tag not in VOID:
            self.open.append((tag, len(self.tags) - 1))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_endtag(self, tag):
        last, _ = self.open.pop() if self.open else ("nothing", 0)
        if last != tag:
            self.unbalanced.append((last, tag))

    def handle_data(self, data):
        for _, number in self.open:
            self.texts[number] += data

    def attributes(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def text_of(self, tag, **wanted):
        """Return the texts of the elements that have these attributes, with single spaces."""
        wanted = {key.rstrip("_"): value for key, value in wanted.items()}
        return [
            " ".join(text.split())
            for (name, attrs), text in zip(self.tags, self.texts, strict=True)
            if name == tag and all(attrs.get(key) == value for key, value in wanted.items())
        ]
