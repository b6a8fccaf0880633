"""A .onnx file -> Graph: its structure is read, its weights are not."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli.errors import CheckpointError, ExtraError
from resnet_cli.graph import Graph
from resnet_cli.graph.examine import graph_of
from resnet_cli.graph.identify import HEAD, identify_other
from resnet_cli.graph.outline import Operation, Outline, Tensor, naming, refuse_operations, shown
from resnet_cli.graph.wire import WireError, message_class, without_numbers

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

DTYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    14: "complex64", 15: "complex128", 16: "bfloat16", 21: "uint4", 22: "int4",
}  # fmt: skip
"""Numbers of types in ``TensorProto.DataType``, and NumPy's names of them."""

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Sets of operations that ONNX Runtime computes: those of ONNX, and its own."""

NOT_ONNX = "it is damaged, or not a network in ONNX: copy or export it again"
EMPTY = "it holds no network: export it again"
OUTSIDE = "its weights are in {0}, outside its folder: export it with its weights beside it"
MISSING = "its weights are missing: put {0} beside it"
CUT_OFF = "its weights in {0} are cut off: copy both files again"


def read_onnx(path: Path) -> Graph:
    """Read what a .onnx file states, without its external data.

    Raises:
        CheckpointError: it is damaged, or does not classify images.
        ExtraError: onnx is not installed.
        OSError: it cannot be opened.
    """
    with naming(path):
        return graph_of(outline_of(path, parse(path)))


def parse(path: Path) -> "ModelProto":
    """Parse a file, without the numbers of its weights.

    Raises:
        CheckpointError: it is not of ONNX, or is cut off.
        ExtraError: onnx is not installed.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        if other := identify_other(head):
            raise CheckpointError(other)
        try:
            network = message_class()
        except ImportError as error:
            raise ExtraError(str(path), "onnx") from error
        from google.protobuf.message import DecodeError

        data = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
        try:
            model = network.FromString(without_numbers(data))
        except (DecodeError, UnicodeDecodeError, WireError) as error:
            raise CheckpointError(NOT_ONNX) from error
    if not model.ir_version or not model.opset_import:
        raise CheckpointError(NOT_ONNX)
    if not model.graph.node:
        raise CheckpointError(EMPTY)
    return model


def outline_of(path: Path, model: "ModelProto") -> Outline:
    """Collect what the parsed file states.

    Raises:
        CheckpointError: it has custom operations, or data that is not beside it.
    """
    refuse_custom(model)
    graph = model.graph
    stored = list(stored_tensors(model))
    constants = {text_of(tensor.name) for tensor in graph.initializer}
    constants |= {
        text_of(name) for node in graph.node if node.op_type == "Constant" for name in node.output
    }
    numbers: Counter[str] = Counter()
    for tensor in stored:
        if (count := prod(tensor.dims)) > 1:
            numbers[DTYPES.get(tensor.data_type, "unknown")] += count
    return Outline(
        path=path,
        files=(path, *external_files(path, stored)),
        format="onnx",
        inputs=[tensor_of(one) for one in graph.input if text_of(one.name) not in constants],
        outputs=[tensor_of(one) for one in graph.output],
        made_by={
            text_of(name): Operation(text_of(node.op_type), [text_of(one) for one in node.input])
            for node in graph.node
            for name in node.output
        },
        constants=constants,
        numbers=numbers,
        operations=Counter(
            text_of(node.op_type) for node in all_nodes(model) if node.op_type != "Constant"
        ),
        producer=f"{text_of(model.producer_name)} {text_of(model.producer_version)}".strip(),
        metadata={text_of(one.key): text_of(one.value) for one in model.metadata_props},
    )


def text_of(value: str | bytes) -> str:
    """Return a string of a message; protobuf gives bytes where it is not UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def tensor_of(value: "ValueInfoProto") -> Tensor:
    """Return name, type and shape of an input or output; sizes that are not fixed are None."""
    kind = value.type.tensor_type
    dtype = DTYPES.get(kind.elem_type, "unknown")
    shape = None
    if kind.HasField("shape"):
        shape = tuple(axis.dim_value if axis.dim_value > 0 else None for axis in kind.shape.dim)
    return Tensor(text_of(value.name), dtype, shape)


def refuse_custom(model: "ModelProto") -> None:
    """Refuse operations that no library knows and the file does not define.

    Raises:
        CheckpointError: it has such operations; they are named.
    """
    defined = {(function.domain, function.name) for function in model.functions}
    custom = {
        f"{text_of(node.domain)}.{text_of(node.op_type)}"
        for node in all_nodes(model)
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in defined
    }
    refuse_operations(custom, "export it with those of ONNX alone")


def all_nodes(model: "ModelProto") -> Iterator["NodeProto"]:
    """Yield the nodes of the graph, of its functions, and of what loops and branches hold."""
    yield from nested_nodes(model.graph.node)
    for function in model.functions:
        yield from nested_nodes(function.node)


def nested_nodes(nodes: "Iterable[NodeProto]") -> Iterator["NodeProto"]:
    """Yield nodes, and those of the graphs in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in graphs_in(attribute):
                yield from nested_nodes(graph.node)


def graphs_in(attribute: "AttributeProto") -> Iterator["GraphProto"]:
    """Yield the graphs of an attribute."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def stored_tensors(model: "ModelProto") -> Iterator["TensorProto"]:
    """Yield every tensor that the file holds or refers to."""
    yield from initializers(model.graph)
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in graphs_in(attribute):
                yield from initializers(graph)


def initializers(graph: "GraphProto") -> Iterator["TensorProto"]:
    """Yield the tensors of one graph."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def external_files(path: Path, stored: "Iterable[TensorProto]") -> tuple[Path, ...]:
    """Return the files beside a network that hold its weights.

    Raises:
        CheckpointError: one is elsewhere, missing or too short.
    """
    ends: dict[str, int] = {}
    for tensor in stored:
        if tensor.data_location == tensor.EXTERNAL:
            entries = {text_of(one.key): text_of(one.value) for one in tensor.external_data}
            location = entries.get("location", "")
            ends[location] = max(ends.get(location, 0), end_of(entries))
    return tuple(beside(path, location, end) for location, end in sorted(ends.items()))


def end_of(entries: Mapping[str, str]) -> int:
    """Return where the data of a tensor ends in its file.

    Raises:
        CheckpointError: it lies at no place.
    """
    try:
        offset, length = (int(entries.get(key) or 0) for key in ("offset", "length"))
    except ValueError as error:
        raise CheckpointError(NOT_ONNX) from error
    if min(offset, length) < 0:
        raise CheckpointError(NOT_ONNX)
    return offset + length


def beside(path: Path, location: str, end: int) -> Path:
    """Return the file of external data, which must be below the folder of the network.

    Raises:
        CheckpointError: it is elsewhere, missing or shorter than ``end``.
    """
    file = path.parent / location
    if not location or "\0" in location:
        raise CheckpointError(NOT_ONNX)
    try:
        inside = not Path(location).is_absolute() and leads_below(file, path)
        size = file.stat().st_size if inside else 0
    except (OSError, RuntimeError) as error:  # also of links in a circle
        raise CheckpointError(MISSING.format(shown(location))) from error
    if not inside:
        raise CheckpointError(OUTSIDE.format(shown(location)))
    if size < end or not file.is_file():
        raise CheckpointError(CUT_OFF.format(shown(location)))
    return file


def leads_below(file: Path, path: Path) -> bool:
    """Return whether a file is below the folder of another, wherever links lead."""
    folders = (path.parent.resolve(), path.resolve().parent)
    return any(file.resolve().is_relative_to(folder) for folder in folders)
