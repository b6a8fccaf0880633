"""OpenVINO, ONNX and NNCF at work: without a word, and with files that are whole or absent."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from resnet_cli.errors import OutputError
from resnet_cli.files import (
    MAKE_ROOM,
    naming_output,
    sync_file,
    sync_folder,
    whole_file,
    whole_path,
)
from resnet_cli.graph import Description
from resnet_cli.graph.description import KEY, as_properties, as_rt_info

if TYPE_CHECKING:
    import onnx
    import openvino

# OpenVINO does not say why a write failed
FULL_DISK = f"its disk is full, or takes no file of that size: {MAKE_ROOM}"


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what libraries print and warn of: deprecations of their own, and progress."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield


def save_openvino(model: "openvino.Model", path: Path, description: Description) -> None:
    """Write a network of OpenVINO as .xml and .bin, with its description.

    The .xml appears last, and one that was there goes first: it never stands beside the .bin of
    another network.

    Raises:
        OutputError: it cannot be written.
    """
    import openvino

    number_operations(model)
    for place, value in as_rt_info(description).items():
        model.set_rt_info(value, list(place))
    target = path.resolve()
    half = description.precision == "fp16"
    with (
        naming_output(path),
        TemporaryDirectory(dir=target.parent, prefix=".resnet-cli-") as folder,
    ):
        xml = Path(folder, "network.xml")
        try:
            openvino.save_model(model, xml, compress_to_fp16=half)
        except RuntimeError as error:
            raise OutputError(f"cannot write {path}: {FULL_DISK}") from error
        weights = xml.with_suffix(".bin")
        for file in (weights, xml):
            with file.open("r+b") as written:
                sync_file(written)
        target.unlink(missing_ok=True)
        weights.replace(target.with_suffix(".bin"))
        xml.replace(target)
        sync_folder(target.parent)


def number_operations(model: "openvino.Model") -> None:
    """Name operations by their order, so that the same network is the same file.

    OpenVINO numbers them through all networks of a process. Names of inputs are kept.
    """
    for number, operation in enumerate(model.get_ordered_ops()):
        if operation.get_type_name() != "Parameter":
            operation.set_friendly_name(f"{operation.get_type_name()}_{number}")


def save_onnx(model: "onnx.ModelProto", path: Path, description: Description) -> None:
    """Write a network of ONNX into one file, with its description.

    Raises:
        OutputError: it cannot be written.
    """
    import onnx

    onnx.helper.set_model_props(model, as_properties(description))
    with naming_output(path), whole_path(path) as new:
        new.write_bytes(model.SerializeToString())


def describe_openvino_again(path: Path, description: Description) -> None:
    """Replace our record in an .xml that this program has just written.

    All else stays as it is, the .bin among it.

    Raises:
        OutputError: it cannot be written.
    """
    tree = ElementTree.parse(path)
    for entry in tree.iterfind(f"rt_info/{KEY}"):
        entry.set("value", as_rt_info(description)[KEY,])
    with naming_output(path), whole_file(path) as file:
        tree.write(file, encoding="utf-8", xml_declaration=True)


def describe_onnx_again(path: Path, description: Description) -> None:
    """Replace our record in an .onnx that this program has just written.

    Raises:
        OutputError: it cannot be written.
    """
    import onnx

    save_onnx(onnx.load(path), path, description)
