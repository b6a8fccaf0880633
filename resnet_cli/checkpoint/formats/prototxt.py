"""A .prototxt (a network of Caffe as text) -> its layers and their settings.

The names, numbers and defaults of the fields are those of
https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError, describe

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProtoLayer:
    """One layer of a network, and the blobs that it connects."""

    name: str
    part: Part  # its type, such as Convolution, and what is set
    bottoms: tuple[str, ...]  # names of its input blobs
    tops: tuple[str, ...]  # names of its output blobs; one that is also an input is overwritten


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network, as it is in the phase TEST."""

    name: str
    inputs: Mapping[str, Shape]  # shapes of the input blobs, batch first; () where unknown
    layers: tuple[ProtoLayer, ...]


Message = Any  # its classes are created at run time

Fields = dict[str, tuple[int, str]]

MESSAGES: dict[str, Fields] = {
    "NetParameter": {
        "name": (1, "string"),
        "layers": (2, "V1LayerParameter*"),
        "input": (3, "string*"),
        "input_dim": (4, "int32*"),
        "input_shape": (8, "BlobShape*"),
        "layer": (100, "LayerParameter*"),
    },
    "BlobShape": {"dim": (1, "int64*")},
    # packed floats are stored like an array: read as bytes they need no parsing
    "BlobProto": {
        "num": (1, "int32"),
        "channels": (2, "int32"),
        "height": (3, "int32"),
        "width": (4, "int32"),
        "data": (5, "bytes*"),
        "shape": (7, "BlobShape"),
        "double_data": (8, "bytes*"),
    },
    "NetStateRule": {"phase": (1, "NetStateRule.Phase"), "stage": (4, "string*")},
    "LayerParameter": {
        "name": (1, "string"),
        "type": (2, "string"),
        "bottom": (3, "string*"),
        "top": (4, "string*"),
        "blobs": (7, "BlobProto*"),
        "include": (8, "NetStateRule*"),
        "exclude": (9, "NetStateRule*"),
        "convolution_param": (106, "ConvolutionParameter"),
        "dropout_param": (108, "DropoutParameter"),
        "eltwise_param": (110, "EltwiseParameter"),
        "inner_product_param": (117, "InnerProductParameter"),
        "pooling_param": (121, "PoolingParameter"),
        "relu_param": (123, "ReLUParameter"),
        "softmax_param": (125, "SoftmaxParameter"),
        "batch_norm_param": (139, "BatchNormParameter"),
        "scale_param": (142, "ScaleParameter"),
        "input_param": (143, "InputParameter"),
    },
    "V1LayerParameter": {
        "bottom": (2, "string*"),
        "top": (3, "string*"),
        "name": (4, "string"),
        "type": (5, "V1LayerParameter.LayerType"),
        "blobs": (6, "BlobProto*"),
        "convolution_param": (10, "ConvolutionParameter"),
        "dropout_param": (12, "DropoutParameter"),
        "inner_product_param": (17, "InnerProductParameter"),
        "pooling_param": (19, "PoolingParameter"),
        "eltwise_param": (24, "EltwiseParameter"),
        "relu_param": (30, "ReLUParameter"),
        "include": (32, "NetStateRule*"),
        "exclude": (33, "NetStateRule*"),
        "softmax_param": (39, "SoftmaxParameter"),
    },
    "ConvolutionParameter": {
        "num_output": (1, "uint32"),
        "bias_term": (2, "bool=true"),
        "pad": (3, "uint32*"),
        "kernel_size": (4, "uint32*"),
        "group": (5, "uint32=1"),
        "stride": (6, "uint32*"),
        "pad_h": (9, "uint32"),
        "pad_w": (10, "uint32"),
        "kernel_h": (11, "uint32"),
        "kernel_w": (12, "uint32"),
        "stride_h": (13, "uint32"),
        "stride_w": (14, "uint32"),
        "dilation": (18, "uint32*"),
    },
    "PoolingParameter": {
        "pool": (1, "PoolingParameter.PoolMethod=MAX"),
        "kernel_size": (2, "uint32*"),
        "stride": (3, "uint32*"),
        "pad": (4, "uint32*"),
        "kernel_h": (5, "uint32"),
        "kernel_w": (6, "uint32"),
        "stride_h": (7, "uint32"),
        "stride_w": (8, "uint32"),
        "pad_h": (9, "uint32"),
        "pad_w": (10, "uint32"),
        "global_pooling": (12, "bool=false"),
        # number 13 is round_mode in one Caffe and ceil_mode in another, with opposite meanings:
        # https://github.com/BVLC/caffe/pull/3057; only text shows which one is meant
        "unclear": (13, "uint32"),
        "ceil_mode": (1013, "bool=true"),
        "round_mode": (2013, "PoolingParameter.RoundMode=CEIL"),
    },
    "BatchNormParameter": {"use_global_stats": (1, "bool"), "eps": (3, "float=1e-5")},
    "ScaleParameter": {
        "axis": (1, "int32=1"),
        "num_axes": (2, "int32=1"),
        "bias_term": (4, "bool=false"),
    },
    "InnerProductParameter": {
        "num_output": (1, "uint32"),
        "bias_term": (2, "bool=true"),
        "axis": (5, "int32=1"),
        "transpose": (6, "bool=false"),
    },
    "EltwiseParameter": {
        "operation": (1, "EltwiseParameter.EltwiseOp=SUM"),
        "coeff": (2, "float*"),
    },
    "ReLUParameter": {"negative_slope": (1, "float=0")},
    "SoftmaxParameter": {"axis": (2, "int32=1")},
    "DropoutParameter": {"dropout_ratio": (1, "float=0.5")},
    "InputParameter": {"shape": (1, "BlobShape*")},
}
"""Fields that are read, by message: number and type; ``*`` repeated, ``=`` the default."""

ENUMS = {
    "NetStateRule.Phase": ("TRAIN", "TEST"),
    "PoolingParameter.PoolMethod": ("MAX", "AVE", "STOCHASTIC"),
    "PoolingParameter.RoundMode": ("CEIL", "FLOOR"),
    "EltwiseParameter.EltwiseOp": ("PROD", "SUM", "MAX"),
    "V1LayerParameter.LayerType": (
        "NONE", "ACCURACY", "BNLL", "CONCAT", "CONVOLUTION", "DATA", "DROPOUT", "EUCLIDEAN_LOSS",
        "FLATTEN", "HDF5_DATA", "HDF5_OUTPUT", "IM2COL", "IMAGE_DATA", "INFOGAIN_LOSS",
        "INNER_PRODUCT", "LRN", "MULTINOMIAL_LOGISTIC_LOSS", "POOLING", "RELU", "SIGMOID",
        "SOFTMAX", "SOFTMAX_LOSS", "SPLIT", "TANH", "WINDOW_DATA", "ELTWISE", "POWER",
        "SIGMOID_CROSS_ENTROPY_LOSS", "HINGE_LOSS", "MEMORY_DATA", "ARGMAX", "THRESHOLD",
        "DUMMY_DATA", "SLICE", "MVN", "ABSVAL", "SILENCE", "CONTRASTIVE_LOSS", "EXP",
        "DECONVOLUTION",
    ),
}  # fmt: skip
"""Values of the enums, in the order of their numbers."""


@cache
def net_parameter() -> Message:
    """Create the class of a NetParameter on first use, as importing protobuf takes time."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            add_field(message, field, number, kind)
    messages = {message.name: message for message in file.message_type}
    for path, words in ENUMS.items():
        owner, name = path.split(".")
        enum = messages[owner].enum_type.add(name=name)
        for number, word in enumerate(words):
            enum.value.add(name=word, number=number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def add_field(message: Message, name: str, number: int, kind: str) -> None:
    """Add a field to the description of a message."""
    kind, _, default = kind.partition("=")
    single = kind.removesuffix("*")
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_OPTIONAL if kind == single else field.LABEL_REPEATED
    if single in MESSAGES or single in ENUMS:
        field.type = field.TYPE_MESSAGE if single in MESSAGES else field.TYPE_ENUM
        field.type_name = f".caffe.{single}"
    else:
        field.type = getattr(field, f"TYPE_{single.upper()}")
    if default:
        field.default_value = default


V1_TYPES = {
    "CONVOLUTION": "Convolution",
    "DROPOUT": "Dropout",
    "ELTWISE": "Eltwise",
    "INNER_PRODUCT": "InnerProduct",
    "POOLING": "Pooling",
    "RELU": "ReLU",
    "SOFTMAX": "Softmax",
}
"""Types of V1LayerParameter, and their names today."""

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
"""Fields that hold the settings of a type."""

WINDOWS: dict[str, tuple[str, Shape]] = {
    "kernel_size": ("kernel", ()),
    "stride": ("stride", (1, 1)),
    "pad": ("pad", (0, 0)),
    "dilation": ("dilation", (1, 1)),
}
"""Settings for height and width: the stem of their two separate fields, and the default."""


def proto_layers(net: Message) -> Iterator[Message]:
    """Yield the layers of a network, in the old format and in the new one."""
    yield from net.layers
    yield from net.layer


def text_of(value: str | bytes) -> str:
    """Return a name as text; protobuf gives bytes where it is not UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def type_of(layer: Message) -> str:
    """Return the type of a layer as a word, such as Convolution."""
    if isinstance(layer.type, str | bytes):
        return text_of(layer.type)
    word = ENUMS["V1LayerParameter.LayerType"][layer.type]
    return V1_TYPES.get(word, word)


def proto_part(layer: Message) -> Part:
    """Return type and settings of a layer, as far as the file has them.

    Settings that are left out have Caffe's defaults. Sizes are height and width.
    """
    kind = type_of(layer)
    field = PARAMETERS.get(kind, "")
    # a batch norm may lack the field
    known = field in layer.DESCRIPTOR.fields_by_name
    if not known or not (layer.HasField(field) or kind == "BatchNorm"):
        return Part(kind)
    return Part(kind, proto_settings(getattr(layer, field)))


def proto_settings(parameters: Message) -> dict[str, Any]:
    """Return the fields of a message as plain values, without unset ones that have no default."""
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
    """Return the value of a field: an enum as its word, a float32 as the shortest decimal."""
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    return float(str(np.float32(value))) if isinstance(value, float) else value


def read_window(parameters: Message, name: str) -> Shape:
    """Read one of ``WINDOWS``: given once for both sides, or for each."""
    stem, default = WINDOWS[name]
    single = [f"{stem}_h", f"{stem}_w"]
    if single[0] in parameters.DESCRIPTOR.fields_by_name and any(map(parameters.HasField, single)):
        return getattr(parameters, single[0]), getattr(parameters, single[1])
    values = tuple(getattr(parameters, name)) or default
    return values * 2 if len(values) == 1 else values


def name_rounding(settings: dict[str, Any]) -> dict[str, Any]:
    """Reduce how a pool rounds to ``ceil_mode``, which is dropped where it is ambiguous."""
    rounds_up = settings.pop("round_mode", "CEIL") == "CEIL"
    if "ceil_mode" in settings:
        settings["ceil_mode"] = settings["ceil_mode"] and rounds_up
    if settings.pop("unclear", None) is not None:
        del settings["ceil_mode"]
    return settings


def read_prototxt(text: str) -> Network:
    """Read the text of a .prototxt, without layers that only training uses.

    Raises:
        CheckpointError: it is not a prototxt; the message names the line, but no file.
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
    """Return whether a layer is present in the phase TEST, in no particular stage."""

    def met(rule: Message) -> bool:
        phase = ENUMS["NetStateRule.Phase"][rule.phase]
        return not rule.stage and (phase == "TEST" or not rule.HasField("phase"))

    if layer.include:
        return any(map(met, layer.include))
    return not any(map(met, layer.exclude))


def proto_inputs(net: Message) -> dict[str, Shape]:
    """Return the inputs that are not layers, with the shapes given beside them."""
    dims = list(net.input_dim)
    shapes = [tuple(shape.dim) for shape in net.input_shape]
    shapes = shapes or [tuple(dims[start : start + 4]) for start in range(0, len(dims), 4)]
    missing: list[Shape] = [()] * len(net.input)
    return dict(zip(net.input, [*shapes, *missing], strict=False))
