"""Surfaces of the objects of an image as a field of Detectron2's ``Instances``.

Letters: N objects, P points of the object with most.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints

import torch
import torch.nn.functional as F
from torch import Tensor


class SurfaceTargets:
    """The annotated surfaces of objects, for training; chosen by index, they share their memory.

    Args:
        points: (M, P, 5) float32: x, y, chart, u, v of annotated objects; chart -1 where an object has fewer points.
        parts: (M, 256, 256) uint8.
        has_parts: (M,) bool, whether the parts are annotated.
        index: (N,) int64, the annotated object that each of these is.
    """

    def __init__(self, points: Tensor, parts: Tensor, has_parts: Tensor, index: Tensor) -> None:
        self._points, self._parts, self._has_parts = points, parts, has_parts
        self.index = index

    @classmethod
    def of(cls, surfaces: Sequence[SurfacePoints | None]) -> SurfaceTargets:
        """Return those of annotations, None for an object without."""
        most = max((len(s.points) for s in surfaces if s), default=0)
        points = torch.full((len(surfaces), most, 5), -1.0)
        parts = torch.zeros((len(surfaces), SIDE, SIDE), dtype=torch.uint8)
        for k, surface in enumerate(surfaces):
            if surface is not None:
                points[k, : len(surface.points)] = torch.from_numpy(surface.points).float()
                if surface.parts is not None:
                    parts[k] = torch.from_numpy(surface.parts.copy())
        has_parts = [s is not None and s.parts is not None for s in surfaces]
        return cls(points, parts, torch.tensor(has_parts).bool(), torch.arange(len(surfaces)))

    @classmethod
    def cat(cls, parts: Sequence[SurfaceTargets]) -> SurfaceTargets:
        """Return the objects of several images."""
        most = max(part._points.shape[1] for part in parts)
        padded = [
            F.pad(part._points, (0, 0, 0, most - part._points.shape[1]), value=-1.0)
            for part in parts
        ]
        starts = itertools.accumulate((len(part._points) for part in parts), initial=0)
        index = [part.index + start for part, start in zip(parts, starts, strict=False)]
        return cls(
            torch.cat(padded),
            torch.cat([part._parts for part in parts]),
            torch.cat([part._has_parts for part in parts]),
            torch.cat(index),
        )

    @property
    def points(self) -> Tensor:
        """(N, P, 5), see above."""
        return self._points[self.index]

    @property
    def parts(self) -> Tensor:
        """(N, 256, 256)."""
        return self._parts[self.index]

    @property
    def has_parts(self) -> Tensor:
        """(N,)."""
        return self._has_parts[self.index]

    @property
    def annotated(self) -> Tensor:
        """(N,) bool, whether an object has points."""
        return (self._points[..., 2] >= 0).any(dim=1)[self.index]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | slice | Tensor) -> SurfaceTargets:
        chosen = torch.atleast_1d(self.index[item])
        return SurfaceTargets(self._points, self._parts, self._has_parts, chosen)

    def to(self, *args: Any, **kwargs: Any) -> SurfaceTargets:
        """Return the same on a device."""
        tensors = (self._points, self._parts, self._has_parts, self.index)
        return SurfaceTargets(*(tensor.to(*args, **kwargs) for tensor in tensors))
