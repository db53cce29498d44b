"""Records kept with the code, the README's results that follow from them, and the command that makes both."""

import json
import os
import shutil
from pathlib import Path

import maskrcnn_repro
from maskrcnn_repro import _location
from maskrcnn_repro.commands import tables as cli
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.report.readme import (
    BEGIN,
    END,
    FINDINGS,
    NOTHING,
    main,
    readme_block,
    results_block,
    split_readme,
)
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.scrubbing import scrub
from maskrcnn_repro.tables.runs.stage import Setting

import pytest

from tests.helpers.commands import table as main_table
from tests.helpers.fake_detections import FAR, NEAR, detect, use_truth, write_truth
from tests.helpers.fake_runs import METRICS, Fake, row, table, write_run
from tests.helpers.paths import ROOT

ORIGIN = {
    "machine": {"gpu": None, "cpu": "Some CPU", "threads": 2, "system": "Linux-6.1-my-host"},
    "code": {
        "backend": {
            "name": maskrcnn_repro.BACKEND.name,
            "version": "0.6",
            "location": "/home/me/detectron2",
        },
        "commit": "0123456789ab" + "0" * 28,
        "torch": "2.15.0",
    },
    "weights": "/home/me/model_final.pth",
    "datasets": {
        key: [{"name": f"mini_coco_{name}", "json": "/home/me/a.json", "sha256": "0" * 64}]
        for key, name in (("TRAIN", "train"), ("TEST", "val"))
    },
}
CLAIMS = {
    name: Claim(name, f"{name} wins.", (pair,), "AP", ">", 0.0, 3.5)
    for name, pair in (("b-over-a", ("T.b", "T.a")), ("c-over-a", ("T.c", "T.a")))
}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A fake table that is called 2c, with two claims."""
    fake = Fake(tmp_path, monkeypatch)
    fake.truth = write_truth(tmp_path)
    use_truth(monkeypatch, fake.truth)
    rows = row("a", "a", ap=30.0), row("b", "b", ap=33.5), row("c", "joint")
    shown = table(*rows, columns=("AP",))
    shown = type(shown)(**{**vars(shown), "id": "2c"})
    monkeypatch.setattr(cli, "all_experiments", lambda: fake.experiments)
    monkeypatch.setattr(cli, "find_table", {"2c": shown}.__getitem__)
    monkeypatch.setattr(cli, "all_metrics", lambda: METRICS)
    monkeypatch.setattr(cli, "tables", lambda: {"2c": shown})
    monkeypatch.setattr(cli, "all_tables", lambda: {"2c": shown})
    monkeypatch.setattr(cli, "all_claims", lambda: CLAIMS)
    monkeypatch.setattr(cli, "write_report_page", lambda *args, **options: 0)
    monkeypatch.setattr(_location, "RESULTS", tmp_path / "nothing kept")
    fake.results = tmp_path / "checkout/results"
    fake.kept = fake.results / "paper" / maskrcnn_repro.BACKEND.name
    fake.readme = tmp_path / "checkout/README.md"
    fake.findings = tmp_path / "checkout/docs/findings.md"
    fake.findings.parent.mkdir(parents=True)
    for file in (fake.readme, fake.findings):
        file.write_text(f"# A title\n\n{BEGIN}\n{END}\n\nThe end.\n")
    return fake


def run(fake, seeds=(1, 2), **changed):
    """Write a trained RPN and runs of both rows; report and keep them."""
    rpn = plan(["rpn"], [1], fake.setting, fake.experiments).stages[-1]
    rpn.write_note()
    write_run(rpn, metrics={"box_proposals": {"AR@100": 50.0}}, **ORIGIN, train_seconds=170.0)
    for seed in seeds:
        detect(fake, fake.truth, "a", seed, FAR, **{**ORIGIN, **changed})
        detect(fake, fake.truth, "b", seed, NEAR, **{**ORIGIN, **changed})
    return save(fake)


def save(fake, *words):
    options = ["--level", "paper", "--output", str(fake.setting.root)]
    return main_table(["2c", "--report", "--save-records", str(fake.results), *options, *words])


def test_the_readme_of_this_checkout_is_what_its_results_give():
    for file, block in ((ROOT / "README.md", readme_block), (ROOT / FINDINGS, results_block)):
        _, text, _ = split_readme(file)
        assert text == block(ROOT / "results"), "run scripts/update_readme.py"


def test_damage_of_another_level_is_told_before_anything_is_kept(fake, capsys):
    assert run(fake) == 0
    printed = capsys.readouterr().out
    assert f"Written: the results in {fake.readme}, {fake.findings}\n" in printed
    other = fake.results / "other" / maskrcnn_repro.BACKEND.name
    shutil.copytree(fake.kept, other)
    # Of the level that is saved it is mended.
    for file in (fake.kept / "claims.json", other / "claims.json"):
        file.write_text('{"claims"')
    assert save(fake) == 2
    told = capsys.readouterr()
    assert f"Error: {other / 'tables/2c.json'} is of table '2c', level 'paper'" in told.err
    assert (fake.kept / "claims.json").read_text() == '{"claims"'
    shutil.rmtree(other)
    assert save(fake) == 0
    assert json.loads((fake.kept / "claims.json").read_text())["claims"]


def test_no_results_are_said_to_be_none(tmp_path):
    assert results_block(tmp_path / "results") == NOTHING
    assert readme_block(tmp_path / "results") == NOTHING


def test_a_report_prints_its_claims_and_keeps_them(fake, capsys):
    assert run(fake) == 0
    printed = capsys.readouterr().out
    assert (
        "claim b-over-a  holds    +60.0 [+60.0, +60.0] 95 %  Holm < 0.0001: holds  paper +3.5, > 0\n"
        "claim c-over-a  missing                             Holm \N{EN DASH}                paper +3.5, > 0 "
        "(no record of Model c (T.c))\n"
        "Of 2 claims: holds 1, fails 0, undecided 0, missing 1.\n"
    ) in printed
    written = json.loads((fake.setting.folder / "tables/2c.json").read_text())
    assert [verdict["outcome"] for verdict in written["claims"]] == ["holds", "missing"]
    assert written["rows"][1]["cells"]["AP"]["ours_interval"]["low"] == pytest.approx(60.0)
    assert "| b-over-a wins. (`b-over-a`) " in (fake.setting.folder / "tables/2c.md").read_text()
    kept = json.loads((fake.kept / "claims.json").read_text())["claims"]
    assert kept == json.loads((fake.kept / "tables/2c.json").read_text())["claims"]
    assert [verdict["id"] for verdict in kept] == ["b-over-a", "c-over-a"]


def test_records_are_kept_with_their_origin_and_without_folders(fake):
    run(fake)
    names = {path.relative_to(fake.kept).as_posix() for path in fake.kept.rglob("*.*")}
    assert names == {
        *(f"{name}/seed{seed}.json" for name in "ab" for seed in (1, 2)),
        *(f"{name}/draws_seed{seed}.npz" for name in "ab" for seed in (1, 2)),
        "rpn/seed1.json",
        "tables/2c.json",
        "tables/2c.md",
        "claims.json",
    }
    kept_record = json.loads((fake.kept / "b/seed2.json").read_text())
    assert (
        kept_record["experiment"],
        kept_record["seed"],
        kept_record["level"],
        kept_record["kind"],
    ) == ("b", 2, "paper", "training")
    assert kept_record["metrics"]["mini_coco_val"]["segm"]["AP"] == pytest.approx(70.0)
    assert kept_record["datasets"]["TEST"] == [{"name": "mini_coco_val", "sha256": "0" * 64}]
    assert kept_record["code"]["commit"] == ORIGIN["code"]["commit"]
    assert (kept_record["machine"]["cpu"], kept_record["machine"]["system"]) == (
        "Some CPU",
        "Linux",
    )
    assert kept_record["weights"] == "model_final.pth"
    for path in fake.kept.rglob("*.*"):
        assert b"/home" not in path.read_bytes()
        assert str(fake.setting.root).encode() not in path.read_bytes()


def test_the_readme_shows_the_papers_rows_alone(fake):
    run(fake)
    head, block, tail = split_readme(fake.readme)
    assert (head, tail) == ("# A title\n\n", "\n\nThe end.\n")
    assert block == readme_block(fake.results)
    assert [line.split("|")[1].strip() for line in block.splitlines() if line[:1] == "|"][2:] == [
        "Model a",
        "Model b",
    ]
    assert block.endswith("Of 2 claims: holds 1, fails 0, undecided 0, missing 1.")


def test_the_page_of_findings_says_what_was_measured_where(fake):
    run(fake)
    head, block, tail = split_readme(fake.findings)
    assert (head, tail) == ("# A title\n\n", "\n\nThe end.\n")
    assert block == results_block(fake.results)
    backend = f"{maskrcnn_repro.BACKEND.name} Detectron2 0.6"
    assert block.startswith(f"### mini_coco_val: level paper, {backend}\n\n")
    # 50 s of training and 10 s of evaluation each; the RPN 170 s and 10 s.
    assert (
        "Trainings: 4 (seeds 1, 2), 1.0 minutes each with their evaluation; for their proposals 1 "
        "before them, 3.0 minutes each; tested on mini_coco_val (12 images); machine: Some CPU, "
        "2 threads; commit 0123456789ab; torch 2.15.0."
    ) in block
    assert "Of 2 claims: holds 1, fails 0, undecided 0, missing 1." in block
    assert "c-over-a" not in block
    assert "(not run: Model c" in block
    assert "| Model c" not in block
    cells = [" ".join(line.split()) for line in block.splitlines()]
    assert "| Model b | 33.5 | 70.0 ± 0.0 | +60.0 [+60.0, +60.0] 95 % |" in cells
    assert f"[2c](../results/paper/{maskrcnn_repro.BACKEND.name}/tables/2c.md) (4 minutes)" in block


def test_another_backend_and_a_trial_have_sections_of_their_own(fake):
    run(fake)
    other = fake.results / "paper/other"
    for path in [*fake.kept.rglob("*.json"), *fake.kept.rglob("*.md")]:
        target = other / path.relative_to(fake.kept)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text().replace('"version": "0.6"', '"version": "0.7"'))
    overrides = ("SOLVER.CHECKPOINT_PERIOD", "3")
    fake.setting = Setting("paper", overrides, fake.setting.root)
    for name in "ab":
        detect(fake, fake.truth, name, 1, NEAR, **ORIGIN)
    assert save(fake, "--", *overrides) == 0
    titles = [line for line in results_block(fake.results).splitlines() if line.startswith("###")]
    name = maskrcnn_repro.BACKEND.name
    assert sorted(titles) == sorted(
        [
            "### Claims by level",
            f"### mini_coco_val: level {fake.setting.label}, {name} Detectron2 0.6",
            f"### mini_coco_val: level paper, {name} Detectron2 0.6",
            f"### mini_coco_val: level paper, {name} Detectron2 0.7",
        ]
    )


def test_under_an_overlay_claims_are_judged_and_say_on_what(fake, tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text("TEST: {DETECTIONS_PER_IMAGE: 7}\nVERSION: 2\n")
    fake.setting = Setting("paper", root=fake.setting.root, overlays=(own,))
    for name, offsets in (("a", FAR), ("b", NEAR)):
        detect(fake, fake.truth, name, 1, offsets, **ORIGIN)
    assert save(fake, "--overlay", str(own)) == 0
    said = "Claims judged on mini_coco_val (12 images) under own.yaml: not the paper's data and recipe."
    printed = capsys.readouterr().out
    assert f"{said}\nclaim b-over-a  images only  +60.0" in printed
    kept = fake.results / "paper-own" / maskrcnn_repro.BACKEND.name
    assert f"{said}\n\n| claim" in (kept / "tables/2c.md").read_text()
    record = json.loads((kept / "a/seed1.json").read_text())
    assert (record["level"], record["overlays"]) == ("paper-own", ["own.yaml"])
    block = results_block(fake.results)
    assert block.startswith("### mini_coco_val: level paper-own, ")
    assert "(12 images) under own.yaml: not the paper's data and recipe; machine: " in block


def test_seeds_that_a_new_report_lacks_are_no_longer_kept(fake):
    run(fake, seeds=(1, 2, 3))
    assert save(fake, "--seeds", "1") == 0
    names = [path.name for path in sorted((fake.kept / "a").iterdir())]
    assert names == ["draws_seed1.npz", "seed1.json"]
    assert "(seed 1), 1.0 minutes" in results_block(fake.results)


def test_a_table_of_another_run_than_is_kept_is_refused(fake, capsys):
    run(fake)
    path = fake.kept / "a/seed1.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["record"], "other"))
    with pytest.raises(TableError, match=r"2c.json was made from another run than .*a/seed1.json"):
        results_block(fake.results)
    path.unlink()
    assert main(fake.readme.parent) == 2
    assert (
        "save it again: maskrcnn table 2c --level paper --report --save-records."
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("b/seed2.json", "b/seed2.json: cannot be read"),
        ("b/draws_seed2.npz", "b seed 2: no interval (mask): its draws"),
    ],
)
def test_what_is_kept_is_not_saved_again_without_a_damaged_part(
    fake, name, said, monkeypatch, capsys
):
    assert run(fake) == 0
    shutil.rmtree(fake.setting.folder)
    monkeypatch.setattr(_location, "RESULTS", fake.results)
    words = ("--kept", "--seeds", "2")
    assert save(fake, *words) == 0
    (fake.kept / name).write_bytes(b"{")
    before = {file: file.read_bytes() for file in fake.results.rglob("*.*") if file.is_file()}
    capsys.readouterr()
    assert save(fake, *words) == 2
    error = capsys.readouterr().err
    assert "table 2c was not saved, for it would be without what is left out: " in error
    assert said in error
    assert {file: file.read_bytes() for file in before} == before


def test_marks_that_are_lost_are_told_before_anything_is_kept(fake, capsys):
    assert run(fake) == 0
    table, text = fake.kept / "tables/2c.json", fake.findings.read_text()
    before = table.read_bytes()
    for broken in (text.replace(END, "").encode(), b"\xff" + text.encode()):
        fake.findings.write_bytes(broken)
        table.write_bytes(b"{")
        assert save(fake) == 2
        assert f"Error: {fake.findings} " in capsys.readouterr().err
        assert table.read_bytes() == b"{"
    fake.findings.write_text(text)
    assert save(fake) == 0
    assert table.read_bytes() == before


def test_a_kept_file_that_cannot_be_read_is_named(fake):
    run(fake)
    (fake.kept / "a/seed1.json").write_text("{")
    with pytest.raises(TableError, match=r"a/seed1.json cannot be read"):
        results_block(fake.results)


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_its_marks_is_refused(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(TableError, match="needs <!-- results:begin --> and"):
        split_readme(tmp_path / "README.md")


def test_a_readme_of_another_project_is_left_alone(fake):
    fake.readme.write_text("Nothing of ours.")
    assert run(fake) == 0
    assert fake.readme.read_text() == "Nothing of ours."


def test_a_record_is_written_after_what_lies_beside_it_and_before_its_tables(fake, monkeypatch):
    kinds, move = [], os.replace

    def noted(source, target):
        if Path(target).is_relative_to(fake.kept):
            kinds.append(Path(target).stem.partition("_")[0])
        move(source, target)

    monkeypatch.setattr("maskrcnn_repro.utils.files.os.replace", noted)
    run(fake, seeds=(1,))
    assert list(dict.fromkeys(kinds)) == ["draws", "seed1", "2c", "claims"]
    assert kinds == sorted(kinds, key=["draws", "seed1", "2c", "claims"].index)


def test_a_full_disk_is_named_and_the_report_still_printed(fake, capsys, monkeypatch):
    run(fake)
    before = {path: path.read_bytes() for path in fake.kept.rglob("*.*")}
    capsys.readouterr()

    def full(*paths):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("maskrcnn_repro.utils.files.os.replace", full)
    assert save(fake) == 2
    printed = capsys.readouterr()
    assert "Of 2 claims: holds 1" in printed.out
    folder = fake.setting.folder
    assert printed.err.splitlines() == [
        f"Error: {folder / 'tables/2c.json'} cannot be written: No space left on device.",
        f"Error: {fake.kept / 'a/draws_seed1.npz'} cannot be written: No space left on device.",
    ]
    assert {path: path.read_bytes() for path in fake.kept.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/me/data/a.json", "a.json"),
        ("[['x', '/home/me/a.json', '/home/me/images']]", "[['x', 'a.json', 'images']]"),
        ("/runs/mini/a/seed1: broken", "a/seed1: broken"),
        ("detectron2://COCO/a/b.pkl https://a.b/c", "detectron2://COCO/a/b.pkl https://a.b/c"),
        ("relative/a.json 30 / 40", "relative/a.json 30 / 40"),
    ],
)
def test_no_folder_of_a_machine_stays_in_a_text(text, clean):
    assert scrub({"a": [text, 1, None]}, "/runs/mini") == {"a": [clean, 1, None]}
