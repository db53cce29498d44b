"""Damaged files of weights of every kind: loaded with the right shapes, or refused; never run."""

import io
import pickle
import struct

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.weight_file import read_outline, read_shapes

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from tests.fuzz.harness import try_files
from tests.fuzz.mutations import damaged, json_files, st
from tests.helpers import malicious_files as parts

pytestmark = pytest.mark.slow
SHAPES = {"body.weight": (4, 3), "body.bias": (4,)}


def model():
    return nn.ModuleDict({"body": nn.Linear(3, 4)})


def read(path):
    """Outline, shapes, and a start of training."""
    read_outline(path)
    read_shapes(path)
    body = model()
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    Checkpointer(body, "").load(str(path))
    after = body.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in after.items()} == SHAPES
    assert any(not torch.equal(before[name], after[name]) for name in before), "nothing was loaded"


def saved(legacy=False):
    stream = io.BytesIO()
    body, optimizer = model(), None
    optimizer = torch.optim.SGD(body.parameters(), 0.1, momentum=0.9)
    body["body"](torch.ones(3)).sum().backward()
    optimizer.step()
    content = {"model": body.state_dict(), "optimizer": optimizer.state_dict(), "iteration": 7}
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def zoo():
    return parts.arrays({name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})


def caffe2():
    return pickle.dumps(
        {"blobs": {"conv1_w": np.ones((2, 2), np.float32), "x_momentum": np.zeros(2)}}, 2
    )


def safetensors():
    return save({name: torch.ones(shape) for name, shape in SHAPES.items()})


TENSORS = {
    "body.weight": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]},
    "body.bias": {"dtype": "F32", "shape": [4], "data_offsets": [48, 64]},
    "__metadata__": {"format": "pt"},
}
FILES = {
    "pth": (saved(), saved(legacy=True)),
    "pkl": (zoo(), caffe2()),
    "safetensors": (safetensors(),),
}
OTHERS = [content for contents in FILES.values() for content in contents]
EXAMPLES = {"pth": 500, "pkl": 300, "safetensors": 200}


@pytest.mark.parametrize("suffix", FILES)
def test_damaged_bytes(tmp_path, suffix):
    contents = st.sampled_from(FILES[suffix]).flatmap(lambda content: damaged(content, OTHERS))
    try_files(read, tmp_path / f"weights.{suffix}", FILES[suffix][:1], contents, EXAMPLES[suffix])


MEMO = st.sampled_from([b"q\0", b"q\1", b"q\7", b"h\0", b"h\1", b"h\7", b"\x94", b"p1\n", b"g1\n"])
OPCODES = st.sampled_from(
    [
        b"(",
        b")",
        b"}",
        b"]",
        b"t",
        b"l",
        b"d",
        b"N",
        b"\x88",
        b"0",
        b"1",
        b"2",
        b"R",
        b"b",
        b"s",
        b"u",
        b"a",
        b"e",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x81",
        b"\x92",
        b"o",
        b"Q",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"\x93",
        b".",
    ]
)
VALUES = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.sampled_from([*SHAPES, "model"]),
).map(parts.raw)
NAMES = st.sampled_from(  # of classes and functions
    [
        "os:system",
        "builtins:eval",
        "builtins:getattr",
        "builtins:bytearray",
        "torch:load",
        "torch:Size",
        "torch:device",
        "collections:OrderedDict",
        "collections:Counter",
        "_codecs:encode",
        "torch.storage:UntypedStorage",
        "torch._utils:_rebuild_tensor_v2",
        "torch._utils:_rebuild_parameter",
        "torch:FloatStorage",
        "torch:float32",
        "numpy.core.multiarray:_reconstruct",
        "numpy._core.numeric:_frombuffer",
        "numpy:dtype",
        "numpy:ndarray",
    ]
).map(lambda name: b"c%s\n%s\n" % tuple(name.encode().split(b":")))
SIZES = st.sampled_from([(), (4,), (4, 3), (0,), (2**40,), (-1,), (3, 2**31)])
TENSOR = st.builds(
    lambda **options: parts.tensor(**options),
    numbers=st.sampled_from([0, 4, 12, 2**33]),
    offset=st.integers(-1, 13),
    size=SIZES,
    stride=SIZES,
    kind=st.sampled_from(["FloatStorage", "LongStorage", "ComplexFloatStorage", "UntypedStorage"]),
    key=st.sampled_from("012"),
)
EVIL = st.just(parts.call("os:mkdir", parts.raw(parts.RAN)))


INSTRUCTIONS = st.lists(st.one_of(OPCODES, VALUES, MEMO, NAMES, TENSOR, EVIL), max_size=30).map(
    b"".join
)
DESCRIPTIONS = INSTRUCTIONS.map(lambda i: parts.whole(b"}" + i)) | INSTRUCTIONS.map(parts.named)
CONTENTS = {
    "archive": DESCRIPTIONS.map(lambda d: parts.archive(d, [bytes(48), bytes(16)])),
    "old": DESCRIPTIONS.map(lambda d: parts.legacy(d, data=struct.pack("<Q", 12) + bytes(48))),
    "pickle": DESCRIPTIONS,
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_instructions_at_random(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights.{'pkl' if kind == 'pickle' else 'pth'}"
    try_files(read, path, [], CONTENTS[kind], 400)


def test_headers_of_safetensors(tmp_path):
    sound = parts.safetensors(TENSORS, bytes(64))
    contents = json_files(TENSORS).map(lambda header: parts.safetensors(header, bytes(64)))
    try_files(read, tmp_path / "weights.safetensors", [sound], contents, 300)
