"""What a file is that has the suffix of a network file and holds something else."""

import re

KINDS = (
    ("the file is empty", rb"\Z"),
    ("it is a git-lfs pointer, not the network itself: run 'git lfs pull'",
     rb"version https://git-lfs\.github\.com/"),
    ("it is a web page, not a network: download the file behind its link",
     rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?i:!doctype\s+html|html|head)\b"),
    ("it is a checkpoint of PyTorch or another zip archive: name it .pth if it is one",
     rb"PK\x03\x04"),
    ("it is an image, not a network",
     rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF.{4}WEBP|II\*\0|MM\0\*"),
    ("it is a file of HDF5, as Keras writes it, not a network in ONNX", rb"\x89HDF\r\n\x1a\n"),
)  # fmt: skip
"""What a file is, and a pattern of its first bytes."""

HEAD = 4096  # bytes that show it


def identify_other(data: bytes) -> str | None:
    """Say what a file is instead of a network; None where that is unknown."""
    head = data[:HEAD]
    for sentence, start in KINDS:
        if re.match(start, head, re.DOTALL):
            return sentence
    return None
