"""Errors that the user can fix, shown as one line without a traceback.

* UserError
  * CheckpointError
  * DeviceError
    * DeviceNameError
  * ExtraError
  * ImageError
  * InputError
  * OutputError
    * OutputNameError
  * ProcessError
  * SettingError
    * OptionError

``OSError`` is shown in the same way. Any other exception is a bug and keeps its traceback.

Those below the second level are wrong usage: no file and no machine would make them right.
"""


class UserError(Exception):
    """The message names what failed, on what, and what would be right."""

    status = 1  # exit status of a command that ends with it


class CheckpointError(UserError):
    """A checkpoint that cannot be read, found or downloaded, or that holds no ResNet."""


class DeviceError(UserError):
    """A device that does not exist, or that this PyTorch cannot use."""


class DeviceNameError(DeviceError):
    """The name of a device that does not exist."""

    status = 2


class ExtraError(UserError):
    """What is asked for needs libraries that are not installed."""

    def __init__(self, wanted: str, extra: str) -> None:
        """Name the extra that brings them."""
        super().__init__(f"{wanted} needs an extra: pip install 'resnet-cli[{extra}]'")


class ImageError(UserError):
    """A file that cannot be decoded as an image: the only error that a run survives."""


class InputError(UserError):
    """An INPUT that names nothing to classify."""


class OutputError(UserError):
    """A result file that cannot or must not be written."""


class OutputNameError(OutputError):
    """An output named with a suffix that has no format, or named twice."""

    status = 2


class ProcessError(UserError):
    """A process of this program that ended before its work was done."""


class SettingError(UserError):
    """A value of an option, or of a recorded setting, that is not possible."""


class OptionError(SettingError):
    """A value of an option that is wrong whatever the files hold."""

    status = 2


def describe(error: BaseException) -> str:
    """Return the type and message of an error in one line, for use in another message."""
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line}".removesuffix(": ")
