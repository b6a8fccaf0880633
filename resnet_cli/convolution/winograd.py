"""A 3x3 convolution with a quarter of the multiplications, by Winograd's F(4x4, 3x3)."""

import platform
from functools import partial
from math import ceil
from threading import Lock

import torch
from torch import Tensor, nn

from resnet_cli.convolution.fused import FusedConv
from resnet_cli.convolution.tiles import (
    POINTS,
    filter_transform,
    gather,
    spread,
    stacked,
    tiles,
)
from resnet_cli.convolution.traced import Traced
from resnet_cli.system import cpu_instructions

IS_X86 = platform.machine() in ("x86_64", "AMD64")  # elsewhere many groups may be slow

MOST_WORK = 0.5  # of the direct convolution's multiplications: small images fill no tile

MOST_BYTES = 4 << 20  # of the values of some images

# with fewer, the sums take what the multiplications save: uncompiled, as each is a pass over memory
# of its own, and in bf16, whose multiplications take half the time
FEWEST_CHANNELS = 128

FEWEST_VALUES = 8192  # tiles times channels, uncompiled: fewer do not pay for the larger weights

COMPILED_SPREAD = Traced(partial(spread, lay=stacked))
COMPILED_GATHER = Traced(partial(gather, lay=stacked))

PREPARING = Lock()  # workers share a network


class WinogradConv(nn.Module):
    """A 3x3 convolution with ReLU, by Winograd's algorithm from the first pass that is worth it.

    But for the order of the arithmetic it is a ``FusedConv``: it errs by 1e-6 of what comes out,
    where that errs by 2e-7. In bf16 it errs by 1.2e-2, as what is rounded are the products before
    they are added, where that errs by 2e-3.
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
        self.in_full = conv.weight.dtype == torch.float32
        self.spread = COMPILED_SPREAD if compiled else spread
        self.gather = COMPILED_GATHER if compiled else gather

    def forward(self, images: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolve [N, C, H, W], add ``shortcut`` where there is one, and rectify."""
        direct = self.direct  # which another worker may take away meanwhile
        if direct is not None:
            if not self.pays(images.shape):
                return direct(images, shortcut)
            self.prepare()
        size = at_once(images.shape)
        if size < len(images):
            parts = images.split(size)
            shortcuts = [None] * len(parts) if shortcut is None else shortcut.split(size)
            return torch.cat([self(*pair) for pair in zip(parts, shortcuts, strict=True)])
        products = self.products(self.spread(images))
        return self.gather(products, self.bias, shortcut, images.shape)

    def pays(self, shape: torch.Size) -> bool:
        """Whether images [N, C, H, W] are done sooner by this algorithm."""
        count, channels, height, width = shape
        whole = tiles(height) * tiles(width)
        if POINTS**2 * whole > MOST_WORK * 9 * height * width:
            return False
        if self.compiled:
            return self.in_full or channels >= FEWEST_CHANNELS
        return channels >= FEWEST_CHANNELS and count * whole * channels >= FEWEST_VALUES

    def prepare(self) -> None:
        """Turn the weights into those of the products, unless another worker did."""
        with PREPARING:
            if self.direct is not None:
                self.products = FusedConv(products_of(self.direct.weight.to_dense()), relu=False)
                self.direct = None


def at_once(shape: torch.Size) -> int:
    """How many of images [N, C, H, W] have values that stay in the caches, in equal parts.

    For another number of images oneDNN may want the weights in another order.
    """
    count, channels, height, width = shape
    most = max(1, MOST_BYTES // (4 * POINTS**2 * channels * tiles(height) * tiles(width)))
    return ceil(count / ceil(count / most))


def products_of(weight: Tensor) -> nn.Conv2d:
    """The 1x1 convolution in 36 groups that stands for 3x3 weights [K, C, 3, 3]."""
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


def suits(conv: nn.Conv2d, *, compiled: bool) -> bool:
    """Whether the algorithm is one for a convolution: 3x3, dense, of every pixel."""
    settings = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    fits = settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
    return fits and saves(conv.weight.dtype, compiled=compiled)


def saves(dtype: torch.dtype, *, compiled: bool) -> bool:
    """Whether fewer multiplications are less work on this processor.

    In bf16 they are so beside sums that are compiled, and in fp32; and not where units for products
    of matrices leave nothing to save.
    """
    if dtype == torch.bfloat16:
        return IS_X86 and compiled and "amx_bf16" not in cpu_instructions()
    return IS_X86 and dtype == torch.float32
