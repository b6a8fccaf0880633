"""A checkpoint -> a file that ONNX Runtime, OpenVINO or torch runs, checked before it is left.

from resnet_cli import ExportOptions, export_checkpoint

done = export_checkpoint("model.pth", "model.onnx", ExportOptions(precision="fp16"))
print(done.path, done.agreement)
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from resnet_cli.errors import OutputError
from resnet_cli.export.options import ExportOptions, files_of
from resnet_cli.export.quantized import Accuracy
from resnet_cli.export.source import load_source
from resnet_cli.export.work import Findings, Steps, Work
from resnet_cli.files import naming_output, sync_folder
from resnet_cli.graph import PIXELS, Description
from resnet_cli.records import Progress
from resnet_cli.run.calibrate import LOW, Agreement
from resnet_cli.text import first_few

if TYPE_CHECKING:
    from resnet_cli.checkpoint.exported import ExportedCheckpoint
    from resnet_cli.checkpoint.loading import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What ``export_checkpoint`` wrote."""

    path: Path
    files: tuple[Path, ...]  # with the .bin of an .xml
    bytes: int  # of all of them
    description: Description  # what the file states of itself
    agreement: Agreement | None  # with the checkpoint in fp32; None where none was asked for
    accuracy: Accuracy | None  # of int8, where the classes of the images are known
    notes: tuple[str, ...]  # what was read, written and found, in words
    warnings: tuple[str, ...]


def export_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    options: ExportOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Export:
    """Write the network of a checkpoint and its normalisation into a file that describes itself.

    The file is run by its own runtime, and compared with the checkpoint, before it appears under
    its name.

    Args:
        checkpoint: a file of any kind or its URL, or a folder with one; a network file for int8
            alone.
        output: ``.onnx``, ``.xml`` (OpenVINO, with a ``.bin`` beside it) or ``.pt2``.
        options: what is written, and how it is checked.
        progress: called with the images that were loaded or computed so far, and how many will be.

    Raises:
        OutputError: an unknown suffix, an existing file, one that cannot be written, or one of
            fp32 that computes something else than the checkpoint; no file is left.
        CheckpointError: the checkpoint cannot be read, or not be written so.
        SettingError: a value that does not fit.
        InputError: no images to calibrate on, or labels that match no class.
        ExtraError: a library is missing; the message names the extra.
    """
    options, path = options or ExportOptions(), Path(output)
    options.check_output(path)
    loaded = load_source(checkpoint, path, options)
    work = Work(loaded, options, path, Steps(progress))
    with folder_beside(path) as folder:
        draft = folder / f"network{path.suffix.lower()}"
        with naming_final(path, folder):
            found = work.quantise(draft) if options.quantizes else work.write(draft)
        move_into_place(draft, path)
    files = files_of(path)
    return Export(
        path=path,
        files=files,
        bytes=sum(file.stat().st_size for file in files),
        description=found.description,
        agreement=found.agreement,
        accuracy=found.accuracy,
        notes=tuple(describe_export(loaded, found, options.batch)),
        warnings=tuple(warn_of(found, path)),
    )


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Make a folder on the disk of a file, for what will be moved into its place.

    Raises:
        OutputError: it cannot be written there.
    """
    with naming_output(path):
        folder = TemporaryDirectory(dir=path.resolve().parent, prefix=".resnet-cli-")
    with folder as name:
        yield Path(name)


@contextmanager
def naming_final(path: Path, folder: Path) -> Iterator[None]:
    """Name the file that is wanted in an error of writing one in the folder beside it.

    Raises:
        OutputError: in place of one that names another.
    """
    try:
        yield
    except OutputError as error:
        draft = rf"{re.escape(str(folder))}\S*?(?=: )"
        raise OutputError(re.sub(draft, lambda _: str(path), str(error))) from error


def move_into_place(draft: Path, path: Path) -> None:
    """Move a file, and the .bin of an .xml, to where it belongs.

    The .xml appears last, and one that was there goes first: it never stands beside the .bin of
    another network.

    Raises:
        OutputError: it cannot be written there.
    """
    target = path.resolve()
    _, *beside = zip(files_of(draft), files_of(target), strict=True)
    with naming_output(path):
        for new, old in beside:
            target.unlink(missing_ok=True)
            new.replace(old)
        draft.replace(target)
        sync_folder(target.parent)


def describe_export(
    loaded: "Checkpoint | ExportedCheckpoint", found: Findings, batch: int | None
) -> Iterator[str]:
    """Yield what was read, what was written, and how they agree, in words."""
    described, preprocess = found.description, loaded.preprocess
    names = described.class_names
    yield f"{loaded.path} ({loaded.format}): {', '.join([loaded.model, *loaded.whereabouts])}"
    yield f"{loaded.num_classes:,} outputs: {first_few(names)} ({described.classes_source})"
    yield f"preprocessing: {preprocess.words} ({described.preprocess_source})"
    takes = "uint8" if described.input == PIXELS else "normalised float32"
    side = preprocess.crop_size
    yield from loaded.notes
    yield f"input: {takes} [{batch or 'N'}, {preprocess.channels}, {side}, {side}]"
    yield from found.notes
    if (agreement := found.agreement) is not None:
        yield (
            f"{described.precision}: the label of fp32 on {agreement.same:,} of "
            f"{agreement.images:,} {found.compared}, largest difference of probability "
            f"{agreement.largest_difference:.1e}"
        )
    if found.accuracy is not None:
        yield f"{described.precision}: {found.accuracy}"


def warn_of(found: Findings, path: Path) -> Iterator[str]:
    """Yield what should be looked at before the file is used, in words."""
    described, agreement = found.description, found.agreement
    if described.made_up:
        names = first_few(described.class_names)
        yield f"no class names in {path}: labels will be {names}: give --classes"
    limited = "max_drop" in described.calibration  # what the user accepts
    if agreement is not None and agreement.share < LOW and not limited:
        remedy = "--max-drop 0.01" if described.precision == "int8" else "fp32"
        yield f"under {100 * LOW:.0f} % of equal labels in {described.precision}: try {remedy}"
