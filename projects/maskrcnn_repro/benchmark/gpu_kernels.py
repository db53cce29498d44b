"""The kernels for GPUs against torch's form: differences, and the time that each takes.

Without a GPU they run in Triton's interpreter, whose times say nothing.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskrcnn_repro.benchmark.report import grid
from maskrcnn_repro.modeling.paste import paste_to_rles
from maskrcnn_repro.modeling.paste_on_device import encode_on_device
from maskrcnn_repro.roi_ops import RoIOpPooler

import torch
from detectron2.structures import Boxes

OPERATIONS = ("RoIAlignAve", "RoIAlignMax", "RoIWarpAve", "RoIWarpMax", "RoIPool")
DTYPES = (torch.float32, torch.bfloat16)
SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Of the largest number of what is compared."""
PASTE_TOLERANCE = 1e-4
"""Share of an image's pixels: those whose value is the threshold up to rounding."""


@dataclass(frozen=True)
class Size:
    """How large the maps, RoIs and masks are."""

    height: int
    """Of the network's input, in pixels."""
    width: int
    channels: int
    rois: int
    """Of each of two images."""
    cells: int
    """Side of the output."""
    masks: int


FULL = Size(height=800, width=1344, channels=256, rois=512, cells=7, masks=100)
TINY = Size(height=64, width=96, channels=2, rois=2, cells=1, masks=5)


@dataclass(frozen=True)
class Check:
    """A kernel beside torch's form."""

    name: str
    difference: float
    """The largest, as a share of the largest number."""
    allowed: float
    torch_seconds: float
    kernel_seconds: float

    @property
    def passed(self) -> bool:
        """Whether they agree."""
        return self.difference <= self.allowed


def checks(device: str, size: Size) -> Iterator[Check]:
    """Yield the comparison of each operation in each layout and dtype, then of pasting.

    Args:
        device: "cuda", or "cpu" with ``TRITON_INTERPRET=1`` in the environment.
        size: of the maps.
    """
    formats = (torch.channels_last, torch.contiguous_format)
    for name, memory_format, dtype in itertools.product(OPERATIONS, formats, DTYPES):
        layout = "channels-last" if memory_format == torch.channels_last else "contiguous"
        label = f"{name}, {layout}, {str(dtype)[6:]}"
        yield from _compare_pooling(label, name, _scene(device, size, dtype, memory_format), size)
    yield _pasted(device, size)


def table(results: Sequence[Check]) -> str:
    """Return a text table with a line per check."""
    rows = [
        [
            check.name,
            "ok" if check.passed else "WRONG",
            f"{check.difference:.1e}",
            f"{1e3 * check.torch_seconds:.2f} ms",
            f"{1e3 * check.kernel_seconds:.2f} ms",
            f"{check.torch_seconds / check.kernel_seconds:.2f}",
        ]
        for check in results
    ]
    return grid(rows, ["", "", "difference", "torch", "kernel", "torch / kernel"])


def as_json(check: Check) -> dict[str, Any]:
    """Return the fields of a check, and whether it passed."""
    return {**asdict(check), "passed": check.passed}


def _scene(
    device: str, size: Size, dtype: torch.dtype, memory_format: torch.memory_format
) -> tuple[list[torch.Tensor], list[Boxes]]:
    source = torch.Generator().manual_seed(0)
    features = []
    for scale in SCALES:
        shape = (2, size.channels, round(size.height * scale), round(size.width * scale))
        level = torch.randn(shape, generator=source).to(device, dtype)
        features.append(level.contiguous(memory_format=memory_format).requires_grad_())
    return features, [Boxes(_boxes(size, source).to(device)) for _ in range(2)]


def _boxes(size: Size, source: torch.Generator) -> torch.Tensor:
    """Return boxes of all scales, (rois, 4), some of them partly outside of the image."""
    image = torch.tensor([size.width, size.height])
    centre = torch.rand(size.rois, 2, generator=source) * image
    half = torch.rand(size.rois, 2, generator=source) ** 3 * 0.5 * image + 2
    return torch.cat([centre - half, centre + half], dim=1)


def _compare_pooling(
    label: str, name: str, scene: tuple[list[torch.Tensor], list[Boxes]], size: Size
) -> Iterator[Check]:
    """Yield the comparison of forward and backward."""
    features, boxes = scene
    side, allowed = (size.cells, size.cells), TOLERANCE[features[0].dtype]
    results, seconds = {}, {}
    for kernel in ("torch", "triton"):
        pooler = RoIOpPooler(name, side, SCALES, kernel=kernel)
        # In 16 bits, torch's form rounds samples before it compares them: the reference is in float32.
        wide = [level.detach().float().requires_grad_() for level in features]
        read = wide if kernel == "torch" else features
        out = pooler(read, boxes)
        grads = torch.autograd.grad(out.float().sin().sum(), read)
        results[kernel] = out, grads
        seconds[kernel] = _seconds(lambda pooler=pooler: _step(pooler, features, boxes))
    (expected, expected_grads), (out, grads) = results["torch"], results["triton"]
    times = [(seconds["torch"][i], seconds["triton"][i]) for i in range(2)]
    yield Check(f"{label}, forward", _difference([out], [expected]), allowed, *times[0])
    yield Check(f"{label}, backward", _difference(grads, expected_grads), 2 * allowed, *times[1])


def _step(
    pooler: RoIOpPooler, features: list[torch.Tensor], boxes: list[Boxes]
) -> tuple[float, float]:
    """Return the seconds of forward and of backward."""
    device = features[0].device
    marks = [_read_clock(device)]
    out = pooler(features, boxes)
    marks.append(_read_clock(device))
    torch.autograd.grad(out, features, torch.ones_like(out))
    marks.append(_read_clock(device))
    return marks[1] - marks[0], marks[2] - marks[1]


def _seconds(step: Any) -> tuple[float, float]:
    """Return the least seconds of forward and backward in a few steps, the first left out."""
    first = step()
    # Interpreted, a step takes seconds, and its time says nothing.
    steps = [step() for _ in range(10)] if sum(first) < 0.2 else [first]
    return min(each[0] for each in steps), min(each[1] for each in steps)


@torch.no_grad()
def _difference(tensors: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest difference as a share of the largest number of each tensor."""
    worst = 0.0
    for tensor, reference in zip(tensors, expected, strict=True):
        largest = reference.abs().max().clamp(min=1e-6)
        difference = (tensor.float() - reference.float()).abs().max() / largest
        # Comparisons with NaN are false: it would pass.
        worst = max(worst, math.inf if difference.isnan() else difference.item())
    return worst


def _pasted(device: str, size: Size) -> Check:
    """Return the comparison of masks pasted on the device with the CPU's, in pixels."""
    source = torch.Generator().manual_seed(0)
    image = (size.height, size.width)
    row = torch.linspace(-1, 1, 28)
    disc = (1.3 - torch.hypot(row[:, None], row)).clamp(0, 1)
    masks = (disc + 0.2 * torch.rand(size.masks, 28, 28, generator=source)).clamp(0, 1)
    boxes = _boxes(Size(*image, 1, size.masks, 1, size.masks), source)
    expected, on_cpu = _time(lambda: paste_to_rles(masks, boxes, image), torch.device("cpu"))
    placed = masks.to(device), boxes.to(device)
    encode_on_device(*placed, image)  # warms up
    encoded, on_device = _time(lambda: encode_on_device(*placed, image), placed[0].device)
    pairs = zip(encoded, expected, strict=True)
    worst = max(float((ours != theirs).mean()) for ours, theirs in pairs)
    allowed = 0.0 if device == "cpu" else PASTE_TOLERANCE
    return Check(
        f"{size.masks} masks to RLE (torch: on the CPU)", worst, allowed, on_cpu, on_device
    )


def _time(work: Any, device: torch.device) -> tuple[Any, float]:
    begin = _read_clock(device)
    result = work()
    return result, _read_clock(device) - begin


def _read_clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
