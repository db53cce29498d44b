"""Draws of images that are kept beside a record: read, left out and named when broken, compared with the record."""

import os
from dataclasses import replace

from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report.contradictions import refuse_contradicting
from maskrcnn_repro.tables.report.draw_files import _key
from maskrcnn_repro.tables.report.gather import Gathered
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.runs.records import Record

import numpy as np
import pytest

DRAWS = 1000
MASK_AP = Metric("AP", "AP", "segm", "AP")
WAVE = np.tile([-0.5, 0.5], DRAWS // 2)
"""Its mean is 0, its standard deviation 0.5."""


@pytest.fixture
def record(tmp_path):
    folder = tmp_path / "r50_c4"
    folder.mkdir()
    return Record(
        path=folder / "seed2.json",
        seed=2,
        metrics={"mini_coco_val": {"segm": {"AP": 30.0, "AP50": 50.0, "AP75": None}}},
        iterations=9,
        seconds=None,
        backend="embedded",
        commit=None,
        data={"mini_coco_val": "0" * 64},
        machine="a processor",
        weights="",
        written="2026-01-01",
        config_sha256="",
        kept="a run",
    )


def thousandths(points):
    return np.round(np.asarray(points) * 1000).astype(np.int32)


def content(record, **changed):
    whole = {
        "key": _key(record, "segm", DRAWS),
        "images": 1000,
        "AP": thousandths(30 + WAVE),
        "AP50": thousandths(50 + WAVE),
        "AP75": np.full(DRAWS, -1, dtype=np.int32),
    }
    return {f"segm {name}": value for name, value in {**whole, **changed}.items()}


def keep(record, arrays):
    np.savez(record.path.with_name("draws_seed2.npz"), **arrays)


def test_thousandths_are_points_and_minus_one_is_nothing(record):
    ap = thousandths(30 + WAVE)
    ap[7] = -1
    keep(record, content(record, AP=ap))
    values = Resampler().of(record, MASK_AP).values["AP"]
    assert (values[0], values[1], np.isnan(values).sum()) == (29.5, 30.5, 1)
    assert np.isnan(values[7])


def refused(record):
    gathered = Gathered({"r50_c4": {2: record}})
    refuse_contradicting(gathered)
    return gathered.refused.get("r50_c4", []), gathered.records["r50_c4"]


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (0.0, []),
        # Four standard deviations and 0.05 points.
        (2.04, []),
        (2.06, ["segm AP of 30.00 contradicts its draws, 32.06 ± 0.50"]),
        (-10, ["segm AP of 30.00 contradicts its draws, 20.00 ± 0.50"]),
    ],
)
def test_a_record_is_left_out_if_its_draws_are_of_another_ap(record, shift, said):
    keep(record, content(record, AP=thousandths(30 + shift + WAVE)))
    texts, there = refused(record)
    assert texts == [f"{record.path}: its {text}" for text in said]
    assert list(there) == ([] if said else [2])


def test_a_record_is_left_out_if_its_draws_are_of_an_ap_that_it_lacks(record):
    keep(record, content(record, AP=thousandths(30 + WAVE)))
    dataset = next(iter(record.metrics))
    nothing = {dataset: {**record.metrics[dataset], "segm": {"AP": None}}}
    texts, there = refused(replace(record, metrics=nothing))
    assert texts == [f"{record.path}: its segm AP is not there, though its draws are, 30.00 ± 0.50"]
    assert not there


def test_a_record_of_another_number_of_images_than_most_is_left_out(record):
    gathered = Gathered({"r50_c4": {}})
    for seed, images in ((1, 1000), (2, 1001), (3, 1000)):
        other = replace(record, seed=seed, path=record.path.with_name(f"seed{seed}.json"))
        arrays = content(other, images=images, AP=thousandths(30 + WAVE))
        np.savez(record.path.with_name(f"draws_seed{seed}.npz"), **arrays)
        gathered.records["r50_c4"][seed] = other
    refuse_contradicting(gathered)
    assert gathered.refused["r50_c4"] == [
        f"{record.path}: its draws are of 1001 images of mini_coco_val, those of most of 1000"
    ]
    assert list(gathered.records["r50_c4"]) == [1, 3]


def test_without_draws_nothing_contradicts(record):
    assert refused(record) == ([], {2: record})


def broken(record, name):
    """Keep draws with one defect."""
    file = record.path.with_name("draws_seed2.npz")
    if name == "pipe":
        os.mkfifo(file)
    elif name == "cut short":
        keep(record, content(record))
        file.write_bytes(file.read_bytes()[:900])
    elif name == "link":
        file.symlink_to("nowhere")
    elif name == "array":
        with file.open("wb") as stream:
            np.save(stream, WAVE)
    elif name == "unpacked":
        np.savez_compressed(file, **content(record, AP=np.zeros(13_000_000, np.int64)))
    elif name == "lacking":
        arrays = content(record)
        del arrays["segm AP"]
        keep(record, arrays)
    elif name == "other task":
        keep(record, {"bbox key": "a"})
    elif name != "absent":
        keep(record, content(record, **CHANGED[name]))


CHANGED = {
    "few": {"AP": thousandths(30 + WAVE[:10])},
    "words": {"AP": np.array(["30"] * DRAWS)},
    "far": {"AP": np.full(DRAWS, -2147483000, np.int32)},
    "infinite": {"AP50": np.full(DRAWS, np.inf)},
    "empty": {"AP": np.full(DRAWS, -1)},
    "images": {"images": "many"},
    "other run": {"key": "a"},
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "of images are not kept"),
        ("other task", "of images are not kept for segm"),
        ("other run", "FILE are of another record"),
        ("pipe", "FILE cannot be read: it is no file"),
        ("link", "FILE cannot be read: it is no file"),
        ("unpacked", "FILE cannot be read: unpacked it has over 100,000,000 bytes"),
        ("cut short", "FILE cannot be read"),
        ("array", "FILE cannot be read"),
        ("lacking", "FILE cannot be read: it lacks segm AP"),
        ("few", "FILE cannot be read: its segm AP is not of 1,000 numbers"),
        ("words", "FILE cannot be read: its segm AP is not of 1,000 numbers"),
        ("far", "FILE cannot be read: its segm AP is not from 0 to 100 points"),
        ("infinite", "FILE cannot be read: its segm AP50 is not from 0 to 100 points"),
        ("empty", "FILE cannot be read: most draws of 1000 images hold no object"),
        ("images", "FILE cannot be read: its segm images are no number"),
    ],
)
def test_draws_that_are_none_leave_the_interval_out_and_are_named(record, name, said):
    broken(record, name)
    source = Resampler()
    assert source.of(record, MASK_AP) is None
    said = said.replace("FILE", str(record.path.with_name("draws_seed2.npz")))
    assert source.problems_of([record]) == [f"r50_c4 seed 2: no interval (mask): its draws {said}"]
    # Nothing can be compared: the record counts in the mean.
    assert refused(record) == ([], {2: record})
