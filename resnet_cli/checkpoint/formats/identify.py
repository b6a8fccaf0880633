"""What a file is that is not a checkpoint: by its first bytes, or by the names in a zip archive.

The tables are tried from the top: special cases come before general ones.
"""

import re
from collections.abc import Sequence

IMAGES = {
    "JPEG": rb"\xff\xd8\xff", "PNG": rb"\x89PNG\r\n", "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF.{4}WEBP", "BMP": rb"BM.{4}\0\0\0\0", "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb".{4}ftypavi[fs]", "HEIC": rb".{4}ftyp(?:hei|hev|mif1|msf1)",
}  # fmt: skip
ARCHIVES = {
    "gzip": rb"\x1f\x8b", "bzip2": rb"BZh[1-9]", "xz": rb"\xfd7zXZ\0", "zstd": rb"\x28\xb5\x2f\xfd",
    "7z": rb"7z\xbc\xaf\x27\x1c", "rar": rb"Rar!\x1a\x07", "tar": rb".{257}ustar",
}  # fmt: skip
SIZE = rb"[\x80-\xff]{0,4}[\0-\x7f]"  # length of a field in the wire format of Protocol Buffers
NETWORKS = {  # the first fields of saved_model.proto, Model.proto, onnx.proto and graph.proto
    "an HDF5 file, as Keras and TensorFlow write it (.h5)": rb"\x89HDF\r\n\x1a\n",
    "a SavedModel of TensorFlow": rb"\x08\x01\x12%b\n%b\x12" % (SIZE, SIZE),
    "a network in Core ML": rb"\x08[\x01-\x0f]\x12%b\n%b\n" % (SIZE, SIZE),
    "a network in ONNX": rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]",
    "a graph of TensorFlow": rb"\n%b\n[\x01-\x7f][!-~]+\x12[\x01-\x7f][A-Z_]" % SIZE,
    "a network for TensorFlow Lite": rb".{4}TFL3",
    "a network for PyTorch Mobile": rb".{4}PTMF",
    "a network in GGUF, as language models are": rb"GGUF[\x01-\x0f]\0\0\0",
    "a network of Torch7 (Lua)": rb"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1",
    "weights of MXNet": rb"\x12\x01\0{6}",
    "weights of Darknet (YOLO)": rb"\0{4}[\x01\x02]\0{3}[\0-\x05]\0{3}",
}
OTHERS = {
    "a PDF document": rb"%PDF-",
    "a file of MATLAB (.mat)": rb"MATLAB [57]\.",
    "a database (SQLite)": rb"SQLite format 3\0",
    "a program or a shared library": rb"\x7fELF|MZ.{0,32}\0|\xfe\xed\xfa[\xce\xcf]"
    rb"|[\xce\xcf]\xfa\xed\xfe|\xca\xfe\xba\xbe|!<arch>\n",
}
UNKNOWN = "it is not a checkpoint of a known format: .pth, .pt, .pkl, .ckpt or .safetensors"
MARK = rb"(?:\xef\xbb\xbf)?\s*"  # a byte order mark and white space before text
TEXT = "it is a text file, not a checkpoint"
NO_STATE = "no state dict: save one with torch.save"
OLD = "a checkpoint from before PyTorch 0.1.10"  # https://github.com/pytorch/pytorch/pull/713
FILE_KINDS = (
    ("the file is empty", rb"\Z"),
    ("it is a git-lfs pointer, not the checkpoint itself: run 'git lfs pull'",
     rb"version https://git-lfs\.github\.com/"),
    ("it is a git-annex pointer, not the checkpoint itself: run 'git annex get'", rb"/annex/"),
    ("it is a web page, not a checkpoint: download the file behind its link",
     MARK + rb"<(?i:!doctype html|html|head|\?xml)"),
    (f"{TEXT} (JSON)", MARK + rb'(?:\{\s*["}]|\[\s*(?:[]["{]|-?\d[\d.eE+-]*\s*[],]))'),
    (TEXT, rb"\xff\xfe.\0|\xfe\xff\0"),  # in UTF-16
    ("it is a shortcut of Windows: name the file that it leads to", rb"L\0\0\0\x01\x14\x02\0"),
    ("it is what macOS keeps beside a file: name the file itself", rb"\0\x05\x16\x07\0\x02\0\0"),
    (f"it holds arrays of NumPy (.npy), {NO_STATE}", rb"\x93NUMPY"),
    (f"it is {OLD}: load it with torch.load and save it again",
     rb"(?:\./\./@PaxHeader.{1010})?sys_info\0.{248}ustar"),
    # such a checkpoint starts with a time stamp, and its sign comes 1024 bytes later
    (f"it is a tar archive, or {OLD}: unpack it, or load it with torch.load and save it again",
     rb"\./\./@PaxHeader.{243}ustar.{0,1023}\Z"),
    ("it is an empty zip archive", rb"PK\x05\x06"),
    *((f"it is an image ({kind}), not a checkpoint", start) for kind, start in IMAGES.items()),
    ("it is compressed, as joblib does: load it with joblib.load and save it with torch.save",
     rb"\x78[\x01\x5e\x9c\xda]"),
    *((f"it is an archive ({kind}): unpack it", start) for kind, start in ARCHIVES.items()),
    *((f"it is {kind}, not a PyTorch checkpoint", start) for kind, start in NETWORKS.items()),
    *((f"it is {kind}, not a checkpoint", start) for kind, start in OTHERS.items()),
)  # fmt: skip
"""What a file is, and a pattern of its first bytes."""

ZIPS = (
    (f"it holds arrays of NumPy (.npz), {NO_STATE}", r"\A(?:[^\n]+\.npy\n)+\Z"),
    ("it is a network of Keras (.keras), not a PyTorch checkpoint", r"^model\.weights\.h5$"),
    ("it is a network in Core ML, not a PyTorch checkpoint", r"com\.apple\.CoreML|\.mlmodelc?\b"),
    ("it is a document of Office, not a checkpoint", r"^\[Content_Types\]\.xml$"),
    ("it is a document, not a checkpoint", r"^mimetype$"),  # EPUB and OpenDocument
    ("it is a torch.package, which is a program: save a state dict", r"/\.data/extern_modules$"),
    ("it is a checkpoint that was repacked: use the file as it was", r"(?:^|/)data\.pkl$"),
    ("it is a zip archive around {0}: unpack it",
     r"(?<![^/\n])[^/\0-\x1f\x7f-\x9f]*(?:\.(?:pth|pt|pkl|ckpt|th|safetensors)(?:\.tar)?"
     r"|model[\w-]*\.bin)$"),
    ("it is a Java archive, not a checkpoint", r"^META-INF/MANIFEST\.MF$"),
    ("it is a zip archive of images, not a checkpoint", r"(?i:\.(?:jpe?g|png|webp|tiff?|bmp))$"),
)  # fmt: skip
"""What a zip archive is, and a pattern of the name of an entry that only it has."""


def identify_head(head: bytes) -> str:
    """Say what a file is that is not a checkpoint.

    Args:
        head: its first 512 bytes; 1536 tell the oldest checkpoints from other tar archives.
    """
    for sentence, start in FILE_KINDS:
        if re.match(start, head, re.DOTALL):
            return sentence
    if is_utf8_text(head):
        return TEXT
    return UNKNOWN


def is_utf8_text(head: bytes) -> bool:
    """Return whether the bytes are UTF-8 text without control characters."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not a character that the end of these bytes splits
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)


def identify_zip(names: Sequence[str]) -> str | None:
    """Say what a zip archive with these entries is that is not a checkpoint; None where unknown."""
    text = "".join(f"{name}\n" for name in names if not name.startswith("__MACOSX/"))
    for sentence, pattern in ZIPS:
        if found := re.search(pattern, text, re.MULTILINE):
            return sentence.format(found[0])
    return None
