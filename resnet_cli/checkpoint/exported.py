"""A network file of ONNX or OpenVINO -> ExportedCheckpoint; no torch is needed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_cli.checkpoint.locate import LoadOptions
from resnet_cli.checkpoint.metadata.classes import ClassNames, find_classes
from resnet_cli.checkpoint.tree import Contents
from resnet_cli.errors import CheckpointError, OptionError
from resnet_cli.graph import Graph, read_graph
from resnet_cli.preprocess import Preprocess

UNKNOWN_MODEL = "unknown"  # architecture of a file that does not name it

SHARE = 256 / 224  # of the resized side that torchvision's preset crops

OF_TENSORS = {
    "state_key": "--state-key",
    "dilated": "--dilation",
    "trusted": "--trust-checkpoint",
}
"""Fields of ``LoadOptions`` that mean something for a file of tensors alone: their options."""


@dataclass(frozen=True, slots=True)
class ExportedCheckpoint:
    """A network in a file that a runtime loads by itself, with class names and preprocessing."""

    graph: Graph
    classes: ClassNames
    preprocess: Preprocess
    preprocess_source: str  # in words
    notes: tuple[str, ...]  # assumptions, in words
    state_key: str = ""  # such a file holds one network

    @property
    def path(self) -> Path:
        """Its file."""
        return self.graph.path

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that holds it."""
        return self.graph.files

    @property
    def format(self) -> str:
        """``onnx`` or ``openvino``."""
        return self.graph.format

    @property
    def model(self) -> str:
        """Name of the architecture, where the file states it."""
        return self.graph.description.model if self.graph.description else UNKNOWN_MODEL

    @property
    def num_classes(self) -> int:
        """Outputs of the network."""
        return self.graph.num_classes

    @property
    def in_channels(self) -> int:
        """Channels of the images that it takes."""
        return self.graph.channels

    @property
    def activation(self) -> str:
        """What turns outputs into probabilities; ``identity`` where the network does it itself."""
        if self.graph.activation is not None:
            return "identity"
        described = self.graph.description
        return described.activation if described else usual_activation(self.num_classes)

    @property
    def is_multi_label(self) -> bool:
        """Whether each of several outputs has a probability of its own."""
        return self.num_classes > 1 and "sigmoid" in (self.activation, self.graph.activation)

    @property
    def whereabouts(self) -> list[str]:
        """What kind of file it is, in words."""
        by = [f"written by {self.graph.producer.partition('-')[0]}"] if self.graph.producer else []
        return [f"{self.graph.format} in {self.graph.precision}", *by]

    def network(self) -> Graph:
        """Return what a runtime loads."""
        return self.graph

    def check_preprocess(self, wanted: Preprocess) -> None:
        """Check that the file can be given images that are prepared so.

        Raises:
            OptionError: it takes another size, or normalises by other numbers itself.
        """
        recorded, size = self.preprocess, self.graph.size
        if size not in (None, (wanted.crop_size, wanted.crop_size)):
            raise OptionError(
                f"cannot crop {wanted.crop_size} pixels for {self.path}: it takes images of "
                f"{recorded.crop_size} x {recorded.crop_size} alone"
            )
        if self.graph.takes_pixels and (wanted.mean, wanted.std) != (recorded.mean, recorded.std):
            raise OptionError(
                f"cannot change mean and std of {self.path}: it normalises pixels by itself"
            )

    def release(self) -> None:
        """Do nothing: the runtime holds the weights."""


def usual_activation(num_classes: int) -> str:
    """Return what turns outputs into probabilities where nothing is said."""
    return "softmax" if num_classes > 1 else "sigmoid"


def load_exported(path: Path, options: LoadOptions) -> ExportedCheckpoint:
    """Load a network file: find its class names and its preprocessing.

    Raises:
        CheckpointError: damaged, no network that classifies, or not ``options.model``.
        SettingError: ``options.classes`` do not fit.
    """
    refuse_options(path, options)
    graph = read_graph(path)
    if options.model not in (None, graph.description and graph.description.model):
        raise CheckpointError(
            f"cannot load {path} as {options.model}: it is "
            f"{graph.description.model if graph.description else 'of an unknown architecture'}: "
            "leave --model out"
        )
    preprocess, source = find_preprocess_of(graph)
    notes = (*(graph.description.notes if graph.description else ()), *assumption_notes(graph))
    return ExportedCheckpoint(graph, name_outputs_of(graph, options), preprocess, source, notes)


def refuse_options(path: Path, options: LoadOptions) -> None:
    """Refuse what chooses among several networks in a file, or changes one.

    Raises:
        OptionError: names the option.
    """
    for name, option in OF_TENSORS.items():
        if getattr(options, name):
            raise OptionError(
                f"cannot use {option} on {path}: it holds one network, just as it will run"
            )


def name_outputs_of(graph: Graph, options: LoadOptions) -> ClassNames:
    """Find a name for each output: the user's, those in the file, those beside it."""
    described = graph.description
    if options.classes is None and described is not None:
        return ClassNames(described.class_names, described.classes_source, described.made_up)
    contents = Contents(graph.format, {}, graph.metadata)
    return find_classes(options.classes, contents, graph.path, graph.num_classes)


def find_preprocess_of(graph: Graph) -> tuple[Preprocess, str]:
    """Return the preprocessing that the file states, else torchvision's usual one for its size.

    Raises:
        CheckpointError: images are not square.
    """
    if graph.description is not None:
        described = graph.description
        recorded = Preprocess.from_record({**described.preprocess})
        return as_fixed(recorded, graph), described.preprocess_source
    height, width = graph.size or (224, 224)
    if height != width:
        raise CheckpointError(
            f"cannot load {graph.path}: it takes images of {width} x {height} pixels: only square "
            "ones are cropped"
        )
    usual = Preprocess(resize_size=max(height, round(height * SHARE)), crop_size=height)
    return as_fixed(
        usual.with_channels(graph.channels), graph
    ), "assumed to be imagenet-v1: it states none"


def as_fixed(preprocess: Preprocess, graph: Graph) -> Preprocess:
    """Mark the numbers of a network that normalises by itself: presets keep them."""
    return replace(preprocess, fixed=True) if graph.takes_pixels else preprocess


def assumption_notes(graph: Graph) -> Iterator[str]:
    """Yield what was assumed of a file that another program wrote, in words."""
    if graph.description is not None:
        return
    if graph.takes_pixels:
        yield "it takes uint8 pixels: it is assumed to normalise them itself"
    if graph.activation:
        yield f"its outputs are probabilities already: {graph.activation} is its last step"
