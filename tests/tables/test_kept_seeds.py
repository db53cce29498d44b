"""Seeds whose records are kept with the code are not trained again; what is trained again is compared with them."""

import json
import shutil
from dataclasses import replace

import maskrcnn_repro
from maskrcnn_repro import _location
from maskrcnn_repro.tables.report.kept import save_reports
from maskrcnn_repro.tables.report.report import PaperData, reports
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.progress import Console, describe
from maskrcnn_repro.tables.runs.records import State
from maskrcnn_repro.tables.runs.retrained import (
    compare_starts,
    compare_weights,
    digest_of_run,
    kept_record,
    kept_seeds,
    recipe_of,
    with_kept,
)
from maskrcnn_repro.utils.hashes import weights_digest

import pytest
import torch

from tests.helpers.fake_detections import EXACT, FAR, NEAR, detect, use_truth, write_truth
from tests.helpers.fake_runs import METRICS, Fake, row, table
from tests.helpers.kept_rpn import CODE, ONE, TWO, gone, keep, kept, train_rpn

OTHER = {**CODE, "torch": "2.14.0"}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """An RPN whose record is kept; there are no runs."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_location, "RESULTS", folder / "results")
        fake = Fake(folder, patch)
        keep(train_rpn(fake, weights_sha256=ONE))
        yield gone(fake, folder)


@pytest.fixture
def fake(once):
    """The same, whatever a test does to it."""
    (file,) = kept().rglob("seed1.json")
    text = file.read_text()
    yield once
    file.write_text(text)
    shutil.rmtree(once.setting.folder, ignore_errors=True)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Two rows whose seeds 1 and 2 are kept by a report, as is the RPN behind them; there are no runs."""
    monkeypatch.setattr(_location, "RESULTS", tmp_path / "results")
    fake = Fake(tmp_path, monkeypatch)
    fake.truth = write_truth(tmp_path)
    use_truth(monkeypatch, fake.truth)
    train_rpn(fake, weights_sha256=ONE)
    for seed in (1, 2):
        run(fake, seed)
    fake.report = report(fake)
    # Kept, a table says nothing of runs that were under way.
    rows = tuple(replace(row, unfinished=("seed 9 at no checkpoint",)) for row in fake.report.rows)
    begun, paper = replace(fake.report, rows=rows), PaperData({}, METRICS, fake.experiments, {})
    save_reports([begun], fake.setting, paper, kept())
    return gone(fake, tmp_path)


def run(fake, seed):
    detect(fake, fake.truth, "a", seed, [NEAR, FAR] * 6, code=CODE)
    detect(fake, fake.truth, "b", seed, [EXACT, NEAR] * 6, code=CODE)


def report(fake, **options):
    rows = row("a", "a", ap=30.0), row("b", "b", ap=33.5)
    shown = table(*rows, columns=("AP",))
    paper = PaperData({shown.id: shown}, METRICS, fake.experiments, {})
    (made,) = reports([shown], fake.setting, paper, Resampler(), **options)
    return made


def plan_of(fake, seeds):
    return with_kept(plan(["a", "b"], seeds, fake.setting, fake.experiments))


@pytest.mark.slow
def test_a_further_seed_trains_itself_and_what_it_needs(saved):
    planned = plan_of(saved, (1, 2, 3))
    missing = [stage.key for stage in planned.missing()]
    assert missing == ["rpn/seed1", "rpn/seed1/proposals", "a/seed3", "b/seed3"]
    assert "a seed 1: missing, kept" in describe(planned, 1)
    assert plan_of(saved, (1, 2)).missing() == []
    assert kept_seeds(saved.setting, "a") == [1, 2]


@pytest.mark.slow
def test_kept_records_give_the_numbers_of_their_runs(saved):
    (interval,) = (cell.ours_interval for cell in report(saved, kept=True).cells if cell.ours_gap)
    (expected,) = (cell.ours_interval for cell in saved.report.cells if cell.ours_gap)
    assert (interval.seeds, interval.images) == ((1, 2), 12)
    assert interval.low == pytest.approx(expected.low, abs=1e-4)
    assert interval.high == pytest.approx(expected.high, abs=1e-4)
    assert report(saved).origin == ()


@pytest.mark.slow
def test_new_seeds_stand_beside_kept_ones_which_are_marked(saved):
    train_rpn(saved, weights_sha256=ONE)
    run(saved, 3)
    made = report(saved, kept=True)
    assert made.seeds == [1, 2, 3]
    assert [bool(run.record) for run in made.origin] == [True, True, False] * 2
    assert (made.notes, made.refused) == ((), ())
    assert report(saved, kept=True, seeds=2).seeds == [1, 2]


@pytest.mark.slow
def test_another_rpn_than_the_kept_one_is_said(saved):
    train_rpn(saved, weights_sha256=TWO, code=OTHER)
    run(saved, 3)
    said = (
        "rpn seed 1 differs from its kept record: weights 22222222 by torch 2.14.0 on a processor, kept 11111111 "
        "by torch 2.15.0 on a processor; what is trained with it is of other proposals or weights."
    )
    assert report(saved, kept=True).notes == (said,)
    # Without kept records among its own, too.
    assert report(saved).notes == (said,)
    paper = PaperData({}, METRICS, saved.experiments, {})
    folder = save_reports([report(saved)], saved.setting, paper, kept())
    assert "differs" not in (folder / "tables/fake.json").read_text()
    assert report(saved).notes == ()


def tree_of(file):
    return json.loads(file.read_text())


@pytest.mark.slow
def test_new_seeds_are_added_to_the_kept_ones(saved):
    folder = kept() / "paper" / maskrcnn_repro.BACKEND.name
    before = {file: file.read_bytes() for file in folder.glob("*/*seed*")}
    assert [row["unfinished"] for row in tree_of(folder / "tables/fake.json")["rows"]] == [[], []]
    train_rpn(saved, weights_sha256=TWO, code=OTHER)
    run(saved, 3)
    mixture, paper = report(saved, kept=True), PaperData({}, METRICS, saved.experiments, {})
    assert save_reports([mixture], saved.setting, paper, kept()) == folder
    added = {"a/seed3.json", "a/draws_seed3.npz", "b/seed3.json", "b/draws_seed3.npz"}
    assert {file: file.read_bytes() for file in before} == before
    after = {file.relative_to(folder).as_posix() for file in folder.glob("*/*seed*")}
    assert after == added | {file.relative_to(folder).as_posix() for file in before}
    assert tree_of(folder / "a/seed1.json")["shared_weights_sha256"] == {"rpn/seed1": ONE}
    assert tree_of(folder / "a/seed3.json")["shared_weights_sha256"] == {"rpn/seed1": TWO}
    table = tree_of(folder / "tables/fake.json")
    assert [run["results"] for run in table["origin"]] == [
        f"{name}/seed{seed}.json" for name in "ab" for seed in (1, 2, 3)
    ]
    assert table["notes"] == list(mixture.notes)
    assert "rpn seed 1 differs from its kept record" in mixture.notes[0]
    shutil.rmtree(saved.setting.folder)
    (kept() / "paper" / maskrcnn_repro.BACKEND.name / "rpn/seed1.json").unlink()
    alone = report(saved, kept=True)
    assert [cell.ours for cell in alone.cells] == [cell.ours for cell in mixture.cells]
    (interval,) = (cell.ours_interval for cell in alone.cells if cell.ours_gap)
    (expected,) = (cell.ours_interval for cell in mixture.cells if cell.ours_gap)
    assert interval.seeds == expected.seeds == (1, 2, 3)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    (note,) = alone.notes
    assert note == (
        "rpn seed 1 was trained more than once for these seeds, with other weights: 11111111 of seed 1, 2; "
        "22222222 of seed 3."
    )


@pytest.mark.slow
def test_an_rpn_without_a_digest_is_said_where_kept_records_stand_beside_it(saved):
    train_rpn(saved)
    run(saved, 3)
    (note,) = report(saved, kept=True).notes
    assert note.startswith("Whether seed 3 started from the same weights of rpn seed 1 as the kept")
    assert report(saved).notes == ()


@pytest.mark.slow
def test_a_kept_record_of_another_recipe_is_left_out_and_named(saved):
    (file,) = kept().rglob("a/seed1.json")
    tree = {**json.loads(file.read_text()), "recipe_sha256": "f" * 64}
    file.write_text(json.dumps(tree))
    (text,) = report(saved, kept=True).refused
    assert text == f"{file}: it is of another recipe than this level's now"


class Lines:
    def __init__(self):
        self.text = ""

    def isatty(self):
        return False

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize(
    ("digest", "said"),
    [
        (ONE, "rpn seed 1 has the weights of its kept record (SHA-256 11111111).\n"),
        (TWO, "rpn seed 1 differs from its kept record: weights 22222222 by torch 2.15.0"),
        (None, ""),
    ],
)
def test_a_stage_that_is_trained_again_is_compared_at_once(fake, digest, said):
    rpn = train_rpn(fake, weights_sha256=digest)
    console = Console(plan(["rpn"], [1], fake.setting, fake.experiments), 1, out := Lines())
    console.finished(rpn, rpn.status(), 5.0)
    assert said in out.text
    assert out.text.count("\n") == 1 + bool(said)


def test_kept_records_of_the_same_weights_need_no_note(fake):
    stage = train_rpn(fake, weights_sha256=ONE)
    run = stage.status().record
    same = replace(run, kept="a run", shared_weights={"rpn/seed1": ONE})
    assert compare_starts(stage, {1: same, 2: same, 3: run}) == ""
    # Seed 2 has no digest: the RPN's own record, which is that of the run, stands for it.
    unknown = replace(same, shared_weights={})
    assert compare_starts(stage, {1: same, 2: unknown, 3: run}) == ""
    assert compare_starts(stage, {1: same, 2: unknown}) == ""
    assert compare_starts(stage, {}) == ""


def test_seeds_of_other_weights_are_told_without_the_rpns_kept_record(fake):
    stage = train_rpn(fake, weights_sha256=TWO)
    run = stage.status().record
    other = replace(run, kept="a run", shared_weights={"rpn/seed1": ONE})
    next(kept().rglob("rpn/seed1.json")).unlink()
    assert compare_starts(stage, {1: other, 3: run}) == (
        "rpn seed 1 was trained more than once for these seeds, with other weights: 11111111 of seed 1; 22222222 of "
        "seed 3."
    )
    unknown = replace(other, shared_weights={})
    said = "Whether seed 3 started from the same weights of rpn seed 1 as the kept seed 1 cannot be told"
    assert compare_starts(stage, {1: unknown, 3: run}).startswith(said)
    shutil.rmtree(stage.folder)
    assert compare_starts(stage, {1: other, 3: run}).startswith(said)


def test_other_recipes_data_and_lengths_are_not_the_same_training(fake):
    stage = train_rpn(fake, weights_sha256=ONE)
    record = stage.status().record
    assert compare_weights(stage, record)
    assert compare_weights(stage, replace(record, data={**record.data, "mini_coco_val": TWO})) == ""
    assert compare_weights(stage, None) == ""
    (file,) = kept().rglob("rpn/seed1.json")
    tree = json.loads(file.read_text())
    assert kept_record(stage).kept == tree["record"]
    for changed in ({"recipe_sha256": "f" * 64}, {"iterations": 9}):
        file.write_text(json.dumps({**tree, **changed}))
        assert kept_record(stage) is None
    file.unlink()
    assert kept_record(stage) is None
    assert compare_weights(stage, record) == ""


def test_a_recipe_does_not_depend_on_folders_and_machines(fake):
    stage = plan(["a"], [1], fake.setting, fake.experiments).stages[-1]
    other = stage.config.clone()
    other.defrost()
    other.OUTPUT_DIR, other.MODEL.DEVICE = "/elsewhere", "cuda"
    other.DATASETS.PROPOSAL_FILES_TRAIN = ("/elsewhere/a.proposals",)
    assert recipe_of(other) == recipe_of(stage.config)
    other.SOLVER.BASE_LR *= 2
    assert recipe_of(other) != recipe_of(stage.config)


def test_a_run_of_an_earlier_version_has_the_digest_of_its_last_weights(fake):
    rpn = train_rpn(fake)
    assert digest_of_run(rpn.results) is None
    state = {"a": torch.arange(3.0)}
    torch.save({"model": state, "iteration": 9}, rpn.folder / "model_final.pth")
    assert digest_of_run(rpn.results) == weights_digest(state)
    assert rpn.status().state is State.DONE
