"""Operators of torch without a public name, each behind a self-test with a fall-back.

They are those that ``torch.compile`` calls on the CPU: convolutions of oneDNN with what follows
them fused in, and the compiler of a single graph. Where a release of torch lacks one, or it
computes something else, ``has_fused_operators`` or ``can_trace`` is False, or ``Traced`` runs its
function as it is. No other module names what torch does not promise to keep.
"""

import logging
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_cli.errors import describe
from resnet_cli.system import run_is_ending

log = logging.getLogger("resnet_cli")

PACKING = Lock()  # workers share a network


class FusedConv(nn.Module):
    """A convolution whose weights are packed once, with what follows it fused in.

    They are packed in the first pass: the order that oneDNN wants them in depends on the height and
    width of the images, though not on their number. In another order they would be packed again in
    every pass, which takes longer than the convolution.
    """

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self.settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.weight = conv.weight.detach()
        self.packed = False
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.after = "relu" if relu else "none"

    def forward(self, images: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolve [N, C, H, W], add ``shortcut`` if given, and rectify."""
        if not self.packed:
            self.pack(images.shape)
        run = torch.ops.mkldnn._convolution_pointwise
        given = (self.weight, self.bias, *self.settings)
        if shortcut is None:
            output: Tensor = run(images, *given, self.after, [], "")
        elif shortcut.shape[2:] == (1, 1):  # torch 2.11 cannot fuse a single pixel
            output = run(images, *given, "none", [], "").add_(shortcut).relu_()
        else:
            output = run.binary(images, shortcut, *given, "add", None, self.after, [], "")
        return output

    def pack(self, shape: torch.Size) -> None:
        """Bring the weights into the order for images [N, C, H, W], unless another worker did."""
        with PACKING:
            if not self.packed:
                reorder = torch.ops.mkldnn._reorder_convolution_weight
                self.weight = reorder(self.weight, *self.settings, list(shape))
                self.packed = True


@cache
def has_fused_operators(dtype: torch.dtype) -> bool:
    """Return True if this torch has the fused operators, and they compute what they stand for."""
    conv = nn.utils.skip_init(nn.Conv2d, 8, 8, 3, padding=1)
    for weights in conv.parameters():
        weights.data = torch.linspace(-0.1, 0.1, weights.numel()).view_as(weights)
    conv = conv.to(dtype, memory_format=torch.channels_last)
    images = torch.linspace(-1, 1, 8 * 36).view(1, 8, 6, 6)
    images = images.to(dtype, memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            alone = functional.relu(conv(images))
            added = functional.relu(conv(alone) + images)
            fused = FusedConv(conv, relu=True)
            first = fused(images)
            pairs = ((first, alone), (fused(alone, images), added))
            return all(map(are_close, *zip(*pairs, strict=True)))
    except (AttributeError, RuntimeError, TypeError):  # removed, or called differently now
        return False


def are_close(fast: Tensor, plain: Tensor) -> bool:
    """Return True if a result is that of the plain operators, but for rounding in bf16."""
    return torch.allclose(fast, plain, rtol=0.02, atol=0.02, equal_nan=True)


def can_trace() -> bool:
    """Return True if this torch has the compiler that ``Traced`` calls."""
    import torch._inductor

    return hasattr(torch._inductor, "standalone_compile")


class Traced:
    """A function of tensors, compiled for each combination of shapes and other arguments.

    A compiled function is used after it has given once what the function itself gives.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.ready: dict[tuple[object, ...], Callable[..., Tensor]] = {}
        self.lock = Lock()

    def __call__(self, *arguments: Any) -> Tensor:
        """Call the function; arguments other than tensors are hashable."""
        key = tuple(
            (given.dtype, given.shape, given.stride()) if isinstance(given, Tensor) else given
            for given in arguments
        )
        run = self.ready.get(key) or self.compiled(key, arguments)
        return run(*(given for given in arguments if isinstance(given, Tensor)))

    def compiled(
        self, key: tuple[object, ...], arguments: tuple[Any, ...]
    ) -> Callable[..., Tensor]:
        """Compile the function for these arguments, unless another worker did.

        Raises:
            KeyboardInterrupt: the run is being ended, and seconds of compiling remain.
        """

        def of_tensors(*tensors: Tensor) -> Tensor:
            rest = iter(tensors)
            return self.function(
                *(next(rest) if isinstance(given, Tensor) else given for given in arguments)
            )

        with self.lock:
            if key not in self.ready:
                if run_is_ending.is_set():
                    raise KeyboardInterrupt
                tensors = [given for given in arguments if isinstance(given, Tensor)]
                self.ready[key] = compile_graph(of_tensors, tensors)
        return self.ready[key]


# in Python's wrapper the other threads would wait, for the interpreter's lock, while one computes
OPTIONS = {"config_patches": {"cpp_wrapper": True}}


def compile_graph(function: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[..., Tensor]:
    """Compile a function for tensors like these; return it as it is where that does not work.

    Raises:
        RuntimeError: a C++ compiler is missing.
    """
    try:
        import torch._inductor
        from torch.fx.experimental.proxy_tensor import make_fx

        graph = make_fx(function)(*tensors)
        compiled: Callable[..., Tensor] = torch._inductor.standalone_compile(
            graph, [*tensors], dynamic_shapes="from_example_inputs", options=OPTIONS
        )
        if are_close(compiled(*tensors), function(*tensors)):
            return compiled
        reason = "its results differ"
    except (AttributeError, ImportError, TypeError) as error:  # removed, or called differently now
        reason = describe(error)
    log.warning("this torch cannot compile a part of the network, which runs as it is: %s", reason)
    return function
