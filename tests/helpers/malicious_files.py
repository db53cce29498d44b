"""Files under the name of weights that ask for code, memory or time; each is small and made by code.

:data:`CASES` has a function for each that writes it into a folder and returns its address. A file that runs
code makes a folder named ``RAN`` in its own.
"""

import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import torch
from torch import nn

RAN = "ran"
BIG = 3 << 25
"""Bytes that a bomb unpacks to: more than the tests allow."""
HUGE = 10**10
CASES = {}


def case(suffix, name=None):
    """Register what makes the bytes of a file with this ending; or, returning None, writes it itself."""

    def register(make):
        title = (name or make.__name__).replace("_", " ")

        def write(folder):
            path = folder / f"{title.replace(' ', '_')}.{suffix}"
            content = make(path)
            if content is not None:
                path.write_bytes(content)
            return str(path)

        CASES[f"{suffix}: {title}"] = write
        return make

    return register


def raw(value):
    """The instructions that build a value, without the beginning and end of a pickle."""
    return pickle.dumps(value, 2)[2:-1]


def call(name, *arguments):
    """Instructions that call ``module:name``."""
    module, _, function = name.partition(":")
    return f"c{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def whole(instructions):
    return b"\x80\x02" + instructions + b"."


def named(instructions, key="body.weight"):
    """A pickled dict of one entry."""
    return whole(b"}" + raw(key) + instructions + b"s")


def tensor(numbers=12, offset=0, size=(4, 3), stride=(3, 1), kind="FloatStorage", key="0"):
    """Instructions for a tensor whose storage is in the archive."""
    storage = b"(" + raw("storage") + f"ctorch\n{kind}\n".encode() + raw(key) + raw("cpu")
    storage += raw(numbers) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = (storage, raw(offset), raw(size), raw(stride), b"\x89", hooks)
    return call("torch._utils:_rebuild_tensor_v2", *arguments)


def archive(description, storages=(b"\0" * 48,), compression=zipfile.ZIP_STORED, **more):
    """An archive as torch.save writes it."""
    members = {"data.pkl": description, "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{number}": storage for number, storage in enumerate(storages)}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in (members | more).items():
            file.writestr(f"archive/{name}", content)
    return stream.getvalue()


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def arrays(values, **more):
    """A file of Detectron2's model zoo."""
    return pickle.dumps({"model": values, "__author__": "x", **more}, 4)


def safetensors(tensors, data=b"", length=None):
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="F32", shape=(4, 3), begin=0, end=48):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


# --- archives of torch.save


case("pth", "zip bomb")(
    lambda _: archive(
        named(tensor(BIG // 4, size=(BIG // 4,), stride=(1,))), [bytes(BIG)], zipfile.ZIP_DEFLATED
    )
)
case("pth", "compressed by bzip2")(
    lambda _: archive(named(tensor()), compression=zipfile.ZIP_BZIP2)
)
case("pth", "bomb in the description")(
    lambda _: archive(named(tensor()) + bytes(BIG), compression=zipfile.ZIP_DEFLATED)
)
case("pth", "expanded tensor")(
    lambda _: saved({"body.weight": torch.zeros(1).expand(10**6, 10**6)})
)
case("pth", "expanded in one dimension")(
    lambda _: saved({"body.weight": torch.zeros(4, 1).expand(4, 10**9)})
)
case("pth", "overlapping windows")(
    lambda _: saved({"body.weight": torch.zeros(2000).as_strided((1000, 1000), (1, 1))})
)
case("pth", "tensors overlap in a storage")(
    lambda _: saved({f"a{i}": torch.zeros(0).set_(STORAGE, i, (900,), (1,)) for i in range(100)})
)
case("pth", "sparse tensor")(
    lambda _: saved({"body.weight": torch.sparse_coo_tensor([[0], [0]], [1.0], (10**6, 10**6))})
)
case("pth", "complex tensor")(
    lambda _: saved({"body.weight": torch.zeros(4, 3, dtype=torch.complex64)})
)
case("pth", "meta tensor")(
    lambda _: saved({"body.weight": torch.zeros(10**6, 10**6, device="meta")})
)
case("pth", "claimed storage")(lambda _: archive(named(tensor(HUGE, size=(HUGE,), stride=(1,)))))
case("pth", "tensor beyond its storage")(
    lambda _: archive(named(tensor(size=(4, 300), stride=(300, 1))))
)
case("pth", "negative stride")(lambda _: archive(named(tensor(stride=(-3, 1)))))
case("pth", "negative offset")(lambda _: archive(named(tensor(offset=-4))))
case("pth", "shape of another kind")(lambda _: archive(named(tensor(size=(4.0, "3")))))
case("pth", "one storage of two sizes")(
    lambda _: archive(
        whole(b"}" + raw("a") + tensor() + b"s" + raw("b") + tensor(6, kind="DoubleStorage") + b"s")
    )
)
case("pth", "no description")(lambda _: archive(b"").replace(b"data.pkl", b"none.pkl"))
case("pth", "archive in an archive")(
    lambda _: archive(b"", nested=archive(named(tensor()))).replace(b"data.pkl", b"none.pkl")
)
case("pth", "place in the memo")(lambda _: archive(whole(b"}r" + struct.pack("<L", 2**31 - 1))))
case("pth", "deep tuples as a key")(lambda _: archive(whole(b"})" + b"\x85" * 10**5 + b"Ns")))
case("pth", "tuples that double")(lambda _: archive(whole(b"})" + b"2\x86" * 60 + b"Ns")))
case("pth", "million lists")(
    lambda _: archive(whole(b"](" + b"]" * 5 * 10**5 * 2 + b"]" * 10**5 + b"e"))
)
case("pth", "claimed bytes")(lambda _: archive(whole(b"\x8e" + struct.pack("<Q", 1 << 60))))
case("pth", "bytearray of a number")(
    lambda _: archive(named(call("builtins:bytearray", raw(HUGE))))
)
case("pth", "call of the system")(
    lambda path: archive(named(call("os:mkdir", raw(str(path.with_name(RAN))))))
)
case("pth", "evaluated text")(
    lambda path: archive(
        named(call("builtins:eval", raw(f"__import__('os').mkdir({str(path.with_name(RAN))!r})")))
    )
)
case("pth", "whole module")(lambda _: saved(nn.Linear(3, 4)))
case("pth", "list of tensors")(lambda _: saved([torch.zeros(3)]))
case("pth", "names that are numbers")(lambda _: saved({1: torch.zeros(3), 2: torch.zeros(3)}))
case("pth", "self in itself")(lambda _: archive(whole(b"}q\0" + raw("model") + b"h\0s")))
STORAGE = torch.zeros(1000).untyped_storage()


@case("pth")
def quantized_tensor(_):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(
            {"body.weight": torch.quantize_per_tensor(torch.zeros(4, 3), 1.0, 0, torch.qint8)}
        )


@case("pth")
def members_of_one_name(_):
    return archive(named(tensor()), **{"DATA.pkl": named(tensor())})


@case("pth")
def overlapping_members(_):
    content = bytearray(archive(named(tensor()), [bytes(48), bytes(48)]))
    listed = [place for place in range(len(content)) if content[place : place + 4] == b"PK\1\2"]
    content[listed[-1] + 42 : listed[-1] + 46] = content[listed[-2] + 42 : listed[-2] + 46]
    return bytes(content)


@case("pth")
def huge_list_of_members(_):
    content = bytearray(archive(named(tensor())))
    content[-10:-6] = struct.pack("<L", BIG)
    return bytes(content)


@case("pth")
def encrypted_member(_):
    content = bytearray(archive(named(tensor())))
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


@case("pth")
def torchscript(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(3, 4)), str(path))


# --- files of torch.save before 1.6


def legacy(description, keys=("0",), data=b""):
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    head = b"".join(pickle.dumps(part, 2) for part in parts)
    return head + description + pickle.dumps(list(keys), 2) + data


def legacy_tensor(**options):
    return tensor(**options).replace(b"tQ", b"NtQ")


case("pth", "old: claimed storage")(
    lambda _: legacy(
        named(legacy_tensor(numbers=HUGE, size=(HUGE,), stride=(1,))), data=struct.pack("<Q", HUGE)
    )
)
case("pth", "old: expanded tensor")(
    lambda _: legacy(named(legacy_tensor(stride=(0, 0))), data=struct.pack("<Q", 12) + bytes(48))
)
case("pth", "old: view of a storage")(
    lambda _: legacy(named(tensor().replace(b"tQ", raw(("1", 0, HUGE)) + b"tQ")), data=bytes(56))
)
case("pth", "old: call of the system")(
    lambda path: legacy(named(call("os:mkdir", raw(str(path.with_name(RAN))))))
)
case("pth", "old: storages of other names")(lambda _: legacy(named(legacy_tensor()), keys=["7"]))


@case("pth", "older still: tar")
def _tar(path):
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("storages"))


# --- pickles of the model zoos


class Call:
    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


SHARED = np.zeros((256, 1024), np.float32)
case("pkl", "call of the system")(
    lambda path: arrays({"body.weight": Call(os.mkdir, str(path.with_name(RAN)))})
)
case("pkl", "call beside the weights")(
    lambda path: arrays({}, extra=Call(os.mkdir, str(path.with_name(RAN))))
)
case("pkl", "object array")(lambda _: arrays({"body.weight": np.array([[1, "a"]], dtype=object)}))
case("pkl", "addresses as an object array")(
    lambda _: arrays({"body.weight": np.zeros(4, np.int64)}).replace(b"i8", b"O8")
)
case("pkl", "complex array")(lambda _: arrays({"body.weight": np.zeros((4, 3), np.complex64)}))
case("pkl", "array of text")(lambda _: arrays({"body.weight": np.array(["a", "b"])}))
case("pkl", "array of records")(lambda _: arrays({"body.weight": np.zeros(3, "f4,f4")}))
case("pkl", "array of long doubles")(lambda _: arrays({"body.weight": np.zeros(3, np.longdouble)}))
case("pkl", "one array a thousand times")(lambda _: arrays({f"a{i}": SHARED for i in range(1000)}))
case("pkl", "claimed shape")(
    lambda _: arrays({"body.weight": np.zeros((3, 77777), "b")}).replace(
        raw(77777)[:5], raw(2**30)[:5]
    )
)
case("pkl", "place in the memo")(lambda _: whole(b"}r" + struct.pack("<L", 2**31 - 1)))
case("pkl", "deep tuples as a key")(lambda _: whole(b"})" + b"\x85" * 10**5 + b"Ns"))
case("pkl", "tuples that double")(lambda _: whole(b"})" + b"2\x86" * 60 + b"Ns"))
case("pkl", "million lists")(lambda _: whole(b"](" + b"]" * 5 * 10**5 * 2 + b"]" * 10**5 + b"e"))
case("pkl", "claimed bytes")(lambda _: whole(b"\x8e" + struct.pack("<Q", 1 << 60)))
case("pkl", "claimed frame")(lambda _: b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.")
case("pkl", "registered extension")(lambda _: whole(b"}" + raw("a") + b"\x82\x01s"))
case("pkl", "object outside the file")(lambda _: whole(b"}" + raw("a") + raw("0") + b"Qs"))
case("pkl", "buffer outside the file")(lambda _: b"\x80\x05}" + raw("a") + b"\x97s.")
case("pkl", "self in itself")(lambda _: whole(b"}q\0" + raw("blobs") + b"h\0s"))
case("pkl", "list in place of the weights")(lambda _: arrays([1, 2]))
case("pkl", "names that are numbers")(lambda _: pickle.dumps({1: SHARED}))
case("pkl", "no dict")(lambda _: pickle.dumps([SHARED]))
case("pkl", "number of too many digits")(lambda _: b"I" + b"9" * 10**6 + b"\n.")


# --- safetensors

case("safetensors", "length beyond the file")(lambda _: safetensors({}, length=1 << 60))
case("safetensors", "length of a whole memory")(lambda _: safetensors({}, length=BIG))
case("safetensors", "offsets beyond the file")(lambda _: safetensors({"a": entry()}, bytes(40)))
case("safetensors", "overlapping tensors")(
    lambda _: safetensors({"a": entry(), "b": entry()}, bytes(48))
)
case("safetensors", "hole before a tensor")(
    lambda _: safetensors({"a": entry(begin=8, end=56)}, bytes(56))
)
case("safetensors", "complex tensor")(lambda _: safetensors({"a": entry("C64", (2, 3))}, bytes(48)))
case("safetensors", "unheard type")(lambda _: safetensors({"a": entry("O64", (2, 3))}, bytes(48)))
case("safetensors", "shape that overflows")(
    lambda _: safetensors({"a": entry(shape=(1 << 62, 8))}, bytes(48))
)
case("safetensors", "negative shape")(
    lambda _: safetensors({"a": entry(shape=(-4, -3))}, bytes(48))
)
case("safetensors", "deep header")(lambda _: safetensors(b'{"a":' + b"[" * 10**6))
case("safetensors", "header of another text")(lambda _: safetensors(b"\xff" * 16))


# --- no weights at all

case("pth", "object array of numpy")(lambda _: numpy_file())
case("pth", "web page")(lambda _: b"<!DOCTYPE html><html>404</html>")
case("pth", "pointer of Git LFS")(
    lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
)
case("pth", "gzip")(lambda _: b"\x1f\x8b\x08\0" + bytes(20))
case("pth", "empty file")(lambda _: b"")
case("pkl", "empty file")(lambda _: b"")
case("safetensors", "empty file")(lambda _: b"")
case("pyth", "no model state")(lambda _: saved({"a": torch.zeros(3)}))
case("pth", "folder")(lambda path: path.mkdir())
case("pth", "pipe")(lambda path: os.mkfifo(path))
case("pth", "endless device")(lambda path: path.symlink_to("/dev/zero"))
case("pkl", "endless device")(lambda path: path.symlink_to("/dev/zero"))
case("safetensors", "endless device")(lambda path: path.symlink_to("/dev/zero"))
case("pth", "loop of links")(lambda path: path.symlink_to(path))
CASES["pth: name with a zero byte"] = lambda folder: str(folder / "a\0.pth")
CASES["pth: name too long"] = lambda folder: str(folder / ("a" * 5000 + ".pth"))


def numpy_file():
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    return stream.getvalue()
