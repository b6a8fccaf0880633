"""How a checkpoint is exported, and the checks that need no file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from resnet_cli.checkpoint.locate import LoadOptions
from resnet_cli.classifier import Adjust
from resnet_cli.errors import OptionError
from resnet_cli.files import check_new, check_suffix
from resnet_cli.graph import NORMALIZED, PIXELS
from resnet_cli.preprocess import Preprocess

PRECISIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        ".onnx": ("fp32", "fp16", "int8"),
        ".xml": ("fp32", "fp16", "int8"),
        ".pt2": ("fp32", "fp16"),
    }
)
"""Suffix of a file that ``export`` writes: the precisions that its weights can have."""

INPUTS = (PIXELS, NORMALIZED)
QUANTIZED = "int8"

OTHERWISE = "; .safetensors and .pth are written by convert"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What is written, and how it is checked.

    Raises:
        OptionError: names a value that cannot be, and what would be right.
    """

    load: LoadOptions = field(default_factory=LoadOptions)  # how the checkpoint is loaded
    # in place of the preprocessing that the checkpoint records, or a function that changes it
    preprocess: Preprocess | Adjust | None = None
    precision: str = "fp32"  # of the weights: fp32, fp16 or int8
    input: str = PIXELS  # uint8 RGB, or normalized: floats that are normalised already
    batch: int | None = None  # images in a pass; None leaves it free
    calibration: str | Path | None = None  # folder of images
    calibration_images: int = 300  # of it, that int8 is calibrated on
    labels: str | Path | None = None  # table of labels; None takes the names of the folders
    max_drop: float | None = None  # of top-1 in int8, as a share; layers stay in fp32 for it
    verify: int = 32  # images that the file is run on
    overwrite: bool = False  # replace existing files

    def __post_init__(self) -> None:
        """Check the values."""
        known = sorted({one for each in PRECISIONS.values() for one in each})
        for name, value, words in (
            ("precision", self.precision, known),
            ("input", self.input, INPUTS),
        ):
            if value not in words:
                raise OptionError(f"cannot use {name} {value!r}: one of {', '.join(words)}")
        for name, least in (("batch", 1), ("calibration_images", 1), ("verify", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"cannot use {name}={value}: {least} or more")
        if self.max_drop is not None and not 0 <= self.max_drop <= 1:
            raise OptionError(f"max_drop must be a share, 0 to 1, got {self.max_drop}")
        self.check_calibration()

    @property
    def quantizes(self) -> bool:
        """Whether the weights become integers."""
        return self.precision == QUANTIZED

    def check_calibration(self) -> None:
        """Check that int8 has images, and that nothing else is asked for what int8 alone has.

        Raises:
            OptionError: names the option.
        """
        if self.quantizes and self.calibration is None:
            raise OptionError("int8 is calibrated on images: name a folder with --calibration")
        for option, value in (("--labels", self.labels), ("--max-drop", self.max_drop)):
            if value is not None and not self.quantizes:
                raise OptionError(f"{option} is for int8: add --precision int8")

    def check_output(self, path: Path) -> None:
        """Check that a file can be written, before any work is done.

        Raises:
            OutputError: an unknown suffix, an existing file, or a folder that may not be written.
            OptionError: a precision that such a file cannot have.
        """
        check_suffix(path, PRECISIONS, otherwise=OTHERWISE)
        if self.precision not in PRECISIONS[path.suffix.lower()]:
            able = [suffix for suffix, each in PRECISIONS.items() if self.precision in each]
            raise OptionError(
                f"cannot write {path} in {self.precision}: a {path.suffix} holds "
                f"{' or '.join(PRECISIONS[path.suffix.lower()])}: use {' or '.join(able)}"
            )
        for file in files_of(path):
            check_new(file, overwrite=self.overwrite)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that an export is, the named one first."""
    return (path, path.with_suffix(".bin")) if path.suffix.lower() == ".xml" else (path,)
