"""From records to batches: lists, mapped and grouped data sets, stored proposals, loaders."""

import pickle

from maskrcnn_repro import BACKEND

import numpy as np
import pytest
import torch
from detectron2.data import (
    DatasetFromList,
    MapDataset,
    ToIterableDataset,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    load_proposals_into_dataset,
)
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.common import (
    AspectRatioGroupedDataset,
    set_default_dataset_from_list_serialize_method,
)
from detectron2.data.samplers import InferenceSampler, TrainingSampler
from detectron2.structures import BoxMode
from numpy.testing import assert_allclose
from torch.utils.data import IterableDataset

from tests.helpers.data_cases import MISTAKE, take

# Wrappers


def test_serialized_list_gives_copies():
    source = [{"a": [1]}, {"b": 2}]
    for dataset in (DatasetFromList(source), DatasetFromList(source, serialize=False)):
        dataset[0]["a"].append(9)
        assert [dataset[i] for i in range(len(dataset))] == source
        assert dataset[-1] == {"b": 2}
        with pytest.raises(IndexError):
            dataset[2]
    assert DatasetFromList(source, copy=False, serialize=False)[0] is source[0]
    with pytest.raises(TypeError):
        DatasetFromList(source, serialize="yes")


def test_serialization_can_be_replaced():
    assert DatasetFromList([1, 2], serialize=tuple)[1] == 2
    with set_default_dataset_from_list_serialize_method(lambda items: items[::-1]):
        assert DatasetFromList([1, 2])[0] == 2
    assert DatasetFromList([1, 2])[0] == 1


@pytest.mark.embedded_only
def test_empty_list_is_a_data_set():
    assert len(DatasetFromList([])) == 0


def test_map_dataset_replaces_what_is_refused():
    dataset = MapDataset(DatasetFromList(list(range(6))), lambda x: None if x % 2 else 10 * x)
    assert dataset[2] == 20
    assert {dataset[i] for i in (1, 3, 5)} <= {0, 20, 40}


def test_mapped_stream_leaves_out_what_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield from range(5)

    mapped = MapDataset(Stream(), lambda x: None if x == 3 else x + 1)
    assert isinstance(mapped, IterableDataset)
    assert list(mapped) == [1, 2, 3, 5]


@pytest.mark.embedded_only
def test_map_dataset_with_nothing_left():
    with pytest.raises(RuntimeError, match="all 2 samples"):
        MapDataset(DatasetFromList([1, 2]), lambda x: None)[0]


def test_mapped_data_set_with_a_closure_pickles():
    offset = 5

    def shifted(x, factor=2, *, sign=-1):
        return sign * (factor * x + offset)

    dataset = pickle.loads(pickle.dumps(MapDataset(DatasetFromList([1, 2]), shifted)))
    assert [dataset[0], dataset[1]] == [-7, -9]


def test_aspect_ratio_groups():
    sizes = [(4, 3), (3, 4), (5, 5), (6, 2), (1, 2)]
    samples = [{"width": w, "height": h} for w, h in sizes]
    groups = list(AspectRatioGroupedDataset(samples, 2))
    assert groups == [[samples[1], samples[2]], [samples[0], samples[3]]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_do_not_change_the_order(num_workers):
    stream = ToIterableDataset(DatasetFromList(list("abcdefg")), InferenceSampler(7), True, 2)
    loader = torch.utils.data.DataLoader(stream, 2, num_workers=num_workers, collate_fn="".join)
    assert list(loader) == ["ab", "cd", "ef", "g"]


def _random_number(_):
    return float(np.random.rand())


def test_workers_draw_different_numbers_from_one_seed():
    def numbers():
        loader = build_detection_train_loader(
            list(range(8)),
            mapper=_random_number,
            sampler=TrainingSampler(8, seed=0),
            total_batch_size=1,
            aspect_ratio_grouping=False,
            num_workers=2,
            seed=3,
        )
        return [number for (number,) in take(loader, 4)]

    first = numbers()
    assert len(set(first)) == 4
    assert numbers() == first


# Proposals and loaders


def test_proposals(tmp_path):
    stored = {
        "indexes": [7, "8"],
        "boxes": [np.array([[0, 0, 4, 4], [2, 2, 2, 5], [1, 1, 30, 3]], dtype=np.float32)] * 2,
        "scores": [np.array([0.1, 0.5, 0.9], dtype=np.float32)] * 2,
        "bbox_mode": BoxMode.XYXY_ABS,
    }
    path = tmp_path / "proposals.pkl"
    path.write_bytes(pickle.dumps(stored))
    (record,) = load_proposals_into_dataset([{"image_id": 8}], str(path))
    assert_allclose(record["proposal_objectness_logits"], [0.9, 0.5, 0.1])
    doubled = T.TransformList([T.ResizeTransform(10, 10, 20, 20)])
    utils.transform_proposals(record, (20, 20), doubled, proposal_topk=5)
    # Clipped to the image; the box without width is gone.
    assert_allclose(record["proposals"].proposal_boxes.tensor, [[2, 2, 20, 6], [0, 0, 8, 8]])
    assert_allclose(record["proposals"].objectness_logits, [0.9, 0.1])
    assert "proposal_boxes" not in record
    with pytest.raises(KeyError, match="5"):
        load_proposals_into_dataset([{"image_id": 5}], str(path))


@pytest.mark.skipif(BACKEND.name == "installed", reason="Detectron2's own function runs any pickle")
def test_proposals_that_would_run_code_are_refused(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path / "ran").mkdir, ()

    path = tmp_path / "proposals.pkl"
    path.write_bytes(pickle.dumps({"ids": [], "code": Malicious()}))
    with pytest.raises(pickle.UnpicklingError, match="refused to load"):
        load_proposals_into_dataset([], str(path))
    assert not (tmp_path / "ran").exists()


def test_train_loader_is_endless_and_test_loader_is_not():
    train = build_detection_train_loader(
        [{"width": 2, "height": 1, "i": i} for i in range(3)], mapper=None, total_batch_size=2
    )
    indices = [sample["i"] for batch in take(train, 6) for sample in batch]
    assert sorted(indices) == sorted([0, 1, 2] * 4)
    test = build_detection_test_loader(list(range(5)), mapper=lambda x: x + 1, batch_size=2)
    assert list(test) == [[1, 2], [3, 4], [5]]


def test_batch_sizes_must_fit(monkeypatch):
    dataset, sampler = DatasetFromList([1, 2, 3, 4]), TrainingSampler(4)
    for total, single in ((4, 2), (0, None), (-2, None)):
        with pytest.raises(MISTAKE):
            build_batch_data_loader(dataset, sampler, total, single_gpu_batch_size=single)
    monkeypatch.setattr("detectron2.data.build.get_world_size", lambda: 2)
    with pytest.raises(MISTAKE, match="3"):
        build_batch_data_loader(dataset, sampler, 3)
    assert len(next(iter(build_batch_data_loader(dataset, sampler, 4)))) == 2
