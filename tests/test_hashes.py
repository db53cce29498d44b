"""The digest of a model's weights: of names, types, shapes and bytes alone."""

import hashlib
import struct

from maskrcnn_repro.utils.hashes import weights_digest

import pytest
import torch


def test_a_digest_by_hand():
    state = {"b": torch.tensor(3), "a": torch.tensor([1.0, -2.0])}
    content = b'["a", "float32", [2]]' + struct.pack("<2f", 1, -2)
    content += b'["b", "int64", []]' + struct.pack("<q", 3)
    assert weights_digest(state) == hashlib.sha256(content).hexdigest()


def test_a_digest_does_not_depend_on_order_layout_and_file(tmp_path):
    weight = torch.arange(24.0).reshape(1, 2, 3, 4)
    state = {"w": weight, "half": torch.ones(2, dtype=torch.bfloat16), "none": torch.empty(0)}
    digest = weights_digest(state)
    torch.save(state, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    for name in ("a.pth", "b.pth"):
        assert weights_digest(torch.load(tmp_path / name, weights_only=True)) == digest
    last = weight.contiguous(memory_format=torch.channels_last)
    other = dict(reversed({**state, "w": torch.nn.Parameter(last)}.items()))
    assert weights_digest(other) == digest


@pytest.mark.parametrize(
    "other",
    [{"v": torch.zeros(2)}, {"w": torch.zeros(2, 1)}, {"w": torch.zeros(2, dtype=torch.int32)}],
    ids=["name", "shape", "type"],
)
def test_a_digest_tells_names_shapes_and_types(other):
    assert weights_digest(other) != weights_digest({"w": torch.zeros(2)})
