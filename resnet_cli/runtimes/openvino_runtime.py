"""Network files through OpenVINO on the processor: one stream a core, a request a worker."""

from collections import Counter
from collections.abc import Mapping
from threading import local
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

from resnet_cli.errors import CheckpointError, describe
from resnet_cli.graph import Graph
from resnet_cli.graph.examine import scores_of
from resnet_cli.graph.openvino_files import find_port
from resnet_cli.records import Pixels
from resnet_cli.runtimes import QUANTIZED, SessionOptions
from resnet_cli.runtimes.graph_session import GraphSession, Logits
from resnet_cli.runtimes.host import HostRuntime, precisions_with_units
from resnet_cli.system import available_cores

if TYPE_CHECKING:
    from torchvision.models import ResNet

ARITHMETIC = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""Precisions of what is floating point, in the words of OpenVINO."""


class OpenVino(HostRuntime):
    """The processor, each worker with a stream of one thread."""

    suffix: ClassVar[str | None] = ".xml"
    batch_size: ClassVar[int] = 8

    def __init__(self, device: str) -> None:
        self.device = device

    @property
    def description(self) -> str:
        """The device and the library."""
        return f"{self.device} (OpenVINO {ov.__version__.partition('-')[0]})"

    @property
    def precisions(self) -> frozenset[str]:
        """Those that this processor has instructions for, and int8."""
        return precisions_with_units() | {QUANTIZED}

    def load(self, network: "ResNet | Graph", options: SessionOptions) -> "OpenVinoSession":
        """Make a network file ready to run; see ``Runtime``."""
        return OpenVinoSession(self, cast(Graph, network), options)


class OpenVinoSession(GraphSession):
    """A compiled network."""

    def __init__(self, runtime: OpenVino, graph: Graph, options: SessionOptions) -> None:
        super().__init__(runtime, graph, options)
        cores = available_cores()
        settings = {
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
            "INFERENCE_PRECISION_HINT": ARITHMETIC.get(options.precision, "f32"),
        }
        core = ov.Core()
        try:
            model = take_pixels(core.read_model(graph.path), graph, options)
            self.compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise CheckpointError(f"cannot load {graph.path}: {describe(error)}") from error
        self.output = find_port(self.compiled.outputs, graph.output)
        self.own = local()

    @property
    def algorithms(self) -> Mapping[str, int]:
        """Return OpenVINO's names of the primitives that compute convolutions."""
        facts = [step.get_rt_info() for step in self.compiled.get_runtime_model().get_ops()]
        return Counter(
            fact["primitiveType"].astype(str)
            for fact in facts
            if fact["layerType"].astype(str) == "Convolution"
        )

    def infer(self, pixels: Pixels) -> Logits:
        """Compute the outputs in the request of this thread.

        The library reads the pixels where they are. It is waited for without Python's lock: what
        holds the lock while it waits for the library can wait for ever.

        Raises:
            CheckpointError: the file cannot be run, or computes something else than it states.
        """
        request = self.request()
        given = np.ascontiguousarray(pixels)  # which the request does not keep alive
        try:
            request.set_input_tensor(ov.Tensor(given, shared_memory=True))
            request.start_async()
            request.wait()
            outputs = np.array(request.get_tensor(self.output).data)  # the next pass overwrites it
        except RuntimeError as error:
            raise CheckpointError(f"cannot run {self.graph.path}: {describe(error)}") from error
        return scores_of(self.graph, outputs, len(pixels))

    def request(self) -> Any:
        """Return the request of this thread."""
        if not hasattr(self.own, "request"):
            self.own.request = self.compiled.create_infer_request()
        return self.own.request


def take_pixels(model: ov.Model, graph: Graph, options: SessionOptions) -> ov.Model:
    """Put what turns uint8 [N, H, W, C] into the input of a network in front of it."""
    side = options.preprocess.crop_size
    sizes = {"N": graph.batch or -1, "C": graph.channels, "H": side, "W": side}
    port = find_port(model.inputs, graph.input)
    place = model.inputs.index(port)
    model.reshape({port: [sizes[axis] for axis in graph.layout]})
    steps = PrePostProcessor(model)
    given = steps.input(place)
    given.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    given.model().set_layout(ov.Layout(graph.layout))
    if not graph.takes_pixels:
        means, stds = (
            [255 * number for number in numbers]
            for numbers in (options.preprocess.mean, options.preprocess.std)
        )
        given.preprocess().convert_element_type(ov.Type.f32).mean(means).scale(stds)
    return steps.build()
