"""3x3 convolutions by Winograd's algorithm F(4x4, 3x3): a quarter of the multiplications.

A tile of 6x6 pixels gives 4x4 of the output. In one dimension three matrices do it, as in
``A' [(G weights) * (B' pixels)]``: six multiplications for four results, in place of twelve. In
both they are 36 in place of 144. For each of the 36 it is a matrix product [tiles, C] x [C, K],
and together these are a 1x1 convolution in 36 groups.

The matrices are those of a product of polynomials by its values at six points: 0, two numbers and
their negatives, and infinity. See A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural
Networks", 2016.
"""

import platform
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from threading import Lock

import torch
from torch import Tensor, nn

from resnet_cli.runtimes.private import FusedConv, Traced
from resnet_cli.system import cpu_instructions

RESULTS = 4  # of a tile, in each direction
POINTS = RESULTS + 2  # a 3x3 convolution sees one pixel more on each side

# squares of the points: half the error of a network with those of the paper, 1 and 4
NEAR, FAR = 0.5, 2.0
NEAR_POINT, FAR_POINT = NEAR**0.5, FAR**0.5

Outs = Sequence[Tensor | None]
NOWHERE: Outs = (None,) * POINTS


def input_transform(pixels: Sequence[Tensor], outs: Outs = NOWHERE) -> list[Tensor]:
    """Apply B': six pixels to six values, without the factors that ``filter_transform`` carries."""
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


def output_transform(products: Sequence[Tensor], outs: Outs = NOWHERE) -> list[Tensor]:
    """Apply A': six products, one a point, to the four results."""
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


def filter_transform() -> Tensor:
    """Return G, float64 [6, 3]: the values of three weights at the points, times their factors.

    The factor of a point is one over the derivative there of the polynomial with the points as
    its roots.
    """
    rows = [[1.0, 0.0, 0.0]]
    for square, other in ((NEAR, FAR), (FAR, NEAR)):
        factor = 1 / (2 * square * (square - other))
        rows += [[factor, sign * factor * square**0.5, factor * square] for sign in (1, -1)]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)


Formula = Callable[..., list[Tensor]]


def write_formula(formula: Formula, parts: Sequence[Tensor], dim: int, count: int) -> Tensor:
    """Write the ``count`` results of a formula side by side along a new dimension."""
    shape = list(parts[0].shape)
    together = parts[0].new_empty([*shape[:dim], count, *shape[dim:]])
    formula(parts, together.unbind(dim))
    return together


def stack_formula(formula: Formula, parts: Sequence[Tensor], dim: int, _: int) -> Tensor:
    """Do what ``write_formula`` does, in the way that compiles to one loop over all of it."""
    return torch.stack(formula(parts), dim)


Lay = Callable[[Formula, Sequence[Tensor], int, int], Tensor]


def spread_tiles(images: Tensor, lay: Lay = write_formula) -> Tensor:
    """Turn images [N, C, H, W] into values [1, 36 C, tiles, 1], both channels-last.

    All sums are in fp32, whatever the precision of the images and values.
    """
    count, channels, height, width = images.shape
    rows, columns = count_tiles(height), count_tiles(width)
    below, right = (RESULTS * number + 1 for number in (rows, columns))
    pixels = images.permute(0, 2, 3, 1).float()
    pixels = nn.functional.pad(pixels, (0, 0, 1, right - width, 1, below - height))
    down = pixels.unfold(1, POINTS, RESULTS).unbind(-1)
    values = lay(input_transform, down, 2, POINTS)
    across = values.unfold(3, POINTS, RESULTS).transpose(2, 3).unbind(-1)
    values = lay(input_transform, across, 4, POINTS)
    values = values.to(images.dtype).view(1, count * rows * columns, 1, POINTS**2 * channels)
    return values.permute(0, 3, 1, 2)


def gather_tiles(
    products: Tensor,
    bias: Tensor | None,
    shortcut: Tensor | None,
    shape: torch.Size,
    lay: Lay = write_formula,
) -> Tensor:
    """Turn products [1, 36 K, tiles, 1] into images [N, K, H, W], channels-last.

    Bias and shortcut are added if given; the sum is in fp32, and is rectified.

    Args:
        products: of the values of ``spread_tiles`` and the transformed weights.
        bias: [K].
        shortcut: [N, K, H, W].
        shape: of the images before the convolution, for N, H and W.
        lay: how results are laid side by side.
    """
    count, _, height, width = shape
    rows, columns = count_tiles(height), count_tiles(width)
    values = products.permute(0, 2, 3, 1).view(count, rows, columns, POINTS, POINTS, -1).float()
    values = lay(output_transform, values.unbind(3), 2, RESULTS)
    values = lay(output_transform, values.unbind(4), 4, RESULTS)
    images = values.view(count, RESULTS * rows, RESULTS * columns, -1).permute(0, 3, 1, 2)
    images = images[:, :, :height, :width]
    if bias is not None:
        images = images + bias[:, None, None]
    if shortcut is not None:
        images = images + shortcut
    return images.relu().to(products.dtype)


def count_tiles(pixels: int) -> int:
    """Count the tiles along a side of ``pixels``; the last one may be partly used."""
    return -(-pixels // RESULTS)


IS_X86 = platform.machine() in ("x86_64", "AMD64")  # elsewhere many groups may be slow

MOST_WORK = 0.5  # of the direct convolution's multiplications: small images waste tiles

MOST_BYTES = 4 << 20  # of the values that are in memory at a time

# with fewer, the sums cost what the multiplications save: uncompiled, where each is a pass over
# memory, and in bf16, where multiplications take half the time
FEWEST_CHANNELS = 128

FEWEST_VALUES = 8192  # tiles times channels, uncompiled: fewer do not pay for larger weights

COMPILED_SPREAD = Traced(partial(spread_tiles, lay=stack_formula))
COMPILED_GATHER = Traced(partial(gather_tiles, lay=stack_formula))

PREPARING = Lock()  # workers share a network


class WinogradConv(nn.Module):
    """A 3x3 convolution with ReLU, by Winograd's algorithm from the first pass where that pays.

    It computes what a ``FusedConv`` does, in another order: the relative error is 1e-6, in place of
    2e-7. In bf16 it is 1.2e-2, in place of 2e-3, as products are rounded before they are added.
    """

    def __init__(self, conv: nn.Conv2d, *, compiled: bool = False) -> None:
        """Take over a convolution.

        Args:
            conv: one that ``suits_winograd``, channels-last.
            compiled: compile what surrounds the products.
        """
        super().__init__()
        self.direct: FusedConv | None = FusedConv(conv, relu=True)
        self.products: FusedConv
        self.bias = self.direct.bias
        self.compiled = compiled
        self.in_full = conv.weight.dtype == torch.float32
        self.spread = COMPILED_SPREAD if compiled else spread_tiles
        self.gather = COMPILED_GATHER if compiled else gather_tiles

    def forward(self, images: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolve [N, C, H, W], add ``shortcut`` where there is one, and rectify."""
        direct = self.direct  # another worker may set it to None meanwhile
        if direct is not None:
            if not self.pays(images.shape):
                return direct(images, shortcut)
            self.prepare()
        size = part_size(images.shape)
        if size < len(images):
            parts = images.split(size)
            shortcuts = [None] * len(parts) if shortcut is None else shortcut.split(size)
            return torch.cat([self(*pair) for pair in zip(parts, shortcuts, strict=True)])
        products = self.products(self.spread(images))
        return self.gather(products, self.bias, shortcut, images.shape)

    def pays(self, shape: torch.Size) -> bool:
        """Return True if images [N, C, H, W] are faster by this algorithm."""
        count, channels, height, width = shape
        whole = count_tiles(height) * count_tiles(width)
        if POINTS**2 * whole > MOST_WORK * 9 * height * width:
            return False
        if self.compiled:
            return self.in_full or channels >= FEWEST_CHANNELS
        return channels >= FEWEST_CHANNELS and count * whole * channels >= FEWEST_VALUES

    def prepare(self) -> None:
        """Transform the weights for the products, unless another worker did."""
        with PREPARING:
            if self.direct is not None:
                self.products = FusedConv(build_products(self.direct.weight.to_dense()), relu=False)
                self.direct = None


def part_size(shape: torch.Size) -> int:
    """Return the size of equal parts of images [N, C, H, W] whose values stay in the caches.

    Equal, because oneDNN may want the weights in another order for another number of images.
    """
    count, channels, height, width = shape
    most = max(
        1, MOST_BYTES // (4 * POINTS**2 * channels * count_tiles(height) * count_tiles(width))
    )
    return ceil(count / ceil(count / most))


def build_products(weight: Tensor) -> nn.Conv2d:
    """Build the 1x1 convolution in 36 groups that stands for 3x3 weights [K, C, 3, 3]."""
    outputs, inputs = weight.shape[:2]
    transform = filter_transform()
    pixels = weight.permute(2, 3, 0, 1).reshape(9, -1)
    values = torch.kron(transform, transform).float() @ pixels.float()
    groups = POINTS**2
    conv = nn.utils.skip_init(
        nn.Conv2d, groups * inputs, groups * outputs, 1, groups=groups, bias=False
    )
    values = values.view(-1, inputs, 1, 1).to(weight.dtype)
    conv.weight = nn.Parameter(values, requires_grad=False)
    return conv


def suits_winograd(conv: nn.Conv2d, *, compiled: bool) -> bool:
    """Return True if a convolution can be computed this way: 3x3, dense, of every pixel."""
    settings = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    fits = settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
    return fits and saves_time(conv.weight.dtype, compiled=compiled)


def saves_time(dtype: torch.dtype, *, compiled: bool) -> bool:
    """Return True if fewer multiplications save time on this processor.

    They do in fp32, and in bf16 if the sums are compiled and the processor has no units for matrix
    products, which leave nothing to save.
    """
    if dtype == torch.bfloat16:
        return IS_X86 and compiled and "amx_bf16" not in cpu_instructions()
    return IS_X86 and dtype == torch.float32


def count_algorithms(network: nn.Module) -> dict[str, int]:
    """Count the convolutions that run by this algorithm, as of the last pass, and all others."""
    modules = list(network.modules())
    winograd = sum(isinstance(one, WinogradConv) and one.direct is None for one in modules)
    others = sum(isinstance(one, FusedConv | nn.Conv2d) for one in modules) - winograd  # products
    counts = {"Winograd F(4x4, 3x3)": winograd, "oneDNN direct": others}
    return {name: count for name, count in counts.items() if count}
