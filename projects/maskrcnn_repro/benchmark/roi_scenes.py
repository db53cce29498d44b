"""Inputs and contenders of the RoI benchmark: feature maps and RoIs of the paper's sizes, and poolings.

Shape legend: C channels, R RoIs, P rows and columns of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maskrcnn_repro.roi_ops import RoIOpPooler, build_roi_op

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align, roi_pool

IMAGE = (800, 1344)
"""Rows and columns of the network's input, pixels."""

OPERATIONS = ("RoIAlignAve", "RoIWarpAve", "RoIAlignMax", "RoIWarpMax", "RoIPool")
SAMPLES = 2
Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Scene:
    """Sizes of an image's feature maps and number of its RoIs, each on the level for its size (FPN, eq. 1)."""

    channels: int
    strides: tuple[int, ...]
    """Strides of the maps, pixels of the network's input."""
    rois: int
    cells: int
    """P."""

    @property
    def name(self) -> str:
        """Short name, such as "C4 64 RoIs 7x7" or "P2-5 512 RoIs 7x7"."""
        levels = [stride.bit_length() - 1 for stride in self.strides]
        ends = levels[:1] if len(levels) == 1 else [levels[0], levels[-1]]
        maps = "C4" if self.strides == (16,) else "P" + "-".join(map(str, ends))
        return f"{maps} {self.rois} RoIs {self.cells}x{self.cells}"


C4 = [Scene(1024, (16,), rois, cells) for rois in (64, 300) for cells in (7, 14)]
FPN = [Scene(256, (4, 8, 16, 32), rois, cells) for rois, cells in ((512, 7), (100, 14))]
PAPER = (*C4, *FPN)
QUICK = (C4[0], FPN[0])
COUNTS = tuple(
    Scene(channels, (stride,), rois, 7)
    for channels, stride in ((1024, 16), (256, 4), (256, 8), (256, 32))
    for rois in (16, 64, 250, 1000)
)
"""Few and many RoIs on large and small maps: for contiguous features, which the kernels have to copy."""


class Pooling:
    """An implementation of an RoI operation with its inputs, to be timed.

    Args:
        pools: the operation for each level.
        maps: (1, C, H, W) for each level.
        rois: (R, 5) for each level, in pixels of the network's input.
        cells: P.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        maps: Sequence[torch.Tensor],
        rois: Sequence[torch.Tensor],
        cells: int,
    ) -> None:
        self.work = list(zip(pools, maps, rois, strict=True))
        self.grads = [
            _like(level_map, (len(r), level_map.shape[1], cells, cells))
            for _, level_map, r in self.work
        ]

    def forward(self) -> None:
        """Pool without gradients."""
        with torch.no_grad():
            for pool, level_map, rois in self.work:
                pool(level_map, rois)

    def step(self) -> None:
        """Pool, then compute the gradients of the maps."""
        maps = [level_map.detach().requires_grad_() for _, level_map, _ in self.work]
        out = [
            pool(level_map, rois)
            for level_map, (pool, _, rois) in zip(maps, self.work, strict=True)
        ]
        torch.autograd.backward(out, self.grads)


def random_maps(scene: Scene) -> list[torch.Tensor]:
    """Return the scene's feature maps, (1, C, H, W) float32, contiguous."""
    generator = torch.Generator().manual_seed(0)
    height, width = IMAGE
    return [
        torch.rand(1, scene.channels, height // s, width // s, generator=generator)
        for s in scene.strides
    ]


def random_rois(scene: Scene) -> list[torch.Tensor]:
    """Return the scene's RoIs by level, (R, 5) float32: index of the image, corners in pixels.

    All are inside the image; the square roots of their areas are log-uniform from 16 to 630 pixels, aspect
    ratios from 1:2 to 2:1.
    """
    generator = torch.Generator().manual_seed(1)
    draws = torch.rand(4, scene.rois, generator=generator)
    side, aspect = 16 * 2 ** (5.3 * draws[0]), 2 ** (2 * draws[1] - 1)
    size = torch.stack([side * aspect.sqrt(), side / aspect.sqrt()], dim=1)
    limit = torch.tensor([IMAGE[1], IMAGE[0]])
    size = size.minimum(limit)
    corner = draws[2:].T * (limit - size)
    rois = torch.cat([torch.zeros(scene.rois, 1), corner, corner + size], dim=1)
    scales = [1 / stride for stride in scene.strides]
    # Any operation will do, as only the assignment to levels is used.
    levels = RoIOpPooler("RoIPool", (1, 1), scales).assign_levels(rois)
    return [rois[levels == level] for level in range(len(scales))]


def poolings(scene: Scene, operations: Sequence[str], ways: Sequence[str]) -> dict[str, Pooling]:
    """Return this project's operations on a scene, and torchvision's counterparts.

    Args:
        scene: maps and RoIs.
        operations: of :data:`OPERATIONS`.
        ways: layouts of ours: "channels-last", "bfloat16" (channels-last, too), "contiguous".

    Returns:
        Poolings by name: that of :func:`reference_of`, or "operation way".
    """
    maps, rois = random_maps(scene), random_rois(scene)
    last = [level_map.to(memory_format=torch.channels_last) for level_map in maps]
    layouts = {
        "channels-last": last,
        "bfloat16": [level_map.bfloat16() for level_map in last] if "bfloat16" in ways else [],
        "contiguous": maps,
    }
    contenders = {
        reference: Pooling(_references(reference, scene), maps, rois, scene.cells)
        for reference in dict.fromkeys(map(reference_of, operations))
    }
    for name in operations:
        ours = [
            build_roi_op(name, (scene.cells, scene.cells), 1 / stride, samples=SAMPLES)
            for stride in scene.strides
        ]
        for way in ways:
            contenders[f"{name} {way}"] = Pooling(ours, layouts[way], rois, scene.cells)
    return contenders


def reference_of(operation: str) -> str:
    """Return the name of torchvision's counterpart with the same samples."""
    if operation == "RoIPool":
        return "roi_pool"
    return "roi_align" if operation.endswith("Ave") else "roi_align + max_pool2d"


def _references(name: str, scene: Scene) -> list[Pool]:
    def pool(scale: float) -> Pool:
        # `fine`: one sample per cell of a finer grid, as torchvision has no maximum of samples. `False`:
        # without the half-pixel shift, like ours by default.
        size, fine = (scene.cells, scene.cells), (scene.cells * SAMPLES, scene.cells * SAMPLES)
        if name == "roi_pool":
            return lambda features, rois: roi_pool(features, rois, size, scale)
        if name == "roi_align":
            return lambda features, rois: roi_align(features, rois, size, scale, SAMPLES, False)
        return lambda features, rois: F.max_pool2d(
            roi_align(features, rois, fine, scale, 1, False), SAMPLES
        )

    return [pool(1 / stride) for stride in scene.strides]


def _like(features: torch.Tensor, shape: tuple[int, int, int, int]) -> torch.Tensor:
    """Return a random gradient of the dtype and memory format of ``features``."""
    last = features.is_contiguous(memory_format=torch.channels_last)
    grad = torch.rand(shape).to(features.dtype)
    return grad.to(memory_format=torch.channels_last) if last else grad
