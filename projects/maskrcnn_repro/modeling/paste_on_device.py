"""Pasting of predicted masks into the image and their run-length encoding, on the device that they are on.

The same pixels as in :mod:`maskrcnn_repro.modeling.paste`, by operations on the pixels of many masks at once:
a GPU gains nothing by sampling few of them. On a CPU the encodings are equal byte for byte; on a GPU a pixel
whose value is the threshold up to rounding may differ. The host waits for the device once for the sizes of all
boxes, and then once for each :data:`CHUNK`, never for each mask.

Shape legend: R masks, m side of a mask in cells, H, W height and width of the image in pixels; of one box, w
columns and h rows of pixels that it can reach; T points of all boxes together, w * (h + 1) of each: a row below
the last one is outside of the object and ends every run at the end of its column.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from maskrcnn_repro.modeling.rle import RLEMasks
from maskrcnn_repro.utils.rle import RLE

import torch
import torch.nn.functional as F

BLOCK = 4096
"""Points of a mask that are sampled as an item of a batch."""
CHUNK = 1 << 21
"""Points that are in memory at once, about 100 bytes each."""
OUTSIDE = 9.0
"""A position that is far from the mask, in the units of ``grid_sample``."""


def encode_on_device(
    masks: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> RLEMasks:
    """Return each mask pasted into its box as a run-length encoding of the whole image.

    Args:
        masks: (R, m, m), float in [0, 1].
        boxes: (R, 4), on the same device: see :func:`maskrcnn_repro.modeling.paste.paste_to_rles`.
        image_size: H, W.
        threshold: in (0, 1); a pixel of at least this value belongs to the object.

    Returns:
        The R masks, on the host.
    """
    height, width = int(image_size[0]), int(image_size[1])
    if not len(masks):
        return RLEMasks([], (height, width))
    # Sampled in float32, whatever autocast says.
    masks, windows = masks.detach().float(), _Windows(boxes.detach().float(), height, width)
    parts = [_changes(masks, windows, blocks, height, threshold) for blocks in windows.chunks()]
    owner, pixel = (torch.cat(column) for column in zip(*parts, strict=True))
    counts, owner = _counts(owner, pixel, len(masks), height * width)
    return RLEMasks(_strings(counts, owner, (height, width)), (height, width))


class _Windows:
    """The pixels that the R masks can reach, on the device.

    Args:
        boxes: (R, 4) float32.
        height: H.
        width: W.
    """

    def __init__(self, boxes: torch.Tensor, height: int, width: int) -> None:
        start, end = boxes[:, :2], boxes[:, 2:]
        # NaN compares as false: such a box has no area either.
        valid = ((end > start) & (start > -torch.inf)).all(1)
        self.start, self.length = start, end - start
        first = _within(start.floor() - 1, width, height)
        stop = _within(end.ceil() + 1, width, height).maximum(first)
        self.first = first.where(valid[:, None], 0).long()
        self.size = (stop - first).where(valid[:, None], 0).long()
        """w and h, (R, 2)."""
        points = self.size[:, 0] * (self.size[:, 1] + 1)
        blocks = (points + BLOCK - 1) // BLOCK
        self.owner = torch.arange(len(boxes), device=boxes.device).repeat_interleave(blocks)
        """The mask of each block of points."""
        before = blocks.cumsum(0) - blocks
        self.begin = (
            torch.arange(len(self.owner), device=boxes.device) - before[self.owner]
        ) * BLOCK
        """Number of the block's first point among those of its mask."""

    def chunks(self) -> Iterator[slice]:
        """Yield slices of the blocks, at least one."""
        together = max(1, CHUNK // BLOCK)
        for first in range(0, max(1, len(self.owner)), together):
            yield slice(first, first + together)


def _within(corners: torch.Tensor, width: int, height: int) -> torch.Tensor:
    x, y = corners.unbind(1)
    return torch.stack([x.clamp(0, width), y.clamp(0, height)], dim=1)


def _changes(
    masks: torch.Tensor, windows: _Windows, blocks: slice, height: int, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where objects begin and end, in turn, in some blocks of points.

    Returns:
        The mask of each change, and its pixel, x * H + y, both int64, ascending.
    """
    owner = windows.owner[blocks]
    # The point before the block's first one tells whether the first is a change.
    points = torch.arange(-1, BLOCK, device=owner.device) + windows.begin[blocks, None]
    size, first = windows.size[owner, None], windows.first[owner, None]
    rows = size[..., 1] + 1
    column = points.div(rows, rounding_mode="floor")
    row = points - column * rows
    exists = (points >= 0) & (column < size[..., 0]) & (row < size[..., 1])
    places = torch.stack([column, row], dim=-1) + first
    # The operations of `paste._Axis`, in float32 and in the same order, for the same last bits.
    positions = (places.float() + 0.5 - windows.start[owner, None]) / windows.length[owner, None]
    positions = (positions * 2 - 1).where(exists[..., None], OUTSIDE)
    with torch.autocast(masks.device.type, enabled=False):
        values = F.grid_sample(masks[owner, None], positions[:, None], align_corners=False)[:, 0, 0]
    inside = (values >= threshold) & exists
    block, point = (inside[:, 1:] != inside[:, :-1]).nonzero(as_tuple=True)
    x, y = places[block, point + 1].unbind(-1)
    return owner[block], x * height + y


def _counts(
    owner: torch.Tensor, pixel: torch.Tensor, masks: int, pixels: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lengths of the runs of all masks, mask after mask, beginning with one outside of the object.

    Args:
        owner: the mask of each change, ascending.
        pixel: its pixel, ascending within a mask.
        masks: R.
        pixels: of the image.

    Returns:
        The counts, and the mask of each, both int64.
    """
    # An end that equals the next begin is none: the object goes on in the next column.
    key = owner * (pixels + 1) + pixel
    same = F.pad(key[1:] == key[:-1], (1, 1))
    kept = ~(same[: len(key)] | same[1:][: len(key)])
    every = torch.arange(masks, device=key.device)
    # Each mask ends with its last pixel, once.
    key = torch.cat([key[kept], every * (pixels + 1) + pixels]).unique()
    owner = key.div(pixels + 1, rounding_mode="floor")
    pixel = key - owner * (pixels + 1)
    before = F.pad(pixel[:-1], (1, 0))
    starts = F.pad(owner[1:] != owner[:-1], (1, 0), value=True)
    return pixel - before.where(~starts, 0), owner


def _strings(counts: torch.Tensor, owner: torch.Tensor, size: tuple[int, int]) -> list[RLE]:
    """Return COCO's compressed form of each mask's counts.

    From the fourth count on, each is written as its difference from the one before last: groups of five bits,
    lowest first, a sixth that says whether another follows, as characters from "0" on.
    """
    masks = int(owner[-1]) + 1
    number = torch.arange(len(owner), device=owner.device)
    lengths = torch.bincount(owner, minlength=masks)
    rank = number - (lengths.cumsum(0) - lengths)[owner]
    values = counts - F.pad(counts, (2, 0))[: len(counts)].where(rank > 2, 0)
    shifts = torch.arange(0, 35, 5, device=owner.device)
    groups, rest = (values[:, None] >> shifts) & 31, values[:, None] >> (shifts + 5)
    # The sign is that of the last group's fifth bit.
    more = rest != -(groups >> 4)
    written = F.pad(more[:, :-1].cumprod(1), (1, 0), value=1).bool()
    text = (groups + 32 * more + 48)[written].byte()
    ends = written.sum(1).cumsum(0)[lengths.cumsum(0) - 1]
    letters, stops = text.cpu().numpy().tobytes().decode("ascii"), [0, *ends.tolist()]
    parts = (letters[a:b] for a, b in itertools.pairwise(stops))
    return [{"size": list(size), "counts": part} for part in parts]
