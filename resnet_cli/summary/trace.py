"""One forward pass on the meta device -> what each layer gets, gives and costs.

Nothing is computed: shapes alone travel through torchvision's own ``forward``.
"""

import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.hooks import RemovableHandle

from resnet_cli.errors import SettingError, describe

Shape = tuple[int, ...]


@dataclass(slots=True)
class TracedLayer:
    """One call of one module; what is in the modules below it is counted there."""

    name: str  # dotted, as in named_modules; empty for the network itself
    type: str  # class name
    depth: int  # 0 for the network itself
    input_shape: Shape | None = None  # batch first; None where the module was not called
    output_shape: Shape | None = None
    kernel_size: Shape | None = None  # height, width
    stride: Shape | None = None
    padding: Shape | None = None
    parameters: int = 0
    macs: int = 0  # multiply-adds of the whole batch


@dataclass(frozen=True, slots=True)
class Trace:
    """What one forward pass showed."""

    layers: tuple[TracedLayer, ...]  # in the order of their calls, a module before what is in it
    activations: int  # numbers that convolutions and matrix products put out
    peak_bytes: int  # most memory that activations take at one time, the images included


def trace_network(network: nn.Module, images: Tensor) -> Trace:
    """Run ``network`` on ``images`` [N, C, H, W], both on the meta device.

    Multiply-adds are half the flops of torch's own flop counter: convolutions and matrix products
    count, normalisation, activation and pooling do not, as in torchvision's metadata. Memory is
    what eager PyTorch holds: an activation lives until the last reference to it goes.

    Raises:
        SettingError: the images are too small or of other channels; it names the layer.
    """
    tracer = Tracer(network)
    with ExitStack() as stack:
        for handle in tracer.hooks():
            stack.callback(handle.remove)
        try:
            with torch.no_grad(), tracer:
                tracer.hold(images)
                network(images)
        except (RuntimeError, ValueError, AssertionError) as error:
            size = "x".join(map(str, images.shape[2:]))
            where = tracer.path[-1].name or "its first layer"
            raise SettingError(
                f"cannot run images of {size} pixels through the network: they end at {where} "
                f"({describe(error)}): give another --img-size"
            ) from error
    tracer.add_uncalled()
    return Trace(tuple(tracer.layers), tracer.activations, tracer.peak)


class Tracer(TorchDispatchMode):
    """Sees every operation, knows which module it belongs to, and keeps the books."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules = dict(network.named_modules())
        self.layers: list[TracedLayer] = []
        self.path: list[TracedLayer] = []  # modules that are running, outermost first
        self.counted: set[int] = set()  # parameters that a layer has taken, by id
        self.activations = 0
        self.live = self.peak = 0  # bytes
        # weights are no activations, nor are views of them
        weights = (*network.parameters(), *network.buffers())
        self.held = {id(tensor.untyped_storage()) for tensor in weights}
        self.keep = [tensor.untyped_storage() for tensor in weights]  # so that ids stay theirs

    def hooks(self) -> Iterable[RemovableHandle]:
        """Follow every module in and out."""
        for name, module in self.modules.items():
            layer_type = type(module).__name__

            def enter(
                module: nn.Module,
                inputs: tuple[Any, ...],
                name: str = name,
                layer_type: str = layer_type,
            ) -> None:
                self.enter(TracedLayer(name, layer_type, len(self.path)), module, inputs)

            yield module.register_forward_pre_hook(enter)
            yield module.register_forward_hook(self.leave)

    def enter(self, layer: TracedLayer, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note a module that begins to run."""
        layer.input_shape = first_shape(inputs[0]) if inputs else None
        layer.kernel_size, layer.stride, layer.padding = (
            as_pair(getattr(module, name, None)) for name in ("kernel_size", "stride", "padding")
        )
        layer.parameters = self.take(module)
        self.layers.append(layer)
        self.path.append(layer)

    def leave(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        """Note what a module gave."""
        self.path.pop().output_shape = first_shape(output)

    def add_uncalled(self) -> None:
        """Add the layers that hold parameters but were not called, each after its neighbours.

        Auxiliary heads are for training alone, and an attention reads the weights of its output
        projection without calling it.
        """
        for name, module in self.modules.items():
            parameters = self.take(module)
            if not parameters:
                continue
            parent = name.rpartition(".")[0]
            neighbours = [
                index
                for index, layer in enumerate(self.layers, start=1)
                if layer.name == parent or layer.name.startswith(f"{parent}.")
            ]
            depth = name.count(".") + 1
            layer = TracedLayer(name, type(module).__name__, depth, parameters=parameters)
            self.layers.insert(max(neighbours, default=len(self.layers)), layer)

    def take(self, module: nn.Module) -> int:
        """Numbers in the parameters of a module itself that no layer before it has taken."""
        new = [p for p in module.parameters(recurse=False) if id(p) not in self.counted]
        self.counted.update(map(id, new))
        return sum(parameter.numel() for parameter in new)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.path[-1].macs += count(*args, **(kwargs or {}), out_val=output) // 2
            self.activations += output.numel()
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor):
                self.hold(tensor)
        return output

    def hold(self, tensor: Tensor) -> None:
        """Count the memory of a tensor until nothing refers to it any more."""
        storage = tensor.untyped_storage()
        if id(storage) in self.held:
            return
        self.held.add(id(storage))
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.free, id(storage), storage.nbytes())

    def free(self, storage: int, size: int) -> None:
        """Give back the memory of a tensor."""
        self.held.discard(storage)
        self.live -= size


def as_pair(value: Any) -> Shape | None:
    """Height and width of a kernel, a stride or a padding."""
    if isinstance(value, int):
        return value, value
    return tuple(value) if isinstance(value, tuple) else None


def first_shape(value: Any) -> Shape | None:
    """Shape of a tensor, or of the first of several."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    return tuple(first.shape) if isinstance(first, Tensor) else None
