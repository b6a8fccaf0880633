"""A network of torch -> a file of ONNX or OpenVINO that holds it with its normalisation.

The network is traced, not exported by ``torch.export``: both are right, and for a ResNet-18 tracing
takes OpenVINO 1.5 s instead of 3.6, and ONNX 0.6 s instead of 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet_cli.errors import ExtraError
from resnet_cli.files import check_suffix
from resnet_cli.graph import PIXELS, Description
from resnet_cli.graph.libraries import quiet, save_onnx, save_openvino
from resnet_cli.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "image", "logits"
"""Names in the files that are written."""

LAYOUT = "NCHW"

OPSET = 17  # of ONNX; newer ones bring a ResNet nothing, and fewer programs read them

HALF_EXACT = 2**-10  # most that rounding to fp16 may take off, as a share of the largest weight

Write = Callable[[nn.Module, Tensor, Path, Description, int | None], None]


class Normalised(nn.Module):
    """A network behind what stands between RGB images and what it was trained with."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, *, takes_pixels: bool) -> None:
        """Keep the network, and the numbers in its own order of channels."""
        super().__init__()
        self.network = network
        self.takes_pixels = takes_pixels
        self.bgr = preprocess.color == "bgr"
        for name, numbers in (("shift", preprocess.mean), ("scale", preprocess.std)):
            values = 255 * torch.tensor(numbers, dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB [N, C, H, W], pixels or normalised values, to logits [N, classes]."""
        if self.bgr:
            images = images.flip(1)
        if self.takes_pixels:
            images = (images.float() - self.shift) / self.scale
        logits: Tensor = self.network(images)
        return logits


def convert_network(
    network: nn.Module, path: Path, *, description: Description, batch: int | None = None
) -> None:
    """Write a network and its normalisation into a file.

    A file takes RGB whatever its network was trained with. For a network of BGR the file turns the
    channels around, and describes its preprocessing in RGB: who runs it need not know.

    Args:
        network: in evaluation mode and float32, on the CPU, mapping normalised float
            [N, C, H, W] to logits [N, classes].
        path: ``.onnx``, or ``.xml`` for OpenVINO, with a ``.bin`` beside it.
        description: what the file will state; its precision is that of the weights, fp32 or fp16.
            Computing is float32 with both.
        batch: images in a pass; None leaves it free.

    Raises:
        ExtraError: the library that writes it is missing.
        OutputError: another suffix, or it cannot be written; nothing is left of it.
    """
    check_suffix(path, WRITERS)
    preprocess = Preprocess.from_record(description.preprocess)
    takes_pixels = description.input == PIXELS
    whole = Normalised(network, preprocess, takes_pixels=takes_pixels).eval()
    example = torch.zeros(
        batch or 1,
        preprocess.channels,
        preprocess.crop_size,
        preprocess.crop_size,
        dtype=torch.uint8 if takes_pixels else torch.float32,
    )
    described = replace(description, preprocess=in_rgb(preprocess).record())
    with torch.no_grad():
        WRITERS[path.suffix.lower()](whole, example, path, described, batch)


def in_rgb(preprocess: Preprocess) -> Preprocess:
    """Return the same preprocessing in the words of a network that takes RGB."""
    if preprocess.color == "rgb":
        return preprocess
    mean, std = preprocess.mean[::-1], preprocess.std[::-1]
    return replace(preprocess, color="rgb", mean=mean, std=std)


def write_openvino(
    network: nn.Module, example: Tensor, path: Path, description: Description, batch: int | None
) -> None:
    """Write .xml and .bin.

    Raises:
        ExtraError: OpenVINO is missing.
    """
    try:
        import openvino
    except ImportError as error:
        raise ExtraError("writing .xml", "openvino") from error
    with quiet():
        traced = torch.jit.trace(network, example, check_trace=False)
        shape = openvino.PartialShape([batch or -1, *example.shape[1:]])
        model = openvino.convert_model(traced, example_input=example, input=[shape])
    model.set_friendly_name(description.model)
    model.inputs[0].set_names({INPUT})
    model.inputs[0].node.set_layout(openvino.Layout(LAYOUT))
    model.outputs[0].set_names({OUTPUT})
    save_openvino(model, path, description)


def write_onnx(
    network: nn.Module, example: Tensor, path: Path, description: Description, batch: int | None
) -> None:
    """Write .onnx.

    Raises:
        ExtraError: onnx is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise ExtraError("writing .onnx", "onnx") from error
    buffer = BytesIO()
    with quiet():
        torch.onnx.export(
            network,
            (example,),
            buffer,  # type: ignore[arg-type]  # which this exporter writes to as well
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={} if batch else {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    if description.precision == "fp16":
        halve_weights(model)
    save_onnx(model, path, description)


def halve_weights(model: "onnx.ModelProto") -> None:
    """Store the weights in fp16, each behind a cast: computing stays float32, and cannot overflow.

    Runtimes apply the casts once, when they load the file. Biases are small and stay as they are,
    as do weights that are too large or too small for fp16.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1 and fits_half(values):
            name = tensor.name
            stored = numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16")
            casts.append(helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT))
            tensor.CopyFrom(stored)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def fits_half(values: NDArray[np.float32]) -> bool:
    """Return whether fp16 holds weights with the precision that it has in its usual range."""
    with np.errstate(over="ignore", invalid="ignore"):
        lost = abs(values.astype(np.float16).astype(np.float32) - values).max(initial=0)
    return bool(lost <= HALF_EXACT * abs(values).max(initial=0))


WRITERS: Mapping[str, Write] = {".onnx": write_onnx, ".xml": write_openvino}
