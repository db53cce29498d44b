"""Samplers: the order of the indices, shared by processes, repeated, grouped into batches."""

import itertools

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.data.samplers import (
    GroupedBatchSampler,
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from numpy.testing import assert_allclose
from torch.utils.data import SequentialSampler

from tests.helpers.data_cases import MISTAKE, take


@pytest.fixture
def as_rank(monkeypatch):
    def pretend(rank, world_size):
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world_size)

    return pretend


def test_training_sampler_order():
    assert take(TrainingSampler(3, shuffle=False), 7) == [0, 1, 2, 0, 1, 2, 0]
    generator = torch.Generator().manual_seed(5)
    epochs = [torch.randperm(4, generator=generator).tolist() for _ in range(3)]
    assert take(TrainingSampler(4, seed=5), 12) == list(itertools.chain(*epochs))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainingSampler(7, seed=1),
        lambda: RandomSubsetTrainingSampler(9, 0.5, seed_shuffle=1, seed_subset=2),
        lambda: RepeatFactorTrainingSampler(torch.tensor([1.0, 2.5, 0.3, 1.2]), seed=1),
    ],
    ids=["all", "subset", "repeat"],
)
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_one_stream(make, world_size, as_rank):
    whole = take(make(), 60)
    for rank in range(world_size):
        as_rank(rank, world_size)
        assert take(make(), 60 // world_size) == whole[rank::world_size]


def test_random_subset_keeps_to_its_subset():
    stream = take(RandomSubsetTrainingSampler(10, 0.4, seed_shuffle=0, seed_subset=3), 12)
    epochs = [sorted(stream[i : i + 4]) for i in (0, 4, 8)]
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(set(stream)) == 4
    for ratio in (0.0, 1.5, 0.01):
        with pytest.raises(MISTAKE):
            RandomSubsetTrainingSampler(10, ratio)


def test_repeat_factors_by_hand():
    classes = [[0, 1], [0], [0, 0, 2], []]
    dicts = [{"annotations": [{"category_id": c} for c in image]} for image in classes]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    # Class 0 is in 3 of 4 images, 1 and 2 in one each: r = max(1, sqrt(0.5 / f)).
    assert_allclose(factors(dicts, 0.5), [2**0.5, 1, 2**0.5, 1], rtol=1e-6)
    assert_allclose(factors(dicts, 0.5, sqrt=False), [2, 1, 2, 1])
    assert factors([], 0.5).shape == (0,)


def test_repeat_factor_sampler_repeats():
    whole = RepeatFactorTrainingSampler(torch.tensor([1.0, 3.0, 0.0]), shuffle=False, seed=0)
    assert take(whole, 8) == [0, 1, 1, 1, 0, 1, 1, 1]
    stream = take(RepeatFactorTrainingSampler(torch.tensor([1.0, 1.25]), seed=0), 9000)
    assert abs(stream.count(1) / stream.count(0) - 1.25) < 0.05


@pytest.mark.parametrize(("size", "world_size"), [(1, 3), (6, 3), (7, 3), (20, 6)])
def test_inference_sampler_covers_all_once(size, world_size, as_rank):
    shards = []
    for rank in range(world_size):
        as_rank(rank, world_size)
        sampler = InferenceSampler(size)
        shards.append(list(sampler))
        assert len(sampler) == len(shards[-1])
    assert list(itertools.chain(*shards)) == list(range(size))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("make", [TrainingSampler, InferenceSampler])
def test_samplers_need_elements(make):
    with pytest.raises(MISTAKE):
        make(0)


def test_training_sampler_needs_a_whole_number():
    with pytest.raises(TypeError, match="int"):
        TrainingSampler(2.5)


def test_grouped_batches():
    batches = GroupedBatchSampler(SequentialSampler(range(7)), [0, 1, 1, 0, 0, 1, 0], 2)
    # An element that is left over waits for the next round.
    assert [batch for batch in batches] == [[1, 2], [0, 3], [4, 6]]
    assert next(iter(batches)) == [5, 1]
