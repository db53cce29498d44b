"""What a report of made-up runs writes: console, tables, kept records, README and page.

Each scene is a handful of fake runs and the command that reports them. ``scripts/record_golden.py`` stores what they
write in ``stored/golden``; ``test_golden.py`` renders them again and compares.
"""

import contextlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.commands import tables as cli
from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.readme import BEGIN, END, FINDINGS
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.tables.runs.zoo import zoo_stage

import numpy as np

from tests.helpers.commands import table as run_table_command
from tests.helpers.fake_detections import EXACT, FAR, MISSED, NEAR, detect, use_truth, write_truth
from tests.helpers.fake_runs import METRICS, Fake, row, table, write_run
from tests.helpers.html_runs import register_tiny, whole_report
from tests.helpers.kept_results import FILES, RESULTS
from tests.helpers.paths import STORED

FOLDER = STORED / "golden"
PAGES = (Path("README.md"), FINDINGS)
"""Files between whose marks results are written."""
NUMBERS = FOLDER / "numbers.json"
OUTCOMES = ("holds", "fails", "undecided", "images only", "too little learnt", "missing")

COLUMNS = {
    **METRICS,
    "AP50": Metric("AP50", "AP50", "segm", "AP50"),
    "AP75": Metric("AP75", "AP75", "segm", "AP75"),
}
OVERRIDES = ("SOLVER.MAX_ITER", "12")
CODE = {
    "backend": {"name": "embedded", "version": "0.6+embedded", "location": "/home/me/detectron2"},
    "commit": "0123456789ab" + "0" * 28,
    "torch": "2.15.0",
}
MACHINE = {"gpu": None, "cpu": "Some CPU", "threads": 2, "system": "Linux-6.1-my-host"}
# Fewer and worse from one to the next; different images, so that intervals have a width.
GOOD = [EXACT, EXACT, NEAR] * 4
FAIR = [EXACT, NEAR, FAR] * 4
POOR = [NEAR, FAR, FAR, MISSED] * 3


def _tables():
    shown = table(
        row("other", None, ap=20.0, ours=False),
        row("a", "a", ap=30.0, box=38.0),
        row("b", "b", ap=33.5, box=None, departs="Half the data."),
        row("nms", "a-nms", ap=30.2, box=38.1, extra=True, note="An extra evaluation"),
        row("joint", "joint", ap=35.0, box=40.0),
        row("lost", None, ap=36.0, box=41.0, why_not="Weights were not published."),
        row("gap", None, ap=3.5, gap_of=("T.b", "T.a"), derived=True),
        columns=("AP", "bbAP", "AP50", "AP75"),
    )
    zoo = replace(row("r50c4", "r50_c4", ap=30.3, box=34.0), id="T2a.r50c4")
    held_out = table(zoo, baseline="T2a.r50c4", held_out=("AP",))
    return {
        "2c": replace(shown, id="2c", title="Made-up operations"),
        "2a": replace(held_out, id="2a", title="Made-up backbones"),
    }


def _claim(name, pairs, direction=">", margin=0.0, quantity="AP"):
    return Claim(name, f"{name} is so.", pairs, quantity, direction, margin, 3.5)


CLAIMS = {
    claim.id: claim
    for claim in (
        _claim("b-over-a", (("T.b", "T.a"),)),
        # With an explanation of its own at level mini.
        _claim("warp-like-pool", (("T.b", "T.a"),), "≈", 1.5),
        _claim("a-over-b", (("T.a", "T.b"),), "≥"),
        _claim("nms-like-a", (("T.nms", "T.a"),), "≈", 1.5),
        _claim("gains", (("T.b", "T.a"), ("T.nms", "T.a")), quantity="AP75 - AP50"),
        _claim("joint-over-a", (("T.joint", "T.a"),)),
        _claim("joint-over-nms", (("T.joint", "T.nms"),)),
    )
}


class Scene:
    """Fake runs in ``output`` of an empty folder, which is the working directory.

    Args:
        folder: the folder.
        monkeypatch: pytest's.
        setting: what the runs are made with.
        with_page: whether the command writes its page. For finished runs it would draw their images, which there are
            not; they have a scene of their own.
    """

    def __init__(self, folder, monkeypatch, setting, *, with_page=False):
        self.folder = folder.resolve()
        monkeypatch.chdir(folder)
        # The hash of a config is part of the identity of a record: it must not be this machine's.
        monkeypatch.setattr("maskrcnn_repro.config.load.default_device", lambda: "auto")
        self.fake = Fake(folder, monkeypatch)
        self.fake.setting = setting
        self.fake.experiments["r50_c4"] = self.fake.experiments["joint"]
        self.truth = write_truth(folder)
        use_truth(monkeypatch, self.truth)
        tables = _tables()
        replaced = {
            "all_experiments": lambda: self.fake.experiments,
            "find_table": tables.__getitem__,
            "tables": lambda: tables,
            "all_tables": lambda: tables,
            "all_metrics": lambda: COLUMNS,
            "all_claims": lambda: CLAIMS,
        }
        if not with_page:
            replaced["write_report_page"] = lambda *args, **options: 0
        for name, value in replaced.items():
            monkeypatch.setattr(cli, name, value)
        (folder / FINDINGS).parent.mkdir()
        for file in PAGES:
            (folder / file).write_text(f"# A title\n\n{BEGIN}\n{END}\n\nThe end.\n")

    def add(self, name, seed, offsets, **changed):
        """Write a finished run with these detections."""
        stage = plan([name], [seed], self.fake.setting, self.fake.experiments).stages[-1]
        origin = {"iterations": stage.config.SOLVER.MAX_ITER, "code": CODE, "machine": MACHINE}
        return detect(self.fake, self.truth, name, seed, offsets, **{**origin, **changed})

    def add_rpn(self):
        """Write the trained RPN behind the detectors."""
        stage = plan(["rpn"], [1], self.fake.setting, self.fake.experiments).stages[-1]
        stage.write_note()
        origin = {"iterations": stage.config.SOLVER.MAX_ITER, "code": CODE, "machine": MACHINE}
        write_run(stage, metrics={"box_proposals": {"AR@100": 50.0}}, train_seconds=170.0, **origin)

    def report(self, *words):
        """Return what the command writes: name of each file to its text, and ``console.txt``."""
        console = io.StringIO()
        with contextlib.redirect_stdout(console):
            status = run_table_command([*words[:1], "--report", "--save-records", *words[1:]])
        assert status == 0, console.getvalue()
        paths = [*self.folder.glob("output/*/tables/*"), *self.folder.rglob("results/**/*.*")]
        texts = dict(text_of(path, self.folder) for path in paths)
        for file in PAGES:
            texts[str(file)] = (self.folder / file).read_text(encoding="utf-8")
        texts["console.txt"] = console.getvalue().replace(f"{self.folder}/", "")
        for file in self.folder.glob("output/*/report.html"):
            text = without_pictures(file.read_text(encoding="utf-8"))
            texts[str(file.relative_to(self.folder))] = text
        return {name: rounded(text) for name, text in texts.items()}


def mini(folder, monkeypatch):
    """Three seeds of three rows, one of them an evaluation, an unfinished run, and one that does not belong there."""
    scene = Scene(folder, monkeypatch, Setting("mini", root=Path("output")))
    scene.add_rpn()
    for seed in (1, 2, 3):
        scene.add("a", seed, FAIR[seed:] + FAIR[:seed])
        scene.add("b", seed, GOOD[seed:] + GOOD[:seed])
        scene.add("a-nms", seed, [*FAIR[seed:], *[NEAR, FAR, NEAR][:seed]])
    scene.add("b", 4, POOR, iterations=9)
    other = {"TRAIN": [], "TEST": [{"name": "mini_coco_val", "sha256": "f" * 64}]}
    scene.add("a", 5, POOR, datasets=other)
    unfinished = plan(["joint"], [1], scene.fake.setting, scene.fake.experiments).stages[-1]
    write_run(unfinished, finished=False)
    return scene.report("2c", "--level", "mini")


def overlay(folder, monkeypatch):
    """One seed under a file of the user's, of two rows that find nothing, too."""
    file = Path("own.yaml")
    (folder / file).write_text("TEST: {DETECTIONS_PER_IMAGE: 7}\nVERSION: 2\n")
    setting = Setting("mini", root=Path("output"), overlays=(file,))
    scene = Scene(folder, monkeypatch, setting)
    scene.add("a", 1, GOOD)
    scene.add("b", 1, POOR)
    for name in ("joint", "a-nms"):
        scene.add(name, 1, [MISSED] * len(POOR))
    return scene.report("2c", "--level", "mini", "--overlay", "own.yaml")


def trial(folder, monkeypatch):
    """A trial of one row."""
    setting = Setting("mini", OVERRIDES, root=Path("output"))
    scene = Scene(folder, monkeypatch, setting)
    scene.add("a", 1, FAIR)
    return scene.report("2c", "--level", "mini", "--", *OVERRIDES)


def paper(folder, monkeypatch):
    """Detectron2's weights beside a column of test images, and a table without any run."""
    scene = Scene(folder, monkeypatch, Setting("paper", root=Path("output")), with_page=True)
    stage = zoo_stage("r50_c4", scene.fake.setting)
    stage.write_note()
    write_run(
        stage,
        metrics={"segm": {"AP": 34.4}, "bbox": {"AP": 39.8}},
        iterations=0,
        weights="some.pkl",
        code=CODE,
        machine=MACHINE,
    )
    return scene.report("all", "--level", "paper")


def page(folder, monkeypatch):
    """The HTML page of a table with curves and pictures."""
    monkeypatch.chdir(folder)
    report = whole_report(Path("output"), register_tiny(folder))
    write_page(Path("output/report.html"), [Shown(report)])
    return {"report.html": without_pictures(Path("output/report.html").read_text("utf-8"))}


SCENES = {"mini": mini, "overlay": overlay, "trial": trial, "paper": paper, "page": page}


def rounded(text):
    """Return a text whose long fractions have six decimals: the last ones differ between machines."""
    return re.sub(r"-?\d+\.\d{7,}", lambda hit: repr(round(float(hit[0]), 6)), text)


def text_of(path, root):
    """Return name and text of a file; of draws of images the sum of each array: their bytes differ between machines."""
    name = str(path.relative_to(root))
    if path.suffix != ".npz":
        return name, path.read_text(encoding="utf-8")
    with np.load(path) as content:
        lines = [
            f"{key}: {value.item() if value.ndim == 0 else (value.shape, int(value.sum()))}"
            for key, value in sorted(content.items())
        ]
    return f"{name}.txt", "\n".join(lines) + "\n"


def without_pictures(text):
    """Return a page with each picture as its kind, and each plot as its label and its words."""
    text = re.sub(r"(data:image/\w+);base64,[\w+/=]+", r"\1", text)
    return re.sub(r"<svg\b.*?</svg>", _words_of_plot, text, flags=re.DOTALL)


def _words_of_plot(hit):
    label = re.search(r'aria-label="([^"]*)"', hit[0])
    words = re.findall(r"<text\b[^>]*>([^<]*)</text>", hit[0])
    return f"<svg>{' | '.join([label[1] if label else '', *words])}</svg>"


def stored(scene):
    """Return the stored files of a scene: name to text."""
    files = (path for path in (FOLDER / scene).rglob("*") if path.is_file())
    return {str(p.relative_to(FOLDER / scene)): p.read_text(encoding="utf-8") for p in files}


# --- numbers without words


def numbers_of(tree):
    """Return the numbers and outcomes of a table's JSON, without any sentence."""
    rows = {row["id"]: _numbers(row["cells"]) for row in tree["rows"]}
    claims = {
        claim["id"]: {"outcome": claim["outcome"], **_numbers({k: claim[k] for k in _OF_CLAIM})}
        for claim in tree["claims"]
    }
    return {"baseline": tree["baseline_row"], "rows": rows, "claims": claims}


_OF_CLAIM = ("margin", "paper_gap", "gap", "interval")


def _numbers(value):
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items() if key != "method"}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def all_numbers():
    """Return the numbers of all golden tables and of all that ``results/`` keeps, by name."""
    golden = {
        f"golden/{path.relative_to(FOLDER)}": path
        for path in FOLDER.glob("*/output/*/tables/*.json")
    }
    kept = {f"results/{path.relative_to(RESULTS)}": path for path in FILES}
    return {
        name: numbers_of(json.loads(path.read_text(encoding="utf-8")))
        for name, path in sorted({**golden, **kept}.items())
    }
