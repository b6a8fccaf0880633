"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3).

A tile of 6x6 pixels gives 4x4 of the output. In one dimension, six pixels and three weights are
taken as polynomials, whose values at six points are multiplied: six multiplications for four
results in place of twelve. In both, they are 36 in place of 144. Each of the 36 is a matrix product
[tiles, C] x [C, K] of its own, which together are a 1x1 convolution in 36 groups. See A. Lavin and
S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.

The points are 0, two numbers and their negatives, and infinity.
"""

from collections.abc import Callable, Sequence
from threading import Lock

import torch
from torch import Tensor, nn

from resnet_cli.convolution import FusedConv

RESULTS = 4  # of a tile, in each direction
POINTS = RESULTS + 2  # a 3x3 convolution sees one pixel more on each side

# squares of the points: with them a network errs half as much as with those of the paper, 1 and 4
NEAR, FAR = 0.5, 2.0
NEAR_POINT, FAR_POINT = NEAR**0.5, FAR**0.5

MOST_WORK = 0.5  # of the direct convolution's multiplications: small images fill no tile

# uncompiled, when each sum is a pass over memory of its own
FEWEST_CHANNELS = 128  # with fewer, the sums take what the multiplications save
FEWEST_VALUES = 8192  # tiles times channels: fewer do not pay for weights of four times the size

Outs = Sequence[Tensor | None]
NOWHERE: Outs = (None,) * POINTS


def evaluate(pixels: Sequence[Tensor], outs: Outs = NOWHERE) -> list[Tensor]:
    """Turn six pixels into their polynomial's values at the six points, up to a factor each."""
    d0, d1, d2, d3, d4, d5 = pixels
    even, odd = torch.sub(d4, d2, alpha=FAR), torch.sub(d3, d1, alpha=FAR)
    even_far, odd_far = torch.sub(d4, d2, alpha=NEAR), torch.sub(d3, d1, alpha=NEAR)
    return [
        torch.sub(d0 + d4, d2, alpha=NEAR + FAR, out=outs[0]),
        torch.add(even, odd, alpha=NEAR_POINT, out=outs[1]),
        torch.sub(even, odd, alpha=NEAR_POINT, out=outs[2]),
        torch.add(even_far, odd_far, alpha=FAR_POINT, out=outs[3]),
        torch.sub(even_far, odd_far, alpha=FAR_POINT, out=outs[4]),
        torch.sub(d1 + d5, d3, alpha=NEAR + FAR, out=outs[5]),
    ]


def interpolate(products: Sequence[Tensor], outs: Outs = NOWHERE) -> list[Tensor]:
    """Turn six products, one a point, into the four results."""
    zero, near, minus_near, far, minus_far, infinity = products
    even, odd = near + minus_near, near - minus_near
    even_far, odd_far = far + minus_far, far - minus_far
    last = torch.add(infinity, odd, alpha=NEAR * NEAR_POINT)
    return [
        torch.add(zero + even, even_far, out=outs[0]),
        torch.add(odd * NEAR_POINT, odd_far, alpha=FAR_POINT, out=outs[1]),
        torch.add(even * NEAR, even_far, alpha=FAR, out=outs[2]),
        torch.add(last, odd_far, alpha=FAR * FAR_POINT, out=outs[3]),
    ]


def weights_at_points() -> Tensor:
    """What turns three weights into their values at the points: float64 [6, 3].

    It carries the factors that ``evaluate`` leaves out: with the points as the roots of a
    polynomial, its derivative there.
    """
    rows = [[1.0, 0.0, 0.0]]
    for square, other in ((NEAR, FAR), (FAR, NEAR)):
        factor = 1 / (2 * square * (square - other))
        rows += [[factor, sign * factor * square**0.5, factor * square] for sign in (1, -1)]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)


def side_by_side(
    formula: Callable[[Sequence[Tensor], Outs], list[Tensor]],
    parts: Sequence[Tensor],
    *,
    dim: int,
    count: int,
) -> Tensor:
    """Lay the ``count`` results of a formula along a new dimension."""
    if torch.compiler.is_compiling():  # which fuses the formula and the copies into one loop
        return torch.stack(formula(parts, NOWHERE), dim)
    shape = list(parts[0].shape)
    together = parts[0].new_empty([*shape[:dim], count, *shape[dim:]])
    formula(parts, together.unbind(dim))
    return together


def spread(images: Tensor) -> Tensor:
    """Turn images [N, C, H, W] into values [1, 36 C, tiles, 1], both channels-last."""
    count, channels, height, width = images.shape
    rows, columns = tiles(height), tiles(width)
    below, right = (RESULTS * number + 1 for number in (rows, columns))
    pixels = images.permute(0, 2, 3, 1)
    pixels = nn.functional.pad(pixels, (0, 0, 1, right - width, 1, below - height))
    down = pixels.unfold(1, POINTS, RESULTS).unbind(-1)
    values = side_by_side(evaluate, down, dim=2, count=POINTS)
    across = values.unfold(3, POINTS, RESULTS).transpose(2, 3).unbind(-1)
    values = side_by_side(evaluate, across, dim=4, count=POINTS)
    return values.view(1, count * rows * columns, 1, POINTS**2 * channels).permute(0, 3, 1, 2)


def gather(
    products: Tensor, bias: Tensor | None, shortcut: Tensor | None, size: Sequence[int]
) -> Tensor:
    """Turn products [1, 36 K, tiles, 1] into images [N, K, H, W] of N, H and W in ``size``.

    Bias and shortcut are added where there are any, and the sum is rectified.
    """
    count, height, width = size
    rows, columns = tiles(height), tiles(width)
    values = products.permute(0, 2, 3, 1).view(count, rows, columns, POINTS, POINTS, -1)
    values = side_by_side(interpolate, values.unbind(3), dim=2, count=RESULTS)
    values = side_by_side(interpolate, values.unbind(4), dim=4, count=RESULTS)
    images = values.view(count, RESULTS * rows, RESULTS * columns, -1).permute(0, 3, 1, 2)
    images = images[:, :, :height, :width]
    if bias is not None:
        images = images + bias[:, None, None]
    if shortcut is not None:
        images = images + shortcut
    return images.relu()


def tiles(pixels: int) -> int:
    """Tiles along so many pixels, the last one perhaps half used."""
    return -(-pixels // RESULTS)


PREPARING = Lock()  # workers share a network


class WinogradConv(nn.Module):
    """A 3x3 convolution with ReLU, by Winograd's algorithm from the first pass that is worth it.

    But for the order of the arithmetic it is a ``FusedConv``: it errs by 1e-6 of what comes out,
    where that errs by 2e-7.
    """

    def __init__(self, conv: nn.Conv2d, *, compiled: bool = False) -> None:
        """Take over a convolution.

        Args:
            conv: one that ``suits``, channels-last.
            compiled: run what surrounds the products through ``torch.compile``.
        """
        super().__init__()
        self.direct: FusedConv | None = FusedConv(conv, relu=True)
        self.products: FusedConv
        self.bias = self.direct.bias
        self.compiled = compiled
        self.spread = torch.compile(spread, dynamic=False) if compiled else spread
        self.gather = torch.compile(gather, dynamic=False) if compiled else gather

    def forward(self, images: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolve [N, C, H, W], add ``shortcut`` where there is one, and rectify."""
        direct = self.direct  # which another worker may take away meanwhile
        if direct is not None:
            if not self.pays(images.shape):
                return direct(images, shortcut)
            self.prepare()
        count, _, height, width = images.shape
        products = self.products(self.spread(images))
        return self.gather(products, self.bias, shortcut, (count, height, width))

    def pays(self, shape: torch.Size) -> bool:
        """Whether images [N, C, H, W] are done sooner by this algorithm."""
        count, channels, height, width = shape
        whole = tiles(height) * tiles(width)
        if POINTS**2 * whole > MOST_WORK * 9 * height * width:
            return False
        if self.compiled:
            return True
        return channels >= FEWEST_CHANNELS and count * whole * channels >= FEWEST_VALUES

    def prepare(self) -> None:
        """Turn the weights into those of the products, unless another worker did."""
        with PREPARING:
            if self.direct is not None:
                self.products = FusedConv(products_of(self.direct.weight.to_dense()), relu=False)
                self.direct = None


def products_of(weight: Tensor) -> nn.Conv2d:
    """The 1x1 convolution in 36 groups that stands for 3x3 weights [K, C, 3, 3]."""
    outputs, inputs = weight.shape[:2]
    points = weights_at_points()
    pixels = weight.permute(2, 3, 0, 1).reshape(9, -1)
    values = torch.kron(points, points).to(weight.dtype) @ pixels
    groups = POINTS**2
    conv = nn.utils.skip_init(
        nn.Conv2d, groups * inputs, groups * outputs, 1, groups=groups, bias=False
    )
    conv.weight = nn.Parameter(values.view(-1, inputs, 1, 1), requires_grad=False)
    return conv


def suits(conv: nn.Conv2d) -> bool:
    """Whether the algorithm is one for a convolution: 3x3, dense, of every pixel, in fp32.

    In bf16 its sums would lose digits that there are few of.
    """
    settings = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    return settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and conv.weight.dtype == torch.float32
