"""The three views of a network: its layers, its residual blocks, its stages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_cli.errors import SettingError
from resnet_cli.summary.networks import Subject
from resnet_cli.summary.trace import Shape, Trace, TracedLayer, as_pair

Row = dict[str, Any]

LAYER_FIELDS = (
    "name", "type", "depth", "input_shape", "output_shape", "kernel_size", "stride", "padding",
    "parameters", "macs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """Rows of one kind, and what is to be said below them."""

    rows: list[Row]
    notes: list[str]


def layers_view(_: Subject, trace: Trace, depth: int | None) -> View:
    """A row for each call of each module; each parameter and multiply-add is in one row."""
    rows: list[Row] = []
    for layer in trace.layers[1:]:  # without the network itself
        if depth is None or layer.depth <= depth:
            rows.append({name: getattr(layer, name) for name in LAYER_FIELDS})
        else:  # what is deeper counts for the row that it is in
            rows[-1]["parameters"] += layer.parameters
            rows[-1]["macs"] += layer.macs
    own = trace.layers[0]
    if own.parameters or own.macs:  # some networks hold a token or a position of their own
        rows.insert(0, {name: getattr(own, name) for name in LAYER_FIELDS} | {"name": own.type})
    return View(rows, [])


def blocks_view(subject: Subject, trace: Trace, _: int | None) -> View:
    """A row for each residual block."""
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
    return View(rows, [*why_projections(rows), compare_blocks()])


def why_projections(rows: list[Row]) -> list[str]:
    """Say of each projection shortcut why it is none of identity."""
    notes = []
    for row in rows:
        if row["shortcut"] == "projection":
            reasons = []
            if row["stride"] != 1:
                reasons.append(f"the stride of {row['stride']} halves the image")
            if row["in_channels"] != row["out_channels"]:
                reasons.append(f"{row['in_channels']} channels become {row['out_channels']}")
            notes.append(f"{row['name']} projects its shortcut: {' and '.join(reasons)}")
    return notes


def compare_blocks(width: int = 256) -> str:
    """The comparison that the paper's figure 5 makes, computed."""
    squeezed = width // 4
    basic = 2 * count_weights(width, width, 3)
    bottleneck = (
        count_weights(width, squeezed, 1)
        + count_weights(squeezed, squeezed, 3)
        + count_weights(squeezed, width, 1)
    )
    return (
        f"why a bottleneck: on {width} channels, two 3×3 convolutions have {basic:,} weights; "
        f"1×1 to {squeezed}, 3×3, 1×1 back to {width} have {bottleneck:,}, "
        f"{basic / bottleneck:.1f} times fewer"
    )


def count_weights(in_channels: int, out_channels: int, kernel: int) -> int:
    """Numbers in the weight of a convolution."""
    return nn.Conv2d(in_channels, out_channels, kernel, bias=False, device="meta").weight.numel()


def stages_view(subject: Subject, trace: Trace, _: int | None) -> View:
    """Table 1 of the ResNet paper for this network: https://arxiv.org/abs/1512.03385."""
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
    return View(rows, [same_size(), why_the_name(subject)])


def stage_row(name: str, modules: tuple[str, ...], trace: Trace, total: int) -> Row:
    """What every row of a stage has; ``macs_share`` is 0 to 1."""
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
    """The size of an output side with its numbers filled in; both sides where they differ.

    A dilated kernel counts as wide as it reaches.
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
    """A shape that is there."""
    assert shape is not None
    return shape


def strided_layer(trace: Trace, block: str) -> TracedLayer:
    """The convolution that sets the size of a stage: the one that strides, or its first 3x3."""
    inside = [
        layer
        for layer in layers_below(trace, block)
        if layer.type == "Conv2d" and "downsample" not in layer.name
    ]
    wide = next(layer for layer in inside if layer.kernel_size == (3, 3))
    return next((layer for layer in inside if layer.stride != (1, 1)), wide)


def block_notation(block: nn.Module) -> str:
    """A block as the paper writes it: ``[3×3, 64; 3×3, 64]``, with groups where there are some."""
    names = [name for name, _ in block.named_children() if name.startswith("conv")]
    return f"[{'; '.join(convolution_notation(block.get_submodule(name)) for name in names)}]"


def convolution_notation(conv: nn.Module) -> str:
    """A convolution as the paper writes it."""
    assert isinstance(conv, nn.Conv2d)
    text = f"{'×'.join(map(str, conv.kernel_size))}, {conv.out_channels}"
    if conv.groups > 1:
        text += f", {conv.groups} groups"
    if conv.dilation != (1, 1):
        text += f", dilation {conv.dilation[0]}"
    return text


def same_size() -> str:
    """Why a padded 3x3 convolution keeps the size."""
    return (
        "at stride 1 the size n stays for a kernel k and a padding p with\n"
        "    floor((n + 2p - k) / 1) + 1 = n, that is k = 2p + 1\n"
        "as 3×3 with padding 1, 7×7 with padding 3, 1×1 with none"
    )


def why_the_name(subject: Subject) -> str:
    """Count the layers that give the network its name."""
    blocks = [block for _, block in residual_blocks(subject.network)]
    per_block = 3 if isinstance(blocks[0], Bottleneck) else 2
    layers = [subject.network.get_submodule(f"layer{number}") for number in (1, 2, 3, 4)]
    depths = [len(list(layer.children())) for layer in layers]
    total = 1 + per_block * sum(depths) + 1
    return (
        "layers with weights: conv1, the convolutions of the blocks without their shortcuts, fc\n"
        f"    1 + {per_block}·({'+'.join(map(str, depths))}) + 1 = {total}"
    )


def require_resnet(subject: Subject, view: str) -> None:
    """Only ResNets have blocks and stages.

    Raises:
        SettingError: it is none.
    """
    if not subject.is_resnet:
        raise SettingError(
            f"cannot show {view} of {subject.model}, which is not a ResNet: use --view layers"
        )


def residual_blocks(network: nn.Module) -> list[tuple[str, Any]]:
    """The residual blocks of a ResNet with their names."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, BasicBlock | Bottleneck)
    ]


def layers_below(trace: Trace, name: str) -> list[TracedLayer]:
    """A module and everything in it."""
    return [
        layer for layer in trace.layers if layer.name == name or layer.name.startswith(f"{name}.")
    ]


def first_call(trace: Trace, name: str) -> TracedLayer:
    """The first call of a module."""
    return next(layer for layer in trace.layers if layer.name == name)


VIEWS: dict[str, Callable[[Subject, Trace, int | None], View]] = {
    "layers": layers_view,
    "blocks": blocks_view,
    "stages": stages_view,
}
