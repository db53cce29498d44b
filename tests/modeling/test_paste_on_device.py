"""Masks pasted and encoded on their device: counts by hand, the CPU's bytes, blocks and chunks, empty masks."""

from maskrcnn_repro.modeling import paste_on_device
from maskrcnn_repro.modeling.paste import paste_to_rles
from maskrcnn_repro.modeling.paste_on_device import _counts, _strings, encode_on_device

import pytest
import torch
from pycocotools import mask as coco_mask

from tests.modeling.test_paste import MASKS, boxes_in, masks_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on_device(masks, boxes, size):
    return encode_on_device(masks.to(DEVICE), boxes.to(DEVICE), size).rles


def differing(masks, boxes, size):
    """The number of masks whose encodings are not the CPU's."""
    expected = paste_to_rles(masks, boxes, size).rles
    pairs = zip(on_device(masks, boxes, size), expected, strict=True)
    return sum(ours != theirs for ours, theirs in pairs)


def test_counts_by_hand():
    """12 pixels: one run through two columns, nothing, a run up to the last pixel, one from the first."""
    owner = torch.tensor([0, 0, 0, 0, 2, 2, 3, 3], device=DEVICE)
    pixel = torch.tensor([2, 4, 4, 7, 9, 12, 0, 5], device=DEVICE)
    counts, owner = _counts(owner, pixel, 4, 12)
    assert [counts[owner == mask].tolist() for mask in range(4)] == [
        [2, 5, 5],
        [12],
        [9, 3],
        [0, 5, 7],
    ]


@pytest.mark.parametrize(
    "counts",
    [[0, 1], [15, 16], [100, 31, 32, 1, 5000, 70000], [1 << 27, 3, 1 << 26, 2, 9, 1 << 27]],
)
def test_strings_are_cocos(counts):
    size = (1, sum(counts))
    rle = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
    owner = torch.zeros(len(counts), dtype=torch.int64, device=DEVICE)
    expected = {"size": list(size), "counts": rle["counts"].decode()}
    assert _strings(torch.tensor(counts, device=DEVICE), owner, size) == [expected]


@pytest.mark.skipif(DEVICE == "cuda", reason="a GPU may round the value of a pixel otherwise")
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("side", [1, 28])
def test_bytes_are_those_of_the_cpu(side, kind):
    for size in ((33, 17), (64, 80)):
        boxes = boxes_in(*size, 30)
        assert differing(masks_of(kind, len(boxes), side), boxes, size) == 0


@pytest.mark.skipif(DEVICE == "cuda", reason="a GPU may round the value of a pixel otherwise")
def test_blocks_and_chunks_change_nothing(monkeypatch):
    boxes, masks = boxes_in(64, 80, 12), masks_of("smooth", 12, 14)
    masks = masks[: len(boxes)]
    for block, chunk in ((7, 70), (64, 1), (1 << 20, 1 << 20)):
        monkeypatch.setattr(paste_on_device, "BLOCK", block)
        monkeypatch.setattr(paste_on_device, "CHUNK", chunk)
        assert differing(masks, boxes, (64, 80)) == 0


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "cuda", reason="a GPU may round the value of a pixel otherwise")
@pytest.mark.parametrize("kind", MASKS)
def test_large_images_too(kind):
    boxes = boxes_in(800, 1333, 40)
    assert differing(masks_of(kind, len(boxes), 28), boxes, (800, 1333)) == 0


def test_odd_boxes_have_the_cpus_masks():
    nan, inf = float("nan"), float("inf")
    corners = [
        (3, 4, 3, 9), (5, 5, 2, 9), (-9, -9, -5, -5), (95, 3, 99, 7), (0, 0, inf, 5), (-inf, 0, 4, 4),
        (1, 2, 4, inf), (nan, 0, 4, 4), (0, 0, 80, 64), (0, 0, 3e38, 3e38), (-3e38, 0, 3e38, 9),
    ]  # fmt: skip
    every, empty = torch.tensor(corners), torch.tensor(corners[:3])
    for boxes in (every, empty):
        for value in (1.0, nan):
            assert differing(torch.full((len(boxes), 14, 14), value), boxes, (64, 80)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_masks_are_an_empty_container_and_16_bits_are_read(dtype):
    none = encode_on_device(torch.zeros(0, 28, 28, device=DEVICE), torch.zeros(0, 4), (4, 6))
    assert (none.rles, none.image_size) == ([], (4, 6))
    masks, boxes = torch.ones(1, 1, 1, dtype=dtype, device=DEVICE), torch.tensor([[2.0, 1, 6, 5]])
    # As in test_paste: 12 pixels of at least one half.
    assert encode_on_device(masks, boxes.to(DEVICE), (6, 7))[0].sum() == 12


def test_masks_on_a_gpu_are_encoded_there(monkeypatch):
    from types import SimpleNamespace

    from maskrcnn_repro.modeling import paste

    called = []
    monkeypatch.setattr(paste, "encode_on_device", lambda *arguments: called.append(arguments))
    masks = SimpleNamespace(device=torch.device("cuda"))
    paste.paste_to_rles(masks, None, (4, 6), 0.3)
    assert called == [(masks, None, (4, 6), 0.3)]
