"""Errors that the user can mend, shown as one line without a traceback.

* UserError
  * CheckpointError
  * DeviceError
  * ImageError
  * InputError
  * OutputError
  * ProcessError
  * SettingError

``OSError`` is shown in the same way. Any other exception is a bug and keeps its traceback.
"""


class UserError(Exception):
    """The message names what failed, on what, and what would be right."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read, found or downloaded, or that holds no ResNet."""


class DeviceError(UserError):
    """A device that does not exist, or that this PyTorch cannot use."""


class ImageError(UserError):
    """A file that cannot be decoded as an image: the only error that a run survives."""


class InputError(UserError):
    """An INPUT that names nothing to classify."""


class OutputError(UserError):
    """A result file that cannot or must not be written."""


class ProcessError(UserError):
    """A process of this program that ended before its work was done."""


class SettingError(UserError):
    """A value of an option, or of a recorded setting, that is not possible."""


def describe(error: BaseException) -> str:
    """Shorten a foreign error to one line, to stand inside a message of ours."""
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line}".removesuffix(": ")
