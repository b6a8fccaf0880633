"""Pixels -> the best classes of each image: the runtimes that compute a network, as a table.

A runtime is a library on a device. It states as data where its work belongs and what it needs from
the rooms before it, so that nothing outside this package asks which device it is. Its module is
imported when the runtime is first used. To add one, write a class with the attributes of
``Runtime`` in a module of its own and name it in ``RUNTIMES``.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import DeviceError, DeviceNameError, ExtraError, OptionError
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Pixels

if TYPE_CHECKING:
    from torchvision.models import ResNet

    from resnet_cli.graph import Graph

log = logging.getLogger("resnet_cli")

PRECISIONS: Mapping[str, int] = MappingProxyType({"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1})
"""Name of each precision: bytes of a number."""

QUANTIZED = "int8"  # weights that were calibrated on images

RUNTIMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "torch": {
            "cuda": "resnet_cli.runtimes.torch_cuda:TorchCuda",
            "mps": "resnet_cli.runtimes.torch_runtime:TorchMps",
            "cpu": "resnet_cli.runtimes.torch_runtime:TorchCpu",
        },
        "openvino": {"cpu": "resnet_cli.runtimes.openvino_runtime:OpenVino"},
        "onnxruntime": {"cpu": "resnet_cli.runtimes.onnx_runtime:OnnxRuntime"},
    }
)
"""``--runtime``: kinds of device: module and class. ``auto`` tries the kinds in order."""

EXTRAS: Mapping[str, str] = MappingProxyType({"openvino": "openvino", "onnxruntime": "onnx"})
"""Runtimes that need an extra, and which."""

READERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"openvino": ("openvino",), "onnx": ("onnxruntime", "openvino")}
)
"""Format of a network file: the runtimes that load it, the usual one first."""


@dataclass(frozen=True, slots=True)
class Top:
    """The best classes of one pass, in host memory."""

    probs: NDArray[np.float32]  # [N, k], best first
    indices: NDArray[np.int64]  # [N, k]
    forward_ms: float  # of the whole pass, until the device has finished it


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a runtime loads a network."""

    preprocess: Preprocess  # for its normalisation, which the runtime computes
    activation: str = "softmax"  # or sigmoid, identity: turns the outputs into probabilities
    precision: str = "fp32"  # one of PRECISIONS; normalisation and probabilities stay in fp32
    compiled: bool = False  # through the compiler of the runtime, such as torch.compile


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """Where and how a network is computed.

    Raises:
        OptionError: an unknown runtime or precision, or two that exclude each other.
    """

    runtime: str | None = None  # one of RUNTIMES; None is torch, and the own one of a network file
    device: str = "auto"  # or cpu, cuda, cuda:1, mps
    precision: str | None = None  # one of PRECISIONS; None is fp32, or int8 of such a file
    compile: bool = False  # through torch.compile
    cache: bool = True  # keep networks that are converted for a runtime

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value, known in (
            ("runtime", self.runtime, RUNTIMES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in (None, *known):
                raise OptionError(f"cannot use {name} {value!r}: one of {', '.join(known)}")
        if self.runtime == "torch" and self.precision == QUANTIZED:
            raise OptionError("torch computes no int8 here: use --runtime openvino")

    def runtime_for(self, graph: "Graph | None") -> str:
        """Return the name of the runtime for a network file, or for a network of torch.

        Raises:
            OptionError: the runtime that was asked for does not load such a file.
        """
        if graph is None:
            return self.runtime or ("openvino" if self.precision == QUANTIZED else "torch")
        readers = READERS[graph.format]
        if self.runtime not in (None, *readers):
            raise OptionError(
                f"cannot run {graph.path} by {self.runtime}: use --runtime {' or '.join(readers)}"
            )
        return self.runtime or readers[0]

    def precision_on(self, runtime: "Runtime", stored: str = "fp32") -> str:
        """Return the precision to use: fp32 where the processor would only emulate another.

        Args:
            runtime: that computes.
            stored: precision of the weights in a network file; halves are computed with in fp32.

        Raises:
            OptionError: weights are int8, which no other precision brings back.
        """
        if stored == QUANTIZED:
            if self.precision not in (None, QUANTIZED):
                raise OptionError(
                    f"cannot use --precision {self.precision}: the file is int8 already"
                )
            return QUANTIZED
        if self.precision is None:
            return "fp32"
        if self.precision in runtime.precisions:
            return self.precision
        log.warning(
            "%s has no fast %s on this processor: using fp32", runtime.description, self.precision
        )
        return "fp32"


class Runtime(Protocol):
    """What computes networks, and how it wants to be fed."""

    device: str  # as ``--device`` names it, such as cuda:1

    suffix: ClassVar[str | None]
    """Suffix of the network files that it loads; None for the networks of torch."""

    on_workers_cores: ClassVar[bool]
    """True: each worker runs the network itself, on its own core. False: the workers only decode,
    and one consumer behind them keeps the device busy."""

    batch_size: ClassVar[int]  # images in a pass that pay, where the user gives no number

    wants_processes: ClassVar[bool]
    """Whether it outpaces threads: with many cores, workers are processes."""

    times_passes: ClassVar[bool]  # whether ``time_pass`` measures passes that are not waited for

    @classmethod
    def is_available(cls) -> bool:
        """Return True if ``auto`` may choose it on this machine."""

    @property
    def hardware(self) -> str:
        """Name of the GPU or of the processor."""

    @property
    def description(self) -> str:
        """The device in words, with the name of a GPU."""

    @property
    def precisions(self) -> frozenset[str]:
        """The precisions that the device has units for; others it would emulate slowly."""

    def load(self, network: "ResNet | Graph", options: SessionOptions) -> "Session":
        """Make a network ready to run.

        Args:
            network: of torch, in evaluation mode, on the CPU, in fp32, which may be changed in
                place; where the runtime has a ``suffix``, a network file.
            options: how.

        Raises:
            CheckpointError: the runtime cannot load the file.
        """

    def allocate(self, shape: tuple[int, ...]) -> Pixels:
        """Return uninitialised host memory for a batch, of the kind that the device copies best."""

    def compiling_pays(self, precision: str) -> bool:
        """Return True if a compiled network is faster than one that is not."""

    def synchronize(self) -> None:
        """Wait until the device has finished all passes."""

    def time_pass(self, run: Callable[[], object]) -> "TimedPass":
        """Queue a pass between two timestamps of the device."""

    def reset_peak_memory(self) -> None:
        """Start measuring peak memory from here, where the system can."""

    def peak_memory(self) -> int:
        """Return the most bytes in use since the reset: of a GPU, or of the process on the CPU."""

    def available_memory(self) -> int | None:
        """Return the bytes that work may take: all of a GPU, what is free of the machine.

        None where the system does not say.
        """


class Session(Protocol):
    """A network that a runtime has loaded."""

    @property
    def runtime(self) -> Runtime:
        """Where it runs."""

    @property
    def limit(self) -> int | None:
        """Most images in one pass, lowered when the device runs out of memory."""

    @property
    def algorithms(self) -> Mapping[str, int]:
        """Names of the algorithms of its convolutions, and how many each computes.

        As of the last pass; empty where the library does not say.
        """

    def launch(self, pixels: Pixels, k: int) -> list[Callable[[], Top]]:
        """Start the network on a batch, in as many passes as the device's memory asks for.

        Args:
            pixels: uint8 [N, H, W, C] in host memory, at least one image.
            k: classes to keep for each image, at most the number that the network has.

        Returns:
            One function a pass, in order, that waits for its result.

        Raises:
            DeviceError: not even a single image fits.
        """

    def repeat(self, pixels: Pixels, k: int) -> Callable[[], object]:
        """Move a batch to the device and return a function that queues one pass over it."""


class TimedPass(Protocol):
    """A pass that a device may still be working on."""

    def wait(self) -> None:
        """Wait until it is finished."""

    def milliseconds(self) -> float:
        """Return how long it took the device."""


def find_runtime(device: str = "auto", name: str = "torch") -> Runtime:
    """Find the runtime for ``auto`` or a device such as ``cpu``, ``cuda:1`` or ``mps``.

    Args:
        device: as ``--device`` names it.
        name: one of RUNTIMES.

    Raises:
        DeviceNameError: unknown name.
        DeviceError: this machine has no such device, or the runtime does not use it.
        ExtraError: the library of the runtime is not installed.
    """
    check_device_name(device)
    kinds = RUNTIMES[name]
    if device == "auto":
        device = next(kind for kind in kinds if import_runtime(kind, name).is_available())
    kind = device.partition(":")[0]
    if kind not in kinds:
        raise DeviceError(
            f"cannot use device {device!r} by {name}: one of auto, {', '.join(kinds)}"
        )
    return import_runtime(kind, name)(device)


def check_device_name(name: str) -> None:
    """Check that a device is ``auto``, a name of ``RUNTIMES``, or one with a number.

    Raises:
        DeviceNameError: lists those that exist.
    """
    kinds = sorted({kind for each in RUNTIMES.values() for kind in each})
    if not re.fullmatch(rf"auto|({'|'.join(kinds)})(:\d+)?", name):
        known = ", ".join(["auto", *kinds]).replace("cuda", "cuda, cuda:1")
        raise DeviceNameError(f"cannot use device {name!r}: one of {known}")


class RuntimeClass(Protocol):
    """What an entry of ``RUNTIMES`` names."""

    def __call__(self, device: str) -> Runtime:
        """Use a device.

        Raises:
            DeviceError: this machine has no such device.
        """

    def is_available(self) -> bool:
        """Return True if this machine has such a device."""


def import_runtime(kind: str, name: str = "torch") -> RuntimeClass:
    """Import a runtime on a kind of device, such as ``cuda``.

    Raises:
        ExtraError: its library is not installed.
    """
    module, _, class_name = RUNTIMES[name][kind].partition(":")
    try:
        return cast(RuntimeClass, getattr(import_module(module), class_name))
    except ModuleNotFoundError as error:
        if name not in EXTRAS:
            raise
        raise ExtraError(f"--runtime {name}", EXTRAS[name]) from error
