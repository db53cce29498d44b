"""Compiles the Triton kernels for a GPU that need not be here: `compile_kernels.py CAPABILITY`, such as 90.

A process of its own: Triton decides at import whether kernels are interpreted.
"""

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "projects"))

from maskrcnn_repro.roi_ops import triton_kernels as kernels

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TILES = (
    {"BINS": 4, "CHANNELS": 128, "CHANNELS_LAST": True},
    {"BINS": 64, "CHANNELS": 8, "CHANNELS_LAST": False},
)
DTYPES = (("fp32", "fp32"), ("bf16", "fp32"), ("fp64", "fp64"))
NUMBERS = {"rows", "columns", "channels", "bin_step", "out_channel_step"}


def signature(kernel, dtype, wide, winners, constants):
    """Return Triton's type of each argument of a kernel."""
    types = dict.fromkeys(kernel.arg_names, "*i64") | dict.fromkeys(constants, "constexpr")
    types |= {name: "i32" for name in NUMBERS & set(types)}
    types |= {name: f"*{wide}" for name in types if name.endswith("_shares") or name == "table"}
    maps = {name for name in types if name.startswith("map") or name in ("out", "grad")}
    return types | dict.fromkeys(maps, f"*{dtype}") | {"winners": winners}


def variants():
    """Yield each kernel, the dtype of its winners, and its own constants."""
    for maximum in (False, True):
        winners = "*u8" if maximum else "*fp32"
        own = {"SAMPLES": 2, "MAXIMUM": maximum}
        yield kernels.sampled_forward, winners, own | {"TRAINS": maximum}
        yield kernels.sampled_backward, winners, own
    yield kernels.pool_forward, "*i32", {"TRAINS": True}
    yield kernels.pool_backward, "*i32", {}


def main(capability):
    count = 0
    for (dtype, wide), tile, (kernel, winners, own) in itertools.product(
        DTYPES, TILES, list(variants())
    ):
        constants = {**own, **tile, "WIDE": tl.float64 if wide == "fp64" else tl.float32}
        types = signature(kernel, dtype, wide, winners, constants)
        source = ASTSource(kernel, signature=types, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        count += "cubin" in compiled.asm
    print(count)


if __name__ == "__main__":
    main(int(sys.argv[1]))
