"""An OpenVINO .xml, with its .bin -> Graph; the weights are measured, not read.

Reading needs no library: what is looked at is XML. Running it needs the extra ``openvino``.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Protocol, TypeVar
from xml.etree.ElementTree import Element, ParseError, fromstring

from resnet_cli.errors import CheckpointError
from resnet_cli.graph import Graph
from resnet_cli.graph.examine import graph_of
from resnet_cli.graph.identify import identify_other
from resnet_cli.graph.outline import Operation, Outline, Tensor, naming, refuse_operations, shown

DTYPES: Mapping[str, str] = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16",
    "fp64": "float64", "fp32": "float32", "fp16": "float16", "boolean": "bool", "bool": "bool",
    "u8": "uint8", "i8": "int8", "u4": "uint4", "i4": "int4", "u16": "uint16", "i16": "int16",
    "u32": "uint32", "i32": "int32", "u64": "uint64", "i64": "int64",
}  # fmt: skip
"""OpenVINO's names of types, at data and at ports, and NumPy's."""

BITS = {"bool": 8, "float64": 64, "float32": 32, "float16": 16, "bfloat16": 16} | {
    f"{kind}{bits}": bits for kind in ("int", "uint") for bits in (4, 8, 16, 32, 64)
}

ENDS = ("Const", "Parameter", "Result")  # layers that compute nothing
OF_ONNX = "framework "  # tag around what the ONNX file carried that this was converted from
LONGEST = 19  # digits of a number that fits 64 bits

OPERATIONS = re.compile(r"opset\d+")  # sets of operations that OpenVINO computes
OLDEST = 10  # version of the format
LARGEST = 100 << 20  # bytes of an .xml; that of a ResNet-152 has half a million

DAMAGED = "it is damaged, or not a network of OpenVINO: copy or export it again"
LARGE = f"it has more than {LARGEST >> 20} MB of XML, which no network of OpenVINO has"
OTHER_XML = "it is XML of another kind (<{0}>), not a network of OpenVINO"
DECLARES = "it declares a document type, which no network of OpenVINO does"
TOO_OLD = "it is of version {0} of OpenVINO's format, which OpenVINO no longer reads: convert again"


def read_openvino(path: Path) -> Graph:
    """Read what the .xml of a network states, and check that its .bin is whole.

    Raises:
        CheckpointError: it is damaged, or does not classify images.
        OSError: it cannot be opened.
    """
    with naming(path):
        try:
            return graph_of(outline_of(path, parse(path)))
        except RecursionError as error:  # tags within tags within tags
            raise CheckpointError(DAMAGED) from error


def parse(path: Path) -> Element:
    """Parse an .xml.

    Raises:
        CheckpointError: it is damaged, or not a network of OpenVINO.
    """
    if path.stat().st_size > LARGEST:
        raise CheckpointError(LARGE)
    data = path.read_bytes()
    if other := identify_other(data):
        raise CheckpointError(other)
    try:
        text = data.decode()
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities could fill the memory
            raise CheckpointError(DECLARES)
        root = fromstring(text)
    except (ParseError, ValueError) as error:
        raise CheckpointError(DAMAGED) from error
    if root.tag != "net":
        raise CheckpointError(OTHER_XML.format(shown(root.tag)))
    return root


class Named(Protocol):
    """An input or output of a network that OpenVINO has loaded."""

    names: set[str]


Port = TypeVar("Port", bound=Named)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a network."""

    kind: str
    data: Mapping[str, str]  # its settings
    layout: str  # of an input that states it
    taken: tuple[Tensor, ...]
    given: tuple[Tensor, ...]


def outline_of(path: Path, net: Element) -> Outline:
    """Collect what the parsed file states.

    Raises:
        CheckpointError: it is damaged, too old, has custom operations, or its .bin is not whole.
    """
    require_version(net)
    refuse_custom(net)
    layers = list(read_layers(net))
    images = [layer for layer in layers if layer.kind == "Parameter"]
    info = dict(flat_info(net.find("rt_info")))
    return Outline(
        path=path,
        files=(path, *weights_of(path, net)),
        format="openvino",
        inputs=[parameter_tensor(layer) for layer in images if layer.given],
        outputs=[tensor for layer in layers if layer.kind == "Result" for tensor in layer.taken],
        made_by={
            tensor.name: Operation(layer.kind, [one.name for one in layer.taken])
            for layer in layers
            for tensor in layer.given
        },
        constants={one.name for layer in layers if layer.kind == "Const" for one in layer.given},
        numbers=count_numbers(net),
        operations=Counter(kind for kind in map(kind_of, net.iter("layer")) if kind not in ENDS),
        layout=images[0].layout if images else "",
        producer=f"OpenVINO {info.get('OpenVINO Runtime', '')}".strip(),
        metadata=info,
    )


def read_layers(net: Element) -> Iterator[Layer]:
    """Yield the layers, those in loops and branches left out, with what they take and give."""
    layers = net.findall("layers/layer")
    given = {
        (layer.get("id"), port.get("id")): tensor_of(layer, port)
        for layer in layers
        for port in layer.iterfind("output/port")
    }
    taken = {
        (edge.get("to-layer"), edge.get("to-port")): (edge.get("from-layer"), edge.get("from-port"))
        for edge in net.iterfind("edges/edge")
    }
    for layer in layers:
        number = layer.get("id")
        inputs = [taken.get((number, port.get("id"))) for port in layer.iterfind("input/port")]
        yield Layer(
            kind_of(layer),
            data_of(layer),
            stated_layout(layer),
            tuple(given[place] for place in inputs if place in given),
            tuple(given[number, port.get("id")] for port in layer.iterfind("output/port")),
        )


def kind_of(layer: Element) -> str:
    """Return the kind of a layer, as OpenVINO names it."""
    return layer.get("type", "")


def data_of(layer: Element) -> Mapping[str, str]:
    """Return the settings of a layer."""
    data = layer.find("data")
    return {} if data is None else data.attrib


def stated_layout(layer: Element) -> str:
    """Return the order of axes that an input states, such as NCHW."""
    for attribute in layer.iterfind("rt_info/attribute[@name='layout']"):
        return re.sub(r"[^A-Z]", "", attribute.get("layout", ""))
    return ""


def tensor_of(layer: Element, port: Element) -> Tensor:
    """Return what a layer gives at a port, by the first of the names that it has."""
    stated = re.split(r"(?<!\\),", port.get("names", ""))[0].replace("\\,", ",")
    sizes = tuple(fixed(axis.text or "") for axis in port.iterfind("dim"))
    return Tensor(
        stated or f"{layer.get('name', '')}:{port.get('id')}",
        dtype_of(port.get("precision", "")),
        sizes,
        named=bool(stated),
    )


def parameter_tensor(layer: Layer) -> Tensor:
    """Return an input as its settings state it, which count more than what stands at its port."""
    shape = layer.data.get("shape", "")
    sizes = None if "..." in shape else tuple(map(fixed, shape.split(",")))
    dtype = dtype_of(layer.data.get("element_type", ""))
    return replace(layer.given[0], dtype=dtype, shape=sizes)


def dtype_of(name: str) -> str:
    """Return NumPy's name of a type."""
    return DTYPES.get(name.lower(), "unknown")


def fixed(size: str) -> int | None:
    """Return the size of an axis; None for a range or any."""
    size = size.strip()
    return int(size) if size.isdecimal() and size.isascii() and len(size) < LONGEST else None


def require_version(net: Element) -> None:
    """Refuse formats that OpenVINO no longer reads.

    Raises:
        CheckpointError: it is of such a version, or of none.
    """
    version = fixed(net.get("version", ""))
    if version is None:
        raise CheckpointError(DAMAGED)
    if version < OLDEST:
        raise CheckpointError(TOO_OLD.format(version))


def refuse_custom(net: Element) -> None:
    """Refuse operations that only an extension of OpenVINO computes.

    Raises:
        CheckpointError: it has such operations; they are named.
    """
    custom = {
        f"{layer.get('version')}.{kind_of(layer)}"
        for layer in net.iter("layer")
        if not OPERATIONS.fullmatch(layer.get("version", ""))
    }
    refuse_operations(custom, "convert it to those of OpenVINO alone")


def flat_info(info: Element | None, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and value of each entry that a file carries, tags within tags as one name."""
    for entry in () if info is None else info:
        tag = entry.get("name", "") if entry.tag == "info" else entry.tag
        name = f"{above} {tag}".lstrip().removeprefix(OF_ONNX)
        if (value := entry.get("value")) is not None:
            yield name, value
        yield from flat_info(entry, name)


def count_numbers(net: Element) -> Counter[str]:
    """Count the numbers in all constants by their type, single numbers left out."""
    numbers: Counter[str] = Counter()
    for data in constants_in(net):
        sizes = [fixed(size) or 0 for size in data.get("shape", "").split(",") if size.strip()]
        if (count := prod(sizes)) > 1:
            numbers[dtype_of(data.get("element_type", ""))] += count
    return numbers


def constants_in(net: Element) -> Iterator[Mapping[str, str]]:
    """Yield the settings of every constant, of loops and branches too."""
    return (data_of(layer) for layer in net.iter("layer") if kind_of(layer) == "Const")


def weights_of(path: Path, net: Element) -> tuple[Path, ...]:
    """Return the .bin beside an .xml; none for a network without constants.

    Raises:
        CheckpointError: it is missing, or too short for what the .xml says.
    """
    ends = [end_of(data) for data in constants_in(net)]
    if not ends:
        return ()
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"its weights, {weights.name}, are missing beside it")
    if weights.stat().st_size < max(ends):
        raise CheckpointError(
            f"its weights, {weights.name}, are cut off or of another network: copy both again"
        )
    return (weights,)


def end_of(data: Mapping[str, str]) -> int:
    """Return where a constant ends in the .bin.

    Raises:
        CheckpointError: it lies at no place, or is not as long as its shape needs.
    """
    offset, size = (fixed(data.get(key, "")) for key in ("offset", "size"))
    if offset is None or size is None:
        raise CheckpointError(DAMAGED)
    return offset + size


def find_port(ports: Sequence[Port], name: str) -> Port:
    """Return the input or output of a loaded network that a ``Graph`` names.

    Networks that OpenVINO converts from PyTorch often have none: their name in a ``Graph`` is made
    up, and the port is the only one.
    """
    return next((port for port in ports if name in port.names), ports[0])
