"""An interrupted and resumed training ends with the weights of the unbroken one, to the last bit."""

import itertools
import os
import random
import shutil
import subprocess
import sys
from contextlib import suppress

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data.stream import SampleStream, build_sample_loader
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.utils.randomness import Purpose, seed_everything, seeded

import numpy as np
import pytest
import torch
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import TrainingSampler

from tests.helpers.tiny_coco import command_line, write_tiny_coco

ITERATIONS = 5
# Random sizes, flips and a crop in a random place, so that augmentation draws much.
OPTS = [
    *("SOLVER.MAX_ITER", str(ITERATIONS)),
    *("SOLVER.CHECKPOINT_PERIOD", "2"),
    *("INPUT.MIN_SIZE_TRAIN", "(48,56,64)"),
    *("INPUT.CROP.ENABLED", "True"),
    *("DATASETS.TEST", "()"),
]
# Kills itself in iteration 3, after the checkpoint of iteration 1.
KILLED = """
import os, signal, sys
from maskrcnn_repro.engine import trainer
from maskrcnn_repro.engine.main import main

class Kill(trainer.Clock):
    def before_step(self):
        super().before_step()
        if self.trainer.iter == 3:
            os.kill(os.getpid(), signal.SIGKILL)

trainer.Clock = Kill  # in spawned processes, too
if __name__ == "__main__":
    sys.exit(main())
"""


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def weights(folder):
    return torch.load(folder / "model_final.pth")["model"]


def assert_same_weights(folder, other):
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


# --- random numbers


def test_random_numbers_follow_from_seed_purpose_and_number():
    def drawn(*key):
        with seeded(*key):
            return draw()

    keys = [
        (7, Purpose.SAMPLE, 3),
        (8, Purpose.SAMPLE, 3),
        (7, Purpose.ORDER, 3),
        (7, Purpose.SAMPLE, 4),
    ]
    first = [drawn(*key) for key in keys]
    assert first == [drawn(*key) for key in keys]
    assert len(set(itertools.chain(*first))) == 12
    seed_everything(*keys[0])
    assert draw() == first[0]


def test_a_block_leaves_the_generators_as_they_were():
    seed_everything(1, Purpose.STEP, 0, 0)
    expected = draw()
    seed_everything(1, Purpose.STEP, 0, 0)
    with suppress(ZeroDivisionError), seeded(7, Purpose.SAMPLE, 3):
        raise ZeroDivisionError(draw())
    assert draw() == expected


# --- order of the samples

RECORDS = [{"id": i, "width": 9 if i % 3 else 5, "height": 7} for i in range(10)]


def stream(first=0, by_shape=True):
    return SampleStream(
        RECORDS,
        lambda record: record | {"drawn": draw()},
        TrainingSampler(len(RECORDS), seed=3),
        groups=[by_shape and r["width"] > r["height"] for r in RECORDS],
        batch_size=2,
        seed=3,
        first=first,
    )


def take(samples, number):
    return list(itertools.islice(samples, number))


@pytest.mark.parametrize("by_shape", [False, True])
def test_the_order_is_that_of_detectron2(by_shape):
    order = [RECORDS[i] for i in take(TrainingSampler(len(RECORDS), seed=3), 60)]
    if by_shape:
        order = list(itertools.chain(*AspectRatioGroupedDataset(order, 2)))
    ours = take(stream(by_shape=by_shape), 50)
    assert [sample["id"] for sample in ours] == [record["id"] for record in order[:50]]


@pytest.mark.parametrize("by_shape", [False, True])
def test_a_stream_that_begins_later_gives_the_same_samples(by_shape):
    whole = take(stream(by_shape=by_shape), 60)
    assert take(stream(first=17, by_shape=by_shape), 26) == whole[34:]
    assert len({sample["drawn"] for sample in whole}) == 60


def test_processes_share_the_order_and_the_augmentations(monkeypatch):
    alone = take(stream(by_shape=False), 40)
    for module in ("detectron2.data.samplers.distributed_sampler", "maskrcnn_repro.data.stream"):
        monkeypatch.setattr(f"{module}.comm.get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        shares.append(take(stream(by_shape=False), 20))
    assert list(itertools.chain(*zip(*shares, strict=True))) == alone


def sample_loader(records, seed=0):
    cfg = get_config()
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH, cfg.SEED = 0, 2, seed
    return build_sample_loader(cfg, records, lambda record: record | {"drawn": draw()})


def test_seed_zero_is_a_seed_and_a_negative_one_is_drawn(monkeypatch):
    drawn = itertools.count(1)
    monkeypatch.setattr("maskrcnn_repro.data.stream.comm.shared_random_seed", lambda: next(drawn))
    first, second = (take(sample_loader(RECORDS, seed=0), 5) for _ in range(2))
    assert first == second
    first, second = (take(sample_loader(RECORDS, seed=-1), 5) for _ in range(2))
    assert first != second


def test_a_square_image_shares_batches_with_tall_ones_not_with_wide_ones():
    sizes = {"tall": (5, 7), "square": (7, 7), "wide": (9, 7)}
    records = [{"kind": kind, "width": w, "height": h} for kind, (w, h) in sizes.items()]
    batches = take(sample_loader(records), 40)
    kinds = {tuple(sorted(sample["kind"] for sample in batch)) for batch in batches}
    assert kinds == {("square", "tall"), ("wide", "wide")}


# --- whole trainings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """Folder of a training without interruption; not to be changed."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert main(command_line(data, folder, opts=OPTS)) == 0
    return folder


def interrupted(unbroken, folder, checkpoint="model_0000001.pth"):
    """Make a folder as it is left by a kill after the checkpoint."""
    folder.mkdir()
    for name in (checkpoint, "config.yaml"):
        shutil.copy(unbroken / name, folder)
    (folder / "last_checkpoint").write_text(checkpoint)
    return folder


def test_a_resumed_training_ends_with_the_same_weights(data, unbroken, tmp_path):
    folder = interrupted(unbroken, tmp_path / "run")
    assert main(command_line(data, folder, "--resume", opts=OPTS)) == 0
    assert_same_weights(folder, unbroken)


def test_a_seed_that_was_drawn_is_kept_on_resuming(data, tmp_path):
    opts = [*OPTS, "SEED", "-1", "SOLVER.MAX_ITER", "3"]
    assert main(command_line(data, tmp_path / "whole", opts=opts)) == 0
    folder = interrupted(tmp_path / "whole", tmp_path / "run")
    assert main(command_line(data, folder, "--resume", opts=opts)) == 0
    assert_same_weights(folder, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["1", "2"])
def test_a_faster_training_in_bfloat16_resumes_exactly(data, unbroken, tmp_path, parts):
    opts = [
        *OPTS,
        *("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"),
        *("MODEL.FAST_TRAINING", "True", "MODEL.CHECKPOINT_STAGES", "True"),
        *("SOLVER.ACCUMULATE", parts),
    ]
    assert main(command_line(data, tmp_path / "whole", opts=opts)) == 0
    folder = interrupted(tmp_path / "whole", tmp_path / "run")
    assert main(command_line(data, folder, "--resume", opts=opts)) == 0
    assert_same_weights(folder, tmp_path / "whole")
    with pytest.raises(AssertionError):
        assert_same_weights(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_training_resumes_exactly(data, unbroken, tmp_path, processes, workers):
    """Killed between two checkpoints; any number of workers goes on as one would."""
    options = ("--num-gpus", str(processes))
    opts = [*OPTS, "DATALOADER.NUM_WORKERS", str(workers)]
    if processes == 1:
        whole = unbroken
    else:
        whole = tmp_path / "whole"
        assert main(command_line(data, whole, *options, opts=OPTS)) == 0
    folder = tmp_path / "run"
    (tmp_path / "killed.py").write_text(KILLED)
    command = [
        sys.executable,
        tmp_path / "killed.py",
        *command_line(data, folder, *options, opts=opts),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False)
    assert done.returncode != 0
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth", done.stderr
    assert main(command_line(data, folder, *options, "--resume", opts=opts)) == 0
    assert_same_weights(folder, whole)
