"""One forward pass on the meta device -> rows of layers, residual blocks or stages.

Nothing is computed: shapes alone travel through torchvision's own ``forward``.
"""

import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.hooks import RemovableHandle
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_cli.errors import SettingError, describe
from resnet_cli.summary.networks import Subject, as_pair

Shape = tuple[int, ...]
SummaryRow = dict[str, Any]

LAYER_FIELDS = (
    "name", "type", "depth", "input_shape", "output_shape", "kernel_size", "stride", "padding",
    "parameters", "macs",
)  # fmt: skip


@dataclass(slots=True)
class TracedLayer:
    """One call of one module, without what the modules inside it cost."""

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
    """The layers of one forward pass, and what it costs as a whole."""

    layers: tuple[TracedLayer, ...]  # in the order of their calls, a module before those inside it
    activations: int  # outputs of convolutions and matrix products, in numbers
    peak_bytes: int  # most memory that activations take at one time, the images included


def trace_network(network: nn.Module, images: Tensor) -> Trace:
    """Follow ``network`` over ``images`` [N, C, H, W], both on the meta device.

    Multiply-adds are half the flops of torch's own flop counter: convolutions and matrix products
    count, normalisation, activation and pooling do not, as in torchvision's metadata. Memory is
    what eager PyTorch holds: an activation lives until its last reference is dropped.

    Raises:
        SettingError: the images are too small, or of other channels; names the layer.
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
    """Attributes every operation to the module that runs, and counts its cost."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules = dict(network.named_modules())
        self.layers: list[TracedLayer] = []
        self.path: list[TracedLayer] = []  # modules that are running, outermost first
        self.counted: set[int] = set()  # parameters that a layer has taken, by id
        self.activations = 0
        self.live = self.peak = 0  # bytes
        # neither weights nor views of them are activations
        weights = (*network.parameters(), *network.buffers())
        self.held = {id(tensor.untyped_storage()) for tensor in weights}
        self.keep = [tensor.untyped_storage() for tensor in weights]  # so that ids stay theirs

    def hooks(self) -> Iterable[RemovableHandle]:
        """Yield the hooks that follow every module in and out."""
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
        """Record a module that starts to run."""
        layer.input_shape = first_shape(inputs[0]) if inputs else None
        layer.kernel_size, layer.stride, layer.padding = (
            as_pair(getattr(module, name, None)) for name in ("kernel_size", "stride", "padding")
        )
        layer.parameters = self.take(module)
        self.layers.append(layer)
        self.path.append(layer)

    def leave(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        """Record the output of a module."""
        self.path.pop().output_shape = first_shape(output)

    def add_uncalled(self) -> None:
        """Add layers that hold parameters but were not called, each after its neighbours.

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
        """Return the size of a module's own parameters that no layer before it has counted."""
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
        """Count the memory of a tensor until its last reference is dropped."""
        storage = tensor.untyped_storage()
        if id(storage) in self.held:
            return
        self.held.add(id(storage))
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.free, id(storage), storage.nbytes())

    def free(self, storage: int, size: int) -> None:
        """Subtract the memory of a tensor."""
        self.held.discard(storage)
        self.live -= size


def first_shape(value: Any) -> Shape | None:
    """Return the shape of a tensor, or of the first of several."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    return tuple(first.shape) if isinstance(first, Tensor) else None


def list_layers(_: Subject, trace: Trace, depth: int | None) -> list[SummaryRow]:
    """Return a row for each call of a module; each parameter and multiply-add is in one row."""
    rows: list[SummaryRow] = []
    for layer in trace.layers[1:]:  # without the network itself
        if depth is None or layer.depth <= depth:
            rows.append({name: getattr(layer, name) for name in LAYER_FIELDS})
        else:  # deeper layers count for the row that they are in
            rows[-1]["parameters"] += layer.parameters
            rows[-1]["macs"] += layer.macs
    own = trace.layers[0]
    if own.parameters or own.macs:  # some networks have a token or a position of their own
        rows.insert(0, {name: getattr(own, name) for name in LAYER_FIELDS} | {"name": own.type})
    return rows


def list_blocks(subject: Subject, trace: Trace, _: int | None) -> list[SummaryRow]:
    """Return a row for each residual block."""
    require_resnet(subject, "blocks")
    rows = []
    for name, block in residual_blocks(subject.network):
        conv1 = block.conv1
        last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
        inside = layers_below(trace, name)
        rows.append(
            {
                "name": name,
                "block": type(block).__name__,
                "shortcut": "identity" if block.downsample is None else "projection",
                "stride": block.stride,
                "in_channels": conv1.in_channels,
                "out_channels": last.out_channels,
                "output_shape": inside[0].output_shape,
                "parameters": sum(layer.parameters for layer in inside),
                "macs": sum(layer.macs for layer in inside),
            }
        )
    return rows


def list_stages(subject: Subject, trace: Trace, _: int | None) -> list[SummaryRow]:
    """Return table 1 of the ResNet paper for this network: https://arxiv.org/abs/1512.03385."""
    require_resnet(subject, "stages")
    network = subject.network
    total = sum(layer.macs for layer in trace.layers)
    fc = network.get_submodule("fc")
    rows = [
        stage_row("conv1", ("conv1", "bn1", "relu"), trace, total)
        | {"block": convolution_notation(network.get_submodule("conv1"))}
        | {"formula": size_formula(network, first_call(trace, "conv1"))},
        stage_row("maxpool", ("maxpool",), trace, total)
        | {"block": "3×3 max pool, stride 2"}
        | {"formula": size_formula(network, first_call(trace, "maxpool"))},
    ]
    for number in (1, 2, 3, 4):
        name = f"layer{number}"
        blocks = list(network.get_submodule(name).children())
        rows.append(
            stage_row(f"conv{number + 1}_x", (name,), trace, total)
            | {"block": block_notation(blocks[0]), "repeats": len(blocks)}
            | {"formula": size_formula(network, strided_layer(trace, f"{name}.0"))}
        )
    rows.append(stage_row("avgpool", ("avgpool",), trace, total) | {"block": "global average pool"})
    head = f"{getattr(fc, 'in_features', '?')} → {getattr(fc, 'out_features', '?')}"
    if subject.num_classes:  # else it is a backbone alone
        rows.append(stage_row("fc", ("fc",), trace, total) | {"block": head})
    return rows


def stage_row(name: str, modules: tuple[str, ...], trace: Trace, total: int) -> SummaryRow:
    """Return what the row of every stage has; ``macs_share`` is 0 to 1."""
    inside = [layer for module in modules for layer in layers_below(trace, module)]
    macs = sum(layer.macs for layer in inside)
    shape = require_shape(inside[0].output_shape)
    return {
        "name": name,
        "output_size": [*shape[2:]] or [1, 1],  # height, width
        "formula": None,
        "block": "",
        "repeats": 1,
        "parameters": sum(layer.parameters for layer in inside),
        "macs": macs,
        "macs_share": macs / total,
    }


def size_formula(network: nn.Module, layer: TracedLayer) -> str:
    """Fill in the formula for the size of an output side; both sides where they differ.

    A dilated kernel counts with the width it spans.
    """
    module = network.get_submodule(layer.name)
    dilation = require_shape(as_pair(getattr(module, "dilation", 1)))
    rounding = "ceil" if getattr(module, "ceil_mode", False) else "floor"
    sides = []
    for axis in (0, 1):
        n, result = (
            require_shape(layer.input_shape)[2 + axis],
            require_shape(layer.output_shape)[2 + axis],
        )
        k = dilation[axis] * (require_shape(layer.kernel_size)[axis] - 1) + 1
        p, s = require_shape(layer.padding)[axis], require_shape(layer.stride)[axis]
        sides.append(f"{rounding}(({n} + 2·{p} - {k}) / {s}) + 1 = {result}")
    return sides[0] if sides[0] == sides[1] else "; ".join(sides)


def require_shape(shape: Shape | None) -> Shape:
    """Return a shape that is not None."""
    assert shape is not None
    return shape


def strided_layer(trace: Trace, block: str) -> TracedLayer:
    """Return the convolution that sets the size of a stage: one with a stride, or its first 3x3."""
    inside = [
        layer
        for layer in layers_below(trace, block)
        if layer.type == "Conv2d" and "downsample" not in layer.name
    ]
    wide = next(layer for layer in inside if layer.kernel_size == (3, 3))
    return next((layer for layer in inside if layer.stride != (1, 1)), wide)


def block_notation(block: nn.Module) -> str:
    """Write a block as the paper does: ``[3×3, 64; 3×3, 64]``, with groups if it has any."""
    names = [name for name, _ in block.named_children() if name.startswith("conv")]
    return f"[{'; '.join(convolution_notation(block.get_submodule(name)) for name in names)}]"


def convolution_notation(conv: nn.Module) -> str:
    """Write a convolution as the paper does."""
    assert isinstance(conv, nn.Conv2d)
    text = f"{'×'.join(map(str, conv.kernel_size))}, {conv.out_channels}"
    if conv.groups > 1:
        text += f", {conv.groups} groups"
    if conv.dilation != (1, 1):
        text += f", dilation {conv.dilation[0]}"
    return text


def require_resnet(subject: Subject, view: str) -> None:
    """Refuse blocks and stages of other networks.

    Raises:
        SettingError: it is not a ResNet.
    """
    if not subject.is_resnet:
        raise SettingError(
            f"cannot show {view} of {subject.model}, which is not a ResNet: use --view layers"
        )


def residual_blocks(network: nn.Module) -> list[tuple[str, Any]]:
    """Return the residual blocks of a ResNet with their names."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, BasicBlock | Bottleneck)
    ]


def layers_below(trace: Trace, name: str) -> list[TracedLayer]:
    """Return a module and everything inside it."""
    return [
        layer for layer in trace.layers if layer.name == name or layer.name.startswith(f"{name}.")
    ]


def first_call(trace: Trace, name: str) -> TracedLayer:
    """Return the first call of a module."""
    return next(layer for layer in trace.layers if layer.name == name)


VIEW_ROWS: dict[str, Callable[[Subject, Trace, int | None], list[SummaryRow]]] = {
    "layers": list_layers,
    "blocks": list_blocks,
    "stages": list_stages,
}
