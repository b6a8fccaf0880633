"""What a file computes, beside what the network computes that it was made of."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resnet_cli.checkpoint.exported import ExportedCheckpoint, load_exported
from resnet_cli.checkpoint.locate import LoadOptions
from resnet_cli.errors import ExtraError, OutputError
from resnet_cli.export.source import preprocess_of_input
from resnet_cli.graph import PIXELS, is_graph
from resnet_cli.pipeline import map_ordered
from resnet_cli.pipeline.batches import in_class_order
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Pixels
from resnet_cli.run.calibrate import Agreement
from resnet_cli.runtimes import EXTRAS, READERS, RuntimeOptions, SessionOptions, find_runtime
from resnet_cli.system import available_cores, one_thread_each

if TYPE_CHECKING:
    from resnet_cli.checkpoint.loading import Checkpoint

BATCH = 8  # images in a pass

LARGEST = 1e-4  # difference of a probability in fp32

SEED = 0
SQUARES = 7  # in a row of a random image

Probabilities = NDArray[np.float32]  # [N, outcomes]

Compute = Callable[[Pixels], Probabilities]
"""RGB pixels [N, H, W, C], N at most BATCH -> the probabilities of each image, in class order."""


def compare(plain: Probabilities, found: Probabilities) -> Agreement:
    """Compare the probabilities of two networks for the same images, at least one."""
    same = int((plain.argmax(axis=1) == found.argmax(axis=1)).sum())
    return Agreement(len(plain), same, float(np.abs(plain - found).max()))


def require_same(agreement: Agreement, path: Path) -> None:
    """Refuse a file of fp32 that computes something else.

    Raises:
        OutputError: a probability differs.
    """
    if not agreement.largest_difference <= LARGEST:  # nor is NaN
        raise OutputError(
            f"cannot write {path}: a probability differs by {agreement.largest_difference:.1e} "
            f"from that of the checkpoint, more than {LARGEST:.0e}: this is a fault of the "
            "conversion: export in another format"
        )


def compute_all(compute: Compute, pixels: Pixels, step: Callable[[int], None]) -> Probabilities:
    """Compute any number of images, at least one, on all cores.

    Args:
        compute: a network.
        pixels: as it takes them.
        step: called with how many are done since the last call.
    """
    parts: list[Probabilities] = []
    starts = range(0, len(pixels), BATCH)
    with (
        one_thread_each,
        closing(
            map_ordered(
                starts,
                lambda start: compute(pixels[start : start + BATCH]),
                workers=available_cores(),
            )
        ) as found,
    ):
        for part in found:
            parts.append(part)
            step(len(part))
    return np.concatenate(parts)


def random_pixels(count: int, preprocess: Preprocess) -> Pixels:
    """Return images of squares of random colours, the same each time."""
    side, channels = preprocess.crop_size, preprocess.channels
    squares = np.random.default_rng(SEED).integers(
        256, size=(count, SQUARES, SQUARES, channels), dtype=np.uint8
    )
    places = np.arange(side) * SQUARES // side
    return squares[:, places][:, :, places]


def plain_network(checkpoint: "Checkpoint | ExportedCheckpoint") -> Compute:
    """Return what computes a checkpoint as it is: torchvision's network, or the file itself."""
    if isinstance(checkpoint, ExportedCheckpoint):
        return run_graph(checkpoint)
    import torch

    from resnet_cli.runtimes.torch_runtime import to_probabilities

    network, preprocess = checkpoint.network(), checkpoint.preprocess

    @torch.inference_mode()
    def compute(pixels: Pixels) -> Probabilities:
        in_order = pixels[..., ::-1] if preprocess.color == "bgr" else pixels
        images = torch.from_numpy(preprocess.normalise(in_order)).permute(0, 3, 1, 2)
        return to_probabilities(network(images), checkpoint.activation).numpy()

    return compute


def run_file(
    path: Path, checkpoint: "Checkpoint | ExportedCheckpoint", takes: str, batch: int | None
) -> Compute:
    """Return what runs a file that was just written, by its own runtime.

    Args:
        path: of the file.
        checkpoint: that it was made of, with the preprocessing in the file.
        takes: pixels, or normalised values.
        batch: images in a pass; None where any number will do.
    """
    if is_graph(path):
        return run_graph(load_exported(path, LoadOptions()))
    import torch

    from resnet_cli.export.programs import fill_up, load_program
    from resnet_cli.runtimes.torch_runtime import to_probabilities

    program, preprocess = load_program(path), preprocess_of_input(checkpoint)

    def run(pixels: Pixels) -> torch.Tensor:
        given = pixels if takes == PIXELS else preprocess.normalise(pixels)
        images = torch.from_numpy(given).permute(0, 3, 1, 2)
        size = batch or len(images)
        parts = [program(fill_up(part, size))[: len(part)] for part in images.split(size)]
        return torch.cat(parts)

    @torch.inference_mode()
    def compute(pixels: Pixels) -> Probabilities:
        return to_probabilities(run(pixels), checkpoint.activation).numpy()

    return compute


def run_graph(checkpoint: ExportedCheckpoint) -> Compute:
    """Return what runs a network file, by the library that it is for.

    Raises:
        ExtraError: the library is missing.
    """
    graph = checkpoint.graph
    name = READERS[graph.format][0]
    try:
        runtime = find_runtime("cpu", name)
    except ExtraError as error:
        raise ExtraError(f"running {graph.path.suffix} (--verify)", EXTRAS[name]) from error
    options = SessionOptions(
        preprocess=checkpoint.preprocess,
        activation=checkpoint.activation,
        precision=RuntimeOptions().precision_on(runtime, graph.precision),
    )
    session = runtime.load(graph, options)
    outcomes = max(2, graph.num_classes)

    def compute(pixels: Pixels) -> Probabilities:
        passes = session.launch(pixels, outcomes)
        return np.concatenate([in_class_order(wait()) for wait in passes])

    return compute
