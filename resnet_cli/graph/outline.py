"""What files of ONNX and OpenVINO have in common, before it is known what the network is for."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from resnet_cli.errors import CheckpointError
from resnet_cli.text import cut_end, escape_unprintable, list_few

WIDTH = 60  # letters of a name that are shown


@dataclass(frozen=True, slots=True)
class Tensor:
    """What goes into a network, or comes out of it."""

    name: str
    dtype: str  # as NumPy names it
    shape: tuple[int | None, ...] | None  # None for a size that is free, or for all that is unknown
    named: bool = True  # the name is in the file; else it is made of its place

    @property
    def words(self) -> str:
        """Name, type and shape, for a message."""
        sizes = ("?" if size is None else str(size) for size in self.shape or ())
        shape = f"[{', '.join(sizes)}]" if self.shape is not None else "of unknown shape"
        return f"{shown(self.name)} ({self.dtype} {cut_end(shape, WIDTH)})"


@dataclass(frozen=True, slots=True)
class Operation:
    """What computes a tensor."""

    kind: str
    inputs: Sequence[str]  # names of tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What both formats have in common."""

    path: Path
    files: tuple[Path, ...]
    format: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    made_by: Mapping[str, Operation]  # name of a tensor: what computes it
    constants: Collection[str]  # names of tensors
    numbers: Mapping[str, int]  # in constants of several, by their type
    operations: Mapping[str, int]
    layout: str = ""  # of the input, where it is stated
    producer: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the name of a file in front of the message of an error.

    Raises:
        CheckpointError: in place of one that names no file.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {path}: {error}") from error


def refuse_operations(custom: Collection[str], remedy: str) -> None:
    """Refuse operations that only an extension of a library computes.

    Raises:
        CheckpointError: there are some; they are named.
    """
    if custom:
        listed = list_few([shown(name) for name in sorted(custom)])
        raise CheckpointError(f"it has custom operations ({listed}): {remedy}")


def shown(name: str) -> str:
    """Return a name out of a file as it is safe to show."""
    return cut_end(escape_unprintable(name), WIDTH)
