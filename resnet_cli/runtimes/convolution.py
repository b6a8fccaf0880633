"""A convolution with what follows it fused in, by operators of oneDNN.

They have no public name in torch; they are those that ``torch.compile`` calls on the CPU.
"""

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from resnet_cli.system import run_is_ending

PACKING = Lock()  # workers share a network


class FusedConv(nn.Module):
    """A convolution whose weights are packed once, with what follows it fused in.

    They are packed in the first pass: the order that oneDNN wants them in depends on the height and
    width of what comes, though not on how many images do. In another order they would be packed
    again in every pass, which takes longer than the convolution.
    """

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self.settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.weight = conv.weight.detach()
        self.packed = False
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.after = "relu" if relu else "none"

    def forward(self, images: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolve [N, C, H, W], add ``shortcut`` where there is one, and rectify."""
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


# in Python's wrapper the other threads would wait, for the interpreter's lock, while one computes
OPTIONS = {"config_patches": {"cpp_wrapper": True}}


def can_trace() -> bool:
    """Whether this torch has what ``Traced`` calls, which is not promised to stay."""
    import torch._inductor

    return hasattr(torch._inductor, "standalone_compile")


class Traced:
    """A function of tensors and of what else decides its result, compiled for each sort of them."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.ready: dict[tuple[object, ...], Callable[..., Tensor]] = {}
        self.lock = Lock()

    def __call__(self, *arguments: Any) -> Tensor:
        """Call the function; besides tensors, arguments are hashable."""
        key = tuple(
            (given.dtype, given.shape, given.stride()) if isinstance(given, Tensor) else given
            for given in arguments
        )
        run = self.ready.get(key) or self.compiled(key, arguments)
        return run(*(given for given in arguments if isinstance(given, Tensor)))

    def compiled(
        self, key: tuple[object, ...], arguments: tuple[Any, ...]
    ) -> Callable[..., Tensor]:
        """Compile the function for such arguments, unless another worker did.

        Raises:
            KeyboardInterrupt: the run is being ended, and there are seconds of compiling left.
        """
        import torch._inductor
        from torch.fx.experimental.proxy_tensor import make_fx

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
                graph = make_fx(of_tensors)(*tensors)
                self.ready[key] = torch._inductor.standalone_compile(
                    graph, [*tensors], dynamic_shapes="from_example_inputs", options=OPTIONS
                )
        return self.ready[key]
