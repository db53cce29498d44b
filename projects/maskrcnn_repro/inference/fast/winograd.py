"""3x3 convolutions in float32 by Winograd's minimal filtering, F(4 x 4, 3 x 3): a quarter of the multiplications.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): a tile of 4 x 4 outputs reads 6 x 6 cells, which
a linear map turns into 36 values; each of these is a matrix product over channels, and another linear map turns the
products into outputs.

N images or RoIs, C channels in and O out, H and W cells of a map, t rows and u columns of tiles, T tiles of a part.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# For the points 0, 1, -1, 2, -2 and infinity.
_INPUT = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNEL = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
_ONES = 7
"""Of the 36 values that one which is added to all outputs of its tile: of the point 1 along both axes."""
MIN_CHANNELS = 256
"""With fewer the linear maps take what the products save."""
PART = 136
"""Tiles that are computed together, so that they stay in the cache."""


def is_worthwhile(conv: nn.Conv2d) -> bool:
    """Tell whether a convolution can be computed so, and gains by it."""
    window = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    return (
        window == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
    )


class WinogradConv(nn.Module):
    """A 3x3 convolution of stride 1 and padding 1, then a sum with another map, then ReLU, the last two where asked for.

    Args:
        weight: (O, C, 3, 3), float32.
        bias: (O,), float32.
        relu: whether ReLU ends it.
    """

    bias: Tensor
    to_products: Tensor
    to_outputs: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool = False) -> None:
        super().__init__()
        self.relu, self.channels = relu, len(weight)
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        values = torch.einsum("ai,ocij,bj->aboc", kernel, weight.double(), kernel).float()
        self.weights = [
            torch.ops.mkldnn._reorder_linear_weight(value.contiguous(), PART)
            for value in values.flatten(0, 1)
        ]
        self.register_buffer("bias", bias, False)
        for name, rows in (("to_products", _INPUT), ("to_outputs", _OUTPUT)):
            matrix = torch.tensor(rows, dtype=torch.float32)
            self.register_buffer(name, torch.kron(matrix, matrix), False)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) to (N, O, H, W), channels-last, float32.

        Args:
            x: float; it is brought to float32.
            other: (N, O, H, W), to be added.
        """
        count, _, height, width = x.shape
        rows, columns = -(-height // 4), -(-width // 4)
        cells = x.float().permute(0, 2, 3, 1)
        around = (0, 0, 1, 4 * columns - width + 1, 1, 4 * rows - height + 1)
        tiles = F.pad(cells, around).unfold(1, 6, 4).unfold(2, 6, 4).permute(4, 5, 0, 1, 2, 3)
        y = tiles.new_empty(count, rows, 4, columns, 4, self.channels)
        for part in _split_tiles(count, rows, columns):
            self._compute(tiles[:, :, *part], y[part])
        y = y.view(count, 4 * rows, 4 * columns, self.channels)[:, :height, :width]
        y = y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        if other is not None:
            y = y.add_(other)
        return y.relu_() if self.relu else y

    def _compute(self, tiles: Tensor, y: Tensor) -> None:
        """Write the outputs, (n, r, 4, u, 4, O), of tiles (6, 6, n, r, u, C)."""
        shape = tiles.shape[2:5]
        values = _product(self.to_products, tiles.reshape(36, -1).t())
        values = values.view(36, shape.numel(), -1)
        products = [
            _product(value, weight, self.bias if place == _ONES else None)
            for place, (value, weight) in enumerate(zip(values, self.weights, strict=True))
        ]
        outputs = _product(self.to_outputs, torch.stack(products).view(36, -1).t())
        y.copy_(outputs.view(4, 4, *shape, self.channels).permute(2, 3, 0, 4, 1, 5))


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` by oneDNN: torch's own product takes twice as long on AMD's processors."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _split_tiles(count: int, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Yield the images and rows of tiles that are computed together."""
    images = max(1, PART // (rows * columns))
    height = rows if images > 1 else max(1, PART // columns)
    for image in range(0, count, images):
        for row in range(0, rows, height):
            yield slice(image, image + images), slice(row, row + height)
