"""A network file of fp32 -> one of int8, by NNCF, with the ranges that it measures on images.

Nothing in it is random: the same network and images give the same file, whatever their order of
batches.
"""

import logging
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import ExtraError, OptionError
from resnet_cli.graph import Description, Graph
from resnet_cli.graph.libraries import quiet, save_onnx, save_openvino
from resnet_cli.system import cpu_instructions

Images = NDArray[np.uint8] | NDArray[np.float32]  # [N, H, W, C]: pixels, or normalised values
PRESETS = ("performance", "mixed")

# x86 processors with these add products of 8 bits in 32; those without in 16, which overflows
SAFE_SUMS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
X86 = ("x86_64", "AMD64", "i386", "i686")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """How a network is quantised.

    Raises:
        OptionError: an unknown preset.
    """

    preset: str = "mixed"  # activations on a range of their own, or symmetric: performance
    ignored: tuple[str, ...] = ()  # operations, by name, that stay in floating point as well

    def __post_init__(self) -> None:
        """Check the preset."""
        if self.preset not in PRESETS:
            raise OptionError(f"cannot use preset {self.preset!r}: one of {', '.join(PRESETS)}")


DEFAULTS = QuantizeOptions()


@dataclass(frozen=True, slots=True)
class Library:
    """What reads, writes and runs the network files of one format."""

    read: Callable[[Path], Any]
    save: Callable[[Any, Path, Description], None]
    layers: Callable[[Any], Sequence[str]]  # names of those with weights, in order
    feed: Callable[[Images, str], Any]  # what its runs take, for an input of that name
    runner: Callable[[Any], Callable[[Images], NDArray[np.float32]]]  # of what NNCF validates


def read_openvino_model(path: Path) -> Any:
    """Read a network of OpenVINO."""
    import openvino

    return openvino.Core().read_model(path)


def read_onnx_model(path: Path) -> Any:
    """Read a network of ONNX, with its external data."""
    import onnx

    return onnx.load(path)


def layers_of_openvino(model: Any) -> list[str]:
    """Return the names of convolutions and linear layers in order."""
    operations = model.get_ordered_ops()
    return [one.get_friendly_name() for one in operations if one.get_type_name() in LAYERS]


def layers_of_onnx(model: Any) -> list[str]:
    """Return the names of convolutions and linear layers in order."""
    return [node.name for node in model.graph.node if node.op_type in LAYERS]


def run_compiled(compiled: Any) -> Callable[[Images], NDArray[np.float32]]:
    """Return what runs a compiled network of OpenVINO."""
    return lambda images: compiled(images)[0]


def run_onnx(model: Any) -> Callable[[Images], NDArray[np.float32]]:
    """Return what runs a network of ONNX."""
    from onnxruntime import InferenceSession

    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


LAYERS = ("Convolution", "Conv", "MatMul", "Gemm")
"""Kinds of operations with weights, of both libraries."""

LIBRARIES: Mapping[str, Library] = {
    "openvino": Library(
        read_openvino_model,
        save_openvino,
        layers_of_openvino,
        lambda images, _: images,
        run_compiled,
    ),
    "onnx": Library(
        read_onnx_model, save_onnx, layers_of_onnx, lambda images, name: {name: images}, run_onnx
    ),
}
"""Formats of ``Graph.format``."""


def quantize_graph(
    graph: Graph,
    batches: Sequence[Images],
    path: Path,
    *,
    description: Description,
    options: QuantizeOptions = DEFAULTS,
) -> Description:
    """Quantise a network to int8.

    Args:
        graph: in fp32.
        batches: all images to calibrate on, as the network takes them, but [N, H, W, C].
        path: of the same format; replaced once all is written.
        description: of the network; precision and calibration are set here.
        options: how.

    Returns:
        What the file states of itself.

    Raises:
        ExtraError: NNCF is missing.
        OutputError: it cannot be written.
    """
    nncf = import_nncf()
    items = list(items_of(graph, batches))
    with silent(nncf):
        quantized = nncf.quantize(
            **arguments_for(nncf, graph, items, options),
            advanced_parameters=advanced_parameters(nncf),
        )
    return save(quantized, graph, path, described(description, calibration_facts(options, items)))


def items_of(graph: Graph, batches: Sequence[Images]) -> Iterator[Images]:
    """Yield what the network takes in a pass: an image, or as many as it is fixed to.

    NNCF measures ranges by the pass, so that the size of a batch would change them.
    """
    size = graph.batch or 1
    images = np.concatenate(batches).astype(graph.dtype, copy=False)
    if graph.layout == "NCHW":
        images = images.transpose(0, 3, 1, 2)
    for start in range(0, len(images) - size + 1, size):
        yield np.ascontiguousarray(images[start : start + size])


def arguments_for(
    nncf: ModuleType, graph: Graph, items: Sequence[Images], options: QuantizeOptions
) -> dict[str, Any]:
    """Return a network and how it is quantised, as both ways of NNCF take them.

    The last layer stays in floating point: it is a thousandth of the work, and its outputs are what
    is compared.
    """
    library = LIBRARIES[graph.format]
    model = library.read(graph.path)
    ignored = dict.fromkeys(filter(None, [*library.layers(model)[-1:], *options.ignored]))
    return {
        "model": model,
        "calibration_dataset": nncf.Dataset(items, lambda item: library.feed(item, graph.input)),
        "preset": nncf.QuantizationPreset(options.preset),
        "subset_size": len(items),
        "ignored_scope": nncf.IgnoredScope(names=[*ignored]),
    }


def advanced_parameters(nncf: ModuleType) -> Any:
    """Return the settings that were found to keep the most labels of a ResNet.

    NNCF's correction of biases costs labels (tests/benchmarks/README.md). Where sums overflow, half
    of the range is used.
    """
    fix = nncf.OverflowFix.ENABLE if sums_overflow() else nncf.OverflowFix.DISABLE
    return nncf.AdvancedQuantizationParameters(overflow_fix=fix, disable_bias_correction=True)


def sums_overflow() -> bool:
    """Return whether this processor multiplies 8-bit numbers into sums that are too short."""
    return platform.machine() in X86 and not cpu_instructions() & SAFE_SUMS


def calibration_facts(options: QuantizeOptions, items: Sequence[Images]) -> dict[str, Any]:
    """Return how a network was quantised."""
    return {"images": sum(map(len, items)), "preset": options.preset}


def described(description: Description, facts: Mapping[str, Any]) -> Description:
    """Return the description of a network after it was quantised."""
    calibration = {**description.calibration, **facts}
    return replace(description, precision="int8", calibration=calibration)


def save(quantized: Any, graph: Graph, path: Path, description: Description) -> Description:
    """Write a quantised network, and return its description."""
    LIBRARIES[graph.format].save(quantized, path, description)
    return description


def import_nncf() -> ModuleType:
    """Import NNCF without what it logs.

    Raises:
        ExtraError: it is missing.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # it would set the level of its own logger
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nncf
    except ImportError as error:
        raise ExtraError("--precision int8", "openvino") from error
    finally:
        logging.disable(before)
    return nncf


@contextmanager
def silent(nncf: ModuleType) -> Iterator[None]:
    """Drop what NNCF prints, warns of and logs."""
    logger = logging.getLogger("nncf")
    level = logger.level
    nncf.set_log_level(logging.CRITICAL)
    try:
        with quiet():
            yield
    finally:
        nncf.set_log_level(level)
