"""Network files through ONNX Runtime on the processor: one thread a worker."""

from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from resnet_cli.errors import CheckpointError, describe
from resnet_cli.graph import Graph
from resnet_cli.graph.examine import scores_of
from resnet_cli.records import Pixels
from resnet_cli.runtimes import QUANTIZED, SessionOptions
from resnet_cli.runtimes.graph_session import GraphSession, Logits
from resnet_cli.runtimes.host import HostRuntime

if TYPE_CHECKING:
    from torchvision.models import ResNet

ERRORS_ONLY = 3  # of the severities that ONNX Runtime prints on stderr


class OnnxRuntime(HostRuntime):
    """The processor, each worker on a core of its own."""

    suffix: ClassVar[str | None] = ".onnx"
    batch_size: ClassVar[int] = 4

    def __init__(self, device: str) -> None:
        self.device = device

    @property
    def description(self) -> str:
        """The device and the library."""
        return f"{self.device} (ONNX Runtime {onnxruntime.__version__})"

    @property
    def precisions(self) -> frozenset[str]:
        """Return fp32, and int8 of weights that were calibrated."""
        return frozenset({"fp32", QUANTIZED})

    def load(self, network: "ResNet | Graph", options: SessionOptions) -> "OnnxSession":
        """Make a network file ready to run; see ``Runtime``."""
        return OnnxSession(self, cast(Graph, network), options)


class OnnxSession(GraphSession):
    """A network that ONNX Runtime has optimised."""

    def __init__(self, runtime: OnnxRuntime, graph: Graph, options: SessionOptions) -> None:
        super().__init__(runtime, graph, options)
        self.preprocess = options.preprocess
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = ERRORS_ONLY
        try:
            self.session = onnxruntime.InferenceSession(
                graph.path,
                settings,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # which prints on stdout why it fell back
            )
        except Exception as error:
            raise CheckpointError(f"cannot load {graph.path}: {describe(error)}") from error

    def infer(self, pixels: Pixels) -> Logits:
        """Compute the outputs on this thread.

        Raises:
            CheckpointError: the file cannot be run, or computes something else than it states.
        """
        given = {self.graph.input: self.as_input(pixels)}
        try:
            (outputs,) = self.session.run([self.graph.output], given)
        except Exception as error:
            raise CheckpointError(f"cannot run {self.graph.path}: {describe(error)}") from error
        return scores_of(self.graph, outputs, len(pixels))

    def as_input(self, pixels: Pixels) -> NDArray[np.generic]:
        """Turn uint8 [N, H, W, C] into what the file takes."""
        given: NDArray[np.generic] = pixels
        if not self.graph.takes_pixels:
            given = self.preprocess.normalise(pixels).astype(self.graph.dtype, copy=False)
        if self.graph.layout == "NCHW":
            given = given.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(given)
