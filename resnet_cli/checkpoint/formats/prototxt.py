"""A .prototxt, which is a network of Caffe as text -> its layers and their settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_cli.checkpoint.formats.caffe_proto import ENUMS, Message, net_parameter
from resnet_cli.checkpoint.tree import Part, StateDict
from resnet_cli.errors import CheckpointError, describe

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProtoLayer:
    """One layer of a network, and the blobs between which it stands."""

    name: str
    part: Part  # its type, such as Convolution, and what is set
    bottoms: tuple[str, ...]  # names of the blobs that it reads
    tops: tuple[str, ...]  # names of those it writes; one that it reads as well is overwritten


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network, as it is when nothing is trained."""

    name: str
    inputs: Mapping[str, Shape]  # blobs given from outside, batch first; () where nothing says
    layers: tuple[ProtoLayer, ...]


V1_TYPES = {
    "CONVOLUTION": "Convolution",
    "DROPOUT": "Dropout",
    "ELTWISE": "Eltwise",
    "INNER_PRODUCT": "InnerProduct",
    "POOLING": "Pooling",
    "RELU": "ReLU",
    "SOFTMAX": "Softmax",
}
"""What types were called before they were words."""

PARAMETERS = {
    "BatchNorm": "batch_norm_param",
    "Convolution": "convolution_param",
    "Dropout": "dropout_param",
    "Eltwise": "eltwise_param",
    "InnerProduct": "inner_product_param",
    "Input": "input_param",
    "Pooling": "pooling_param",
    "ReLU": "relu_param",
    "Scale": "scale_param",
    "Softmax": "softmax_param",
}
"""Where the settings of a type are."""

WINDOWS: dict[str, tuple[str, Shape]] = {
    "kernel_size": ("kernel", ()),
    "stride": ("stride", (1, 1)),
    "pad": ("pad", (0, 0)),
    "dilation": ("dilation", (1, 1)),
}
"""Settings for height and width: how their single fields begin, and the default."""


def proto_layers(net: Message) -> Iterator[Message]:
    """The layers of a network, of the old style and of the new."""
    yield from net.layers
    yield from net.layer


def text_of(value: str | bytes) -> str:
    """A name, which protobuf gives as bytes where it is no UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def type_of(layer: Message) -> str:
    """Type of a layer as a word, such as Convolution."""
    if isinstance(layer.type, str | bytes):
        return text_of(layer.type)
    word = ENUMS["V1LayerParameter.LayerType"][layer.type]
    return V1_TYPES.get(word, word)


def proto_part(layer: Message) -> Part:
    """Type and settings of a layer, as far as it has them.

    What a layer with settings leaves out has Caffe's default. Sizes are height and width.
    """
    kind = type_of(layer)
    field = PARAMETERS.get(kind, "")
    # a batch norm is complete without settings
    known = field in layer.DESCRIPTOR.fields_by_name
    if not known or not (layer.HasField(field) or kind == "BatchNorm"):
        return Part(kind)
    return Part(kind, proto_settings(getattr(layer, field)))


def proto_settings(parameters: Message) -> dict[str, Any]:
    """The fields of a message as plain values; none for what has neither value nor default."""
    fields = parameters.DESCRIPTOR.fields_by_name
    settings: dict[str, Any] = {}
    for name, field in fields.items():
        value = getattr(parameters, name)
        if name in WINDOWS:
            if sides := read_window(parameters, name):
                settings[name] = sides
        elif name.endswith(("_h", "_w")):
            continue
        elif name == "shape":
            settings[name] = tuple(tuple(shape.dim) for shape in value)
        elif name == "coeff":
            settings[name] = tuple(value)
        elif field.has_default_value or parameters.HasField(name):
            settings[name] = proto_value(value, field)
    return name_rounding(settings)


def proto_value(value: Any, field: Any) -> Any:
    """The value of a field: an enum as its word, a float32 as the decimal that was meant."""
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    return float(str(np.float32(value))) if isinstance(value, float) else value


def read_window(parameters: Message, name: str) -> Shape:
    """One of ``WINDOWS``: given once for both sides, or for each."""
    stem, default = WINDOWS[name]
    single = [f"{stem}_h", f"{stem}_w"]
    if single[0] in parameters.DESCRIPTOR.fields_by_name and any(map(parameters.HasField, single)):
        return getattr(parameters, single[0]), getattr(parameters, single[1])
    values = tuple(getattr(parameters, name)) or default
    return values * 2 if len(values) == 1 else values


def name_rounding(settings: dict[str, Any]) -> dict[str, Any]:
    """Say in one word how pooling rounds, if that is known."""
    rounds_up = settings.pop("round_mode", "CEIL") == "CEIL"
    if "ceil_mode" in settings:
        settings["ceil_mode"] = settings["ceil_mode"] and rounds_up
    if settings.pop("unclear", None) is not None:
        del settings["ceil_mode"]
    return settings


def read_prototxt(text: str) -> Network:
    """Read the text of a .prototxt; what is there for training alone is left out.

    Raises:
        CheckpointError: it is none; the message names the line, but no file.
    """
    from google.protobuf import text_format

    net = net_parameter()()
    try:
        text_format.Parse(text, net, allow_unknown_field=True)
    except (text_format.ParseError, RecursionError) as error:
        raise CheckpointError(f"it is not a prototxt ({describe(error)})") from error
    layers = tuple(
        ProtoLayer(layer.name, proto_part(layer), tuple(layer.bottom), tuple(layer.top))
        for layer in proto_layers(net)
        if is_for_use(layer)
    )
    return Network(net.name, proto_inputs(net), layers)


def is_for_use(layer: Message) -> bool:
    """Whether a layer is there when nothing is trained, in no stage in particular."""

    def met(rule: Message) -> bool:
        phase = ENUMS["NetStateRule.Phase"][rule.phase]
        return not rule.stage and (phase == "TEST" or not rule.HasField("phase"))

    if layer.include:
        return any(map(met, layer.include))
    return not any(map(met, layer.exclude))


def proto_inputs(net: Message) -> dict[str, Shape]:
    """Inputs that are no layers, with the shapes that stand beside them."""
    dims = list(net.input_dim)
    shapes = [tuple(shape.dim) for shape in net.input_shape]
    shapes = shapes or [tuple(dims[start : start + 4]) for start in range(0, len(dims), 4)]
    missing: list[Shape] = [()] * len(net.input)
    return dict(zip(net.input, [*shapes, *missing], strict=False))


def apply_prototxt(state: StateDict, text: str) -> StateDict:
    """Complete what a .caffemodel says of its layers by a .prototxt, which wins.

    Raises:
        CheckpointError: it is no prototxt, or one of another network.
    """
    layers = {layer.name: layer.part for layer in read_prototxt(text).layers}
    if not any(f"{name}.weight" in state for name in layers):
        raise CheckpointError("the prototxt names none of the layers that hold weights")
    parts = dict(state.parts)
    for name, part in layers.items():
        require_same_settings(name, part, state)
        earlier = parts[name].settings if name in parts else {}
        parts[name] = Part(part.kind, {**earlier, **part.settings})
    return StateDict(state, parts)


def require_same_settings(name: str, part: Part, state: StateDict) -> None:
    """Refuse settings that the weights of a layer do not have.

    Raises:
        CheckpointError: another number of outputs, or another kernel.
    """
    weight = state.get(f"{name}.weight")
    if weight is None or part.kind not in ("Convolution", "InnerProduct"):
        return
    said = [part.settings.get("num_output"), *part.settings.get("kernel_size", ())]
    held = [weight.shape[0], *weight.shape[2:]]
    if said != held:
        raise CheckpointError(
            f"the prototxt is of another network: {name} has {said} outputs and kernel there, "
            f"{held} in the weights"
        )
