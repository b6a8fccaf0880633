"""Files of Caffe's ResNets, written byte by byte: no code here knows protobuf's library.

Numbers of fields: https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto. Names,
order and settings of the layers: the deploy prototxts of
https://github.com/KaimingHe/deep-residual-networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PARAMETERS = {  # field with the settings of a type
    "Convolution": ("convolution_param", 106),
    "Pooling": ("pooling_param", 121),
    "BatchNorm": ("batch_norm_param", 139),
    "Scale": ("scale_param", 142),
    "InnerProduct": ("inner_product_param", 117),
    "Eltwise": ("eltwise_param", 110),
    "Input": ("input_param", 143),
}

NUMBERS = {
    "Convolution": {"num_output": 1, "bias_term": 2, "pad": 3, "kernel_size": 4, "stride": 6},
    "Pooling": {"pool": 1, "kernel_size": 2, "stride": 3},
    "BatchNorm": {"use_global_stats": 1, "eps": 3},
    "Scale": {"bias_term": 4},
    "InnerProduct": {"num_output": 1},
    "Eltwise": {"operation": 1},
}

WORDS = {"MAX": 0, "AVE": 1, "SUM": 1}  # of pool and of operation


@dataclass(frozen=True)
class CaffeLayer:
    name: str
    type: str
    bottoms: tuple[str, ...]
    top: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    blobs: tuple[Floats, ...] = ()


def caffe_resnet(
    depths: tuple[int, int, int, int],
    *,
    num_classes: int,
    seed: int,
    width: int = 64,
    bottleneck: bool = True,
    parameters: bool = True,
    legacy: bool = False,
    conv1_bias: bool | None = None,
    side: int = 224,
) -> tuple[str, bytes]:
    """Give the prototxt and the caffemodel of a ResNet with random weights of a sane size.

    Args:
        depths: blocks in the four stages: (3, 4, 6, 3) has the names of ResNet-50, and
            (3, 4, 23, 3), (3, 8, 36, 3) those of ResNet-101 and 152.
        num_classes: outputs of fc1000.
        seed: of the weights.
        width: channels of the first stage's 3x3 convolutions.
        bottleneck: or else two 3x3 convolutions in a block.
        parameters: whether the caffemodel holds the settings of its layers beside the blobs.
        legacy: shapes as num, channels, height and width.
        conv1_bias: whether conv1 has a bias; None as in Caffe's, where ResNet-50's alone has one.
        side: of the pictures, in pixels; a 32nd of it is left for the last pool.
    """
    net = Builder(seed)
    title = net.resnet(depths, num_classes, width, bottleneck, conv1_bias, side)
    data = b"".join(encode(layer, parameters=parameters, legacy=legacy) for layer in net.layers)
    return prototxt(title, net.layers, side), string(1, title) + data


def resnet_prototxt(
    depths: tuple[int, int, int, int], *, num_classes: int = 1000, width: int = 64, side: int = 224
) -> str:
    """Give the prototxt alone, which takes no time for weights."""
    net = Builder(None)
    title = net.resnet(depths, num_classes, width, True, None, side)
    return prototxt(title, net.layers, side)


class Builder:
    """Adds layers in the order of the deploy prototxts."""

    def __init__(self, seed: int | None) -> None:
        self.without_weights = seed is None
        self.random = np.random.default_rng(seed)
        self.layers: list[CaffeLayer] = []
        self.channels = {"data": 3}

    def resnet(
        self,
        depths: tuple[int, int, int, int],
        num_classes: int,
        width: int,
        bottleneck: bool,
        conv1_bias: bool | None,
        side: int,
    ) -> str:
        """Add the layers of a whole network; give its name."""
        numbered = depths[2] > 6
        bias = not numbered if conv1_bias is None else conv1_bias
        self.conv("data", "conv1", width, kernel=7, stride=2, bias=bias)
        self.norm("conv1", "_conv1")
        self.relu("conv1")
        self.add("pool1", "Pooling", ("conv1",), {"pool": "MAX", "kernel_size": 3, "stride": 2})
        self.channels["pool1"] = width
        blob = "pool1"
        for stage, depth in enumerate(depths):
            for block in range(depth):
                letter = f"b{block}" if numbered and stage in (1, 2) and block else "abcdef"[block]
                stride = 2 if stage and not block else 1
                blob = self.block(blob, f"{stage + 2}{letter}", width << stage, stride, bottleneck)
        size = -(-side // 32)
        self.add("pool5", "Pooling", (blob,), {"pool": "AVE", "kernel_size": size, "stride": 1})
        self.head(self.channels[blob], num_classes)
        self.add("prob", "Softmax", ("fc1000",))
        return f"ResNet-{(3 if bottleneck else 2) * sum(depths) + 2}"

    def add(
        self,
        name: str,
        kind: str,
        bottoms: tuple[str, ...],
        settings: Mapping[str, Any] | None = None,
        blobs: Sequence[Floats] = (),
        top: str | None = None,
    ) -> None:
        self.layers.append(
            CaffeLayer(name, kind, bottoms, top or name, settings or {}, tuple(blobs))
        )

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Floats:
        if self.without_weights:
            return np.empty(0, np.float32)
        return mean + np.float32(scale) * self.random.standard_normal(shape, np.float32)

    def conv(
        self, bottom: str, name: str, outputs: int, *, kernel: int, stride: int, bias: bool = False
    ) -> None:
        inputs = self.channels[bottom]
        scale = (2 / (inputs * kernel * kernel)) ** 0.5
        blobs = [self.normal(outputs, inputs, kernel, kernel, scale=scale)]
        settings: dict[str, Any] = {"num_output": outputs, "kernel_size": kernel}
        settings |= {"pad": kernel // 2, "stride": stride}
        if bias:
            blobs.append(self.normal(outputs, scale=0.1))
        else:
            settings["bias_term"] = False
        self.add(name, "Convolution", (bottom,), settings, blobs)
        self.channels[name] = outputs

    def norm(self, blob: str, suffix: str) -> None:
        """A batch norm whose statistics are not yet divided by their factor, and its scale."""
        channels = self.channels[blob]
        factor = np.float32(self.random.uniform(0.5, 1000))
        mean = self.normal(channels, scale=0.1) * factor
        variance = self.random.uniform(0.5, 1.5, channels).astype(np.float32) * factor
        blobs = [mean, variance, np.array([factor])]
        self.add(f"bn{suffix}", "BatchNorm", (blob,), {"use_global_stats": True}, blobs, blob)
        blobs = [self.normal(channels, scale=0.1, mean=0.6), self.normal(channels, scale=0.1)]
        self.add(f"scale{suffix}", "Scale", (blob,), {"bias_term": True}, blobs, blob)

    def relu(self, blob: str) -> None:
        self.add(f"{blob}_relu", "ReLU", (blob,), top=blob)

    def block(self, bottom: str, name: str, width: int, stride: int, bottleneck: bool) -> str:
        outputs = 4 * width if bottleneck else width
        shortcut = bottom
        if stride > 1 or self.channels[bottom] != outputs:
            shortcut = f"res{name}_branch1"
            self.conv(bottom, shortcut, outputs, kernel=1, stride=stride)
            self.norm(shortcut, f"{name}_branch1")
        kernels = {"2a": 1, "2b": 3, "2c": 1} if bottleneck else {"2a": 3, "2b": 3}
        last = list(kernels)[-1]
        blob = bottom
        for branch, kernel in kernels.items():
            conv = f"res{name}_branch{branch}"
            size = outputs if branch == last else width
            self.conv(blob, conv, size, kernel=kernel, stride=stride if branch == "2a" else 1)
            self.norm(conv, f"{name}_branch{branch}")
            if branch != last:
                self.relu(conv)
            blob = conv
        self.add(f"res{name}", "Eltwise", (shortcut, blob))
        self.relu(f"res{name}")
        self.channels[f"res{name}"] = outputs
        return f"res{name}"

    def head(self, inputs: int, num_classes: int) -> None:
        blobs = [
            self.normal(num_classes, inputs, scale=inputs**-0.5),
            self.normal(num_classes, scale=0.1),
        ]
        self.add("fc1000", "InnerProduct", ("pool5",), {"num_output": num_classes}, blobs)


def prototxt(title: str, layers: Sequence[CaffeLayer], side: int) -> str:
    """The text of a deploy prototxt, with its input in the old style."""
    lines = [f'name: "{title}"', 'input: "data"']
    lines += [f"input_dim: {size}" for size in (1, 3, side, side)]
    return "\n".join([*lines, "", *map(as_text, layers)])


def as_text(layer: CaffeLayer) -> str:
    """One layer of a prototxt, in the order of the authors."""
    lines = [f'\tbottom: "{name}"' for name in layer.bottoms]
    lines += [f'\ttop: "{layer.top}"', f'\tname: "{layer.name}"', f'\ttype: "{layer.type}"']
    if layer.settings:
        lines.append(f"\t{PARAMETERS[layer.type][0]} {{")
        for name, value in layer.settings.items():
            lines.append(f"\t\t{name}: {str(value).lower() if isinstance(value, bool) else value}")
        lines.append("\t}")
    return "\n".join(["layer {", *lines, "}", ""])


def encode(layer: CaffeLayer, *, parameters: bool = True, legacy: bool = False) -> bytes:
    """One layer of a caffemodel, in the order in which protobuf writes it."""
    data = string(1, layer.name) + string(2, layer.type)
    data += b"".join(string(3, name) for name in layer.bottoms) + string(4, layer.top)
    data += b"".join(bytes_field(7, encode_blob(blob, legacy=legacy)) for blob in layer.blobs)
    data += number_field(10, 1)  # phase: TEST
    if layer.settings and parameters:
        data += bytes_field(PARAMETERS[layer.type][1], encode_settings(layer))
    return bytes_field(100, data)


def encode_settings(layer: CaffeLayer) -> bytes:
    """The settings of a layer, by their numbers."""
    fields = sorted((NUMBERS[layer.type][name], value) for name, value in layer.settings.items())
    return b"".join(
        varint(number << 3 | 5) + np.float32(value).tobytes()
        if isinstance(value, float)
        else number_field(number, WORDS[value] if isinstance(value, str) else int(value))
        for number, value in fields
    )


def encode_blob(
    values: NDArray[np.floating[Any]], *, legacy: bool = False, double: bool = False
) -> bytes:
    """The numbers of a blob with their shape; ``legacy`` fills it up to four from the left."""
    floats = values.astype("<f8" if double else "<f4").tobytes()
    data = bytes_field(8 if double else 5, floats)
    if legacy:
        shape = (1,) * (4 - values.ndim) + values.shape
        return b"".join(number_field(1 + i, size) for i, size in enumerate(shape)) + data
    dims = b"".join(map(varint, values.shape))
    return data + bytes_field(7, bytes_field(1, dims))


def varint(value: int) -> bytes:
    """A number of protobuf, seven bits a byte, the lowest first."""
    value &= (1 << 64) - 1
    low: list[int] = []
    while value >= 128:
        low.append(value & 127 | 128)
        value >>= 7
    return bytes([*low, value])


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def string(number: int, value: str) -> bytes:
    return bytes_field(number, value.encode())
