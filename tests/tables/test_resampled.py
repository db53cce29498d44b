"""AP on draws of the test images: kept beside the run, made again when in doubt, refused when not the record's."""

import json
import os
from dataclasses import replace

from maskrcnn_repro.data.panoptic.files import write_ids
from maskrcnn_repro.data.panoptic.truth import PanopticTruth
from maskrcnn_repro.evaluation.resampling import CategoryMatches, Matches, draw_images
from maskrcnn_repro.evaluation.surface_resampling import write_matches
from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report import matching as matching_module
from maskrcnn_repro.tables.report.gather import gather
from maskrcnn_repro.tables.report.resampled import Resampler

import numpy as np
import pytest

from tests.helpers.fake_detections import (
    EXACT,
    FAR,
    IMAGES,
    MISSED,
    NEAR,
    detect,
    use_truth,
    write_truth,
)
from tests.helpers.fake_runs import Fake

MASK_AP = Metric("AP", "AP", "segm", "AP")
MASK_AP75 = Metric("AP75", "AP75", "segm", "AP75")
SMALL_AP = Metric("APS", "APS", "segm", "APs")
HALF = [EXACT, MISSED] * (IMAGES // 2)
DRAWS = 40


@pytest.fixture
def fake(tmp_path, monkeypatch):
    fake = Fake(tmp_path, monkeypatch)
    fake.truth = write_truth(tmp_path)
    use_truth(monkeypatch, fake.truth)
    return fake


def record(fake, name="a", seed=1):
    return gather([name], fake.setting, fake.experiments).records[name][seed]


def resampler():
    resampler = Resampler(DRAWS, say=lambda line: resampler.said.append(line))
    resampler.said = []
    return resampler


def test_images_of_one_quality_have_the_same_ap_on_every_draw(fake):
    detect(fake, fake.truth, "a", 1, NEAR)
    draws = resampler().of(record(fake), MASK_AP)
    assert draws.images == IMAGES
    assert draws.values["AP"] == pytest.approx(np.full(DRAWS, 70.0))
    assert draws.values["AP75"] == pytest.approx(np.full(DRAWS, 100.0))


def test_half_of_the_images_by_hand(fake):
    detect(fake, fake.truth, "a", 1, HALF)
    values = resampler().of(record(fake), MASK_AP).values["AP"]
    # As many objects are found as drawn images are even; without a wrong detection that is the AP, but for
    # the grid of 101 recalls.
    share = 100 * draw_images(IMAGES, DRAWS, seed=0)[:, ::2].sum(axis=1) / IMAGES
    assert values == pytest.approx(share, abs=1.0)
    assert values.std() > 5


def test_a_metric_that_was_not_measured_or_is_not_of_all_objects_has_no_draws(fake):
    detect(fake, fake.truth, "a", 1, HALF)
    draws_of = resampler()
    assert draws_of.of(record(fake), SMALL_AP) is None
    assert draws_of.of(record(fake), Metric("kpAP", "AP kp", "keypoints", "AP")) is None
    assert draws_of.problems == {}


def write_panoptic(folder, ids_of):
    """A panoptic JSON of one class of stuff beside its PNG files, by image."""
    png = folder / "panoptic_results"
    png.mkdir(parents=True)
    annotations = []
    for image in range(IMAGES):
        ids = np.array(ids_of(image))
        write_ids(png / f"{image}.png", ids)
        segments = [{"id": 1, "category_id": 7, "area": ids.size}] if ids.any() else []
        name = {"image_id": image, "file_name": f"{image}.png"}
        annotations.append({**name, "segments_info": segments})
    categories = [{"id": 7, "name": "sky", "isthing": 0}]
    file = folder / "panoptic_results.json"
    file.write_text(json.dumps({"annotations": annotations, "categories": categories}))
    return PanopticTruth.read(file, png, results=True)


def test_pq_of_images_half_of_which_are_empty_by_hand(fake, tmp_path, monkeypatch):
    truth = write_panoptic(tmp_path / "truth", lambda image: [[1, 1]])
    monkeypatch.setattr(matching_module, "open_truth", lambda name: truth)
    # Six matches of IoU 1 and six misses: 6 / (6 + 6 / 2).
    folder = detect(fake, fake.truth, "a", 1, EXACT, metrics={"panoptic": {"PQ": 200 / 3}})
    write_panoptic(folder / "inference/mini_coco_val", lambda image: [[1 - image % 2] * 2])
    draws_of = resampler()
    values = draws_of.of(record(fake), Metric("PQ", "PQ", "panoptic", "PQ")).values["PQ"]
    even, odd = (draw_images(IMAGES, DRAWS, seed=0)[:, k::2].sum(axis=1) for k in (0, 1))
    np.testing.assert_allclose(values, 100 * even / (even + odd / 2))
    assert draws_of.of(record(fake), Metric("SQ", "SQ", "panoptic", "SQ")) is None
    detect(fake, fake.truth, "a", 1, EXACT, metrics={"panoptic": {"PQ": 50.0}})
    assert "its PQ is 66.67, the record's 50.00" in problem(fake, "panoptic", "PQ")


def test_gps_of_images_half_of_which_are_missed_by_hand(fake):
    folder = detect(fake, fake.truth, "a", 1, EXACT, metrics={"densepose_gps": {"AP": 5100 / 101}})
    file = folder / "inference/mini_coco_val/densepose_matches.npz"
    cure = "(No such file or directory); an evaluation writes it: run it again with --eval-only"
    text = f"{folder}: no interval (GPS): {file} cannot be read {cure}"
    assert problem(fake, "densepose_gps", "AP") == text
    hits = np.ones((10, IMAGES // 2), bool)
    people = CategoryMatches(np.arange(0, IMAGES, 2), hits, ~hits, np.ones(IMAGES, int))
    write_matches(file, {"densepose_gps": Matches(tuple(range(IMAGES)), (people,))})
    values = resampler().of(record(fake), Metric("GPS", "GPS", "densepose_gps", "AP")).values
    share = 100 * draw_images(IMAGES, DRAWS, seed=0)[:, ::2].sum(axis=1) / IMAGES
    assert values["AP"] == pytest.approx(share, abs=1.0)
    assert values["AP"].std() > 5
    detect(fake, fake.truth, "a", 1, EXACT, metrics={"densepose_gps": {"AP": 40.0}})
    assert "its GPS AP is 50.50, the record's 40.00" in problem(fake, "densepose_gps", "AP")


def test_what_was_drawn_once_is_read_from_beside_the_run(fake, monkeypatch):
    folder = detect(fake, fake.truth, "a", 1, HALF)
    first = resampler()
    values = first.of(record(fake), MASK_AP).values
    assert first.said == ["Drawing test images again, for intervals: 1 evaluations."]
    assert (folder / "resampled_segm.npz").is_file()
    # Neither annotations nor detections are needed any more.
    use_truth(monkeypatch, None, digest=None)
    (folder / "inference/mini_coco_val/coco_instances_results.json").unlink()
    second = resampler()
    again = second.of(record(fake), MASK_AP75).values
    assert second.said == []
    assert all((again[name] == values[name]).all() for name in values)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY"])
def test_kept_draws_that_cannot_be_read_are_made_again(fake, content):
    folder = detect(fake, fake.truth, "a", 1, HALF)
    values = resampler().of(record(fake), MASK_AP).values["AP"]
    (folder / "resampled_segm.npz").write_bytes(content)
    again = resampler()
    assert (again.of(record(fake), MASK_AP).values["AP"] == values).all()
    assert len(again.said) == 1


def test_kept_draws_of_another_record_or_number_are_made_again(fake):
    folder = detect(fake, fake.truth, "a", 1, HALF)
    resampler().of(record(fake), MASK_AP)
    detect(fake, fake.truth, "a", 1, NEAR)
    assert resampler().of(record(fake), MASK_AP).values["AP"] == pytest.approx(np.full(DRAWS, 70))
    assert len(Resampler(DRAWS + 1).of(record(fake), MASK_AP).values["AP"]) == DRAWS + 1
    assert sorted(p.name for p in folder.glob("*resampled*")) == ["resampled_segm.npz"]


def test_kept_draws_of_another_version_of_the_data_are_made_again(fake, monkeypatch):
    detect(fake, fake.truth, "a", 1, HALF)
    kept_record = record(fake)
    resampler().of(kept_record, MASK_AP)
    other = replace(kept_record, data={**kept_record.data, "mini_coco_val": "f" * 64})
    use_truth(monkeypatch, fake.truth, digest="f" * 64)
    for expected in (1, 0):
        again = resampler()
        assert again.of(other, MASK_AP) is not None
        assert len(again.said) == expected


def only_object(fake, image):
    """Leave the object of this image alone in the annotations."""
    tree = json.loads(fake.truth.read_text())
    tree["annotations"] = [
        annotation for annotation in tree["annotations"] if annotation["image_id"] == image
    ]
    fake.truth.write_text(json.dumps(tree))


def test_draws_without_objects_are_nan_and_too_many_of_them_give_no_interval(fake):
    missing = (draw_images(IMAGES, 5, seed=0) == 0).sum(axis=0)
    assert missing.max() == 4  # of five draws
    only_object(fake, int(missing.argmax()))
    detect(fake, fake.truth, "a", 1, EXACT)
    few = Resampler(5)
    assert few.of(record(fake), MASK_AP) is None
    (text,) = few.problems_of([record(fake)])
    assert text.endswith("no interval (mask): most draws of 12 images hold no object")
    # An image is in no draw of twelve with a probability of (11 / 12) ** 12 = 0.35.
    values = Resampler(1000).of(record(fake), MASK_AP).values["AP"]
    assert np.isnan(values).mean() == pytest.approx(0.35, abs=0.05)


def test_a_full_disk_costs_the_kept_draws_alone(fake, monkeypatch):
    folder = detect(fake, fake.truth, "a", 1, HALF)

    def full(*paths):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("maskrcnn_repro.utils.files.os.replace", full)
    source = resampler()
    assert source.of(record(fake), MASK_AP).values["AP"].std() > 5
    assert source.problems == {}
    (said,) = source.said[1:]
    assert said.startswith(f"{folder / 'resampled_segm.npz'} cannot be written: No space left on")
    assert list(folder.glob("*resampled*")) == list(folder.glob(".part*")) == []


def problem(fake, task="segm", key="AP"):
    source = resampler()
    assert source.of(record(fake), Metric(key, key, task, key)) is None
    (text,) = source.problems_of([record(fake)])
    return text


def test_detections_of_another_evaluation_are_refused(fake):
    folder = detect(fake, fake.truth, "a", 1, FAR, metrics={"segm": {"AP": 10.2}})
    assert problem(fake) == (
        f"{folder}: no interval (mask): {folder / 'inference/mini_coco_val/coco_instances_results.json'} is of "
        "another evaluation than results.json: its mask AP is 10.00, the record's 10.20"
    )
    assert not (folder / "resampled_segm.npz").exists()


@pytest.mark.parametrize("content", [None, "[{", "{}"])
def test_detections_that_cannot_be_read_are_named(fake, content):
    folder = detect(fake, fake.truth, "a", 1, FAR)
    file = folder / "inference/mini_coco_val/coco_instances_results.json"
    file.unlink() if content is None else file.write_text(content)
    assert problem(fake).startswith(f"{folder}: no interval (mask): {file}")


def test_annotations_that_are_gone_are_named(fake, monkeypatch):
    detect(fake, fake.truth, "a", 1, FAR)
    use_truth(monkeypatch, None, digest=None)
    assert "the annotations of data set mini_coco_val are not on this machine" in problem(fake)


def test_annotations_of_another_version_are_refused(fake, monkeypatch):
    detect(fake, fake.truth, "a", 1, FAR)
    kept_record = record(fake)
    use_truth(monkeypatch, fake.truth, digest="f" * 64)
    again = resampler()
    assert again.of(kept_record, MASK_AP) is None
    assert "(SHA-256 ffffffff, not 00000000)" in again.problems[kept_record.path, "segm"]


def test_a_later_evaluation_has_its_own_detections_and_draws(fake):
    folder = detect(fake, fake.truth, "a", 1, FAR)
    resampler().of(record(fake), MASK_AP)
    # Evaluated again: predictions are overwritten, the record lies beside them.
    kept = (folder / "config.yaml").read_bytes(), json.loads((folder / "results.json").read_text())
    detect(fake, fake.truth, "a", 1, NEAR)
    better = json.loads((folder / "results.json").read_text()) | {"written": "2026-02-01"}
    (folder / "results.json").write_text(json.dumps(kept[1]))
    (folder / "inference/config.yaml").write_bytes(kept[0])
    (folder / "inference/results.json").write_text(json.dumps(better))
    assert record(fake).path == folder / "inference/results.json"
    assert resampler().of(record(fake), MASK_AP).values["AP"] == pytest.approx(np.full(DRAWS, 70))
    assert (folder / "inference/resampled_segm.npz").is_file()


def test_keypoints_are_matched_with_the_sigmas_of_the_run(fake, monkeypatch):
    folder = detect(fake, fake.truth, "a", 1, EXACT, metrics={"keypoints": {"AP": 50.0}})
    config = folder / "config.yaml"
    text = config.read_text().replace("KEYPOINT_OKS_SIGMAS: []", "KEYPOINT_OKS_SIGMAS: [0.1, 0.2]")
    kept_record = record(fake)
    config.write_text(text)
    seen = []
    monkeypatch.setattr(
        matching_module,
        "match",
        lambda truth, file, task, sigmas: seen.append((task, list(sigmas))) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        resampler().of(kept_record, Metric("kpAP", "AP kp", "keypoints", "AP"))
    assert seen == [("keypoints", [0.1, 0.2])]
