"""From an RPN over its stored proposals to a detector on them, by the commands that a user types."""

import json
import shutil
from pathlib import Path

from maskrcnn_cli.training import PROPOSALS
from maskrcnn_repro.commands.proposals import split_datasets
from maskrcnn_repro.config import get_config
from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.store_proposals import _measured_recall, rpn_hash

import cv2
import numpy as np
import pytest

from tests.helpers.commands import proposals as store
from tests.helpers.proposal_files import RPN, on_stored
from tests.helpers.tiny_coco import command_line, write_tiny_coco


def read(path):
    return json.loads(Path(path).read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def rpn(data, tmp_path_factory):
    """Folder of a trained RPN and its stored proposals; not to be changed."""
    output = tmp_path_factory.mktemp("trained") / "rpn"
    assert main(command_line(data, output, opts=RPN)) == 0
    assert store(command_line(data, output, opts=RPN)) == 0
    return output


@pytest.fixture(scope="module")
def detector(data, rpn):
    """Folder of a detector trained on them; not to be changed."""
    output = rpn.with_name("detector")
    opts = on_stored(rpn / "proposals/tiny.proposals")
    assert main(command_line(data, output, opts=opts)) == 0
    return output


def test_an_rpn_alone_has_recall_and_a_picture(rpn):
    recall = read(rpn / "results.json")["metrics"]["tiny"]["box_proposals"]
    assert set(recall) == {f"AR{size}@{n}" for size in ("", "s", "m", "l") for n in (100, 1000)}
    assert 0 < recall["AR@100"] <= 100
    assert recall["ARl@100"] is None  # there is no object of 96 by 96 pixels
    assert cv2.imread(str(rpn / "predictions.png")).std() > 10


def test_evaluation_alone_prints_the_recall(data, rpn, tmp_path, capsys):
    copy = Path(shutil.copytree(rpn, tmp_path / "rpn"))
    assert main(command_line(data, copy, "--eval-only", opts=RPN)) == 0
    printed = capsys.readouterr().out
    assert "100 proposals" in printed
    assert read(copy / "inference/results.json")["metrics"] == read(rpn / "results.json")["metrics"]


def test_a_store_holds_what_the_rpn_proposes(rpn):
    proposals = ProposalStore(rpn / "proposals/tiny.proposals")
    proposals.verify()
    assert proposals.dataset == "tiny"
    assert proposals.image_ids() == [10, 11, 12, 13]
    boxes, logits = proposals[0]
    assert 0 < len(boxes) <= 20  # MODEL.RPN.POST_NMS_TOPK_TEST
    assert (np.diff(logits) <= 0).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 64
    origin = proposals.index["origin"]
    assert origin["weights"]["path"].endswith("model_final.pth")
    assert len(origin["weights"]["sha256"]) == 64


def test_recall_of_a_store_is_the_evaluations(rpn):
    recall = read(rpn / "proposals/recall.json")
    assert recall["recall"]["tiny"] == pytest.approx(
        read(rpn / "results.json")["metrics"]["tiny"]["box_proposals"], abs=1e-4
    )
    assert recall["origin"]["code"]["backend"]["name"]


def test_a_detector_learns_from_stored_proposals(detector):
    results = read(detector / "results.json")
    assert set(results["metrics"]["tiny"]) == {"bbox", "segm"}
    assert results["iterations"] == 2
    lines = [json.loads(line) for line in (detector / "metrics.json").read_text().splitlines()]
    assert any("loss_mask" in line for line in lines)
    assert not any("loss_rpn_cls" in line for line in lines)


def test_the_detectors_evaluation_repeats(data, rpn, detector, tmp_path):
    copy = Path(shutil.copytree(detector, tmp_path / "detector"))
    opts = on_stored(rpn / "proposals/tiny.proposals")
    assert main(command_line(data, copy, "--eval-only", opts=opts)) == 0
    alone, training = read(copy / "inference/results.json"), read(detector / "results.json")
    assert alone["metrics"] == training["metrics"]


def test_a_detectors_own_rpn_can_be_stored(data, rpn, tmp_path, capsys):
    """A detector with an RPN of the same weights gives the same proposals as the RPN alone."""
    output = tmp_path / "from_detector"
    weights = ["MODEL.WEIGHTS", str(rpn / "model_final.pth")]
    assert store(command_line(data, output, opts=weights)) == 0
    one = ProposalStore(output / "proposals/tiny.proposals")
    other = ProposalStore(rpn / "proposals/tiny.proposals")
    assert one.index["files"] == other.index["files"]


def test_a_finished_store_is_kept_and_another_rpns_is_redone(data, rpn, tmp_path, capsys):
    copy = Path(shutil.copytree(rpn, tmp_path / "rpn"))
    kept = copy / "proposals/tiny.proposals"

    def state():
        return kept.stat().st_ino, ProposalStore(kept).index["origin"]["weights"]["sha256"]

    before = state()
    assert store(command_line(data, copy, opts=RPN)) == 0
    assert state() == before
    assert "is there" in capsys.readouterr().out
    earlier = ["MODEL.WEIGHTS", str(copy / "model_0000000.pth")]
    assert store(command_line(data, copy, opts=[*RPN, *earlier])) == 0
    inode, sha256 = state()
    assert inode != before[0]
    assert sha256 != before[1]
    recall = read(copy / "proposals/recall.json")
    assert recall["origin"]["weights"]["sha256"] == sha256
    # Another test scale: other proposals of the same weights.
    assert store(command_line(data, copy, opts=[*RPN, *earlier, "INPUT.MIN_SIZE_TEST", "80"])) == 0
    assert state()[0] != inode


def test_a_store_of_other_images_is_redone(data, rpn, tmp_path):
    copy = Path(shutil.copytree(rpn, tmp_path / "rpn"))
    file = copy / "proposals/tiny.proposals/store.json"
    index = read(file)
    file.write_text(json.dumps({**index, "images_sha256": "0" * 64}))
    assert store(command_line(data, copy, opts=RPN)) == 0
    assert read(file)["images_sha256"] == index["images_sha256"]


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("INPUT.MIN_SIZE_TEST", 80, False),
        ("INPUT.MAX_SIZE_TEST", 90, False),
        ("INPUT.FORMAT", "RGB", False),
        ("INPUT.RESIZE", "torchvision", False),
        ("MODEL.RPN.NMS_THRESH", 0.6, False),
        ("INPUT.MIN_SIZE_TRAIN", (80,), True),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 3, True),
    ],
)
def test_proposals_follow_from_the_keys_of_the_rpn_and_the_test_images(key, value, same):
    cfg = get_config()
    changed = cfg.clone()
    changed.merge_from_list([key, value])
    assert (rpn_hash(changed) == rpn_hash(cfg)) == same


def test_mistakes_are_told_in_one_sentence(data, rpn, tmp_path, capsys):
    missing = command_line(data, tmp_path / "none", opts=RPN)
    assert store(missing) == 2
    assert "There are no weights: OUTPUT_DIR" in capsys.readouterr().err
    reads = command_line(data, tmp_path / "none", opts=on_stored(rpn / "proposals/tiny.proposals"))
    assert store(reads) == 2
    assert "reads proposals and makes none" in capsys.readouterr().err
    unknown = command_line(data, rpn, "--datasets", "tinny", opts=RPN)
    assert store(unknown) == 2
    assert "'tinny' is not a registered data set. Did you mean 'tiny'?" in capsys.readouterr().err
    wrong = command_line(data, tmp_path / "run", opts=on_stored(rpn / "proposals/other.proposals"))
    assert main(wrong) == 2
    assert "other.proposals' is no store of proposals" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


ORIGIN = {"rpn_config_sha256": "a", "weights": {"sha256": "b"}}


@pytest.mark.parametrize(
    "text",
    ["{}", "[1]", "{", "[" * 10**5, '{"origin": 1, "recall": {}}', '{"recall": 3}', "\xff"]
    + [json.dumps({"origin": ORIGIN, "recall": recall}) for recall in (3, {"a": 3}, [1], None)],
)
def test_a_damaged_recall_is_measured_again(tmp_path, text):
    file = tmp_path / "recall.json"
    file.write_text(text, encoding="latin1")
    assert _measured_recall(file, ORIGIN) == {}
    file.write_text(json.dumps({"origin": ORIGIN, "recall": {"a": {"AR": 5.0}}}))
    assert _measured_recall(file, ORIGIN) == {"a": {"AR": 5.0}}
    assert _measured_recall(file, {**ORIGIN, "rpn_config_sha256": "c"}) == {}


def test_names_of_data_sets_end_at_the_first_key():
    pair = ["MODEL.WEIGHTS", "d.pth"]
    args = PROPOSALS.arguments(["--config-file", "a.yaml", "--datasets", "b", "c", *pair])
    assert split_datasets(args.datasets) == (["b", "c"], pair)
    args = PROPOSALS.arguments(
        ["--config-file", "a.yaml", "--datasets", "b", "--num-gpus", "2", "SEED", "3"]
    )
    assert split_datasets(args.datasets) == (["b"], [])
    assert (args.num_gpus, args.opts) == (2, ["SEED", "3"])


@pytest.mark.slow
def test_two_processes_write_what_one_writes(data, rpn, tmp_path):
    output = tmp_path / "two"
    weights = ["MODEL.WEIGHTS", str(rpn / "model_final.pth")]
    assert store(command_line(data, output, "--num-gpus", "2", opts=[*RPN, *weights])) == 0
    one = ProposalStore(rpn / "proposals/tiny.proposals")
    two = ProposalStore(output / "proposals/tiny.proposals")
    assert one.index["files"] == two.index["files"]
