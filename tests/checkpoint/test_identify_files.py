"""Files that are not checkpoints: identified by their first bytes, or by names in a zip archive."""

import bz2
import gzip
import json
import lzma
import pickle
import sqlite3
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.package.package_exporter import PackageExporter

from resnet_cli.checkpoint.formats.identify import identify_head, identify_zip


def picture(kind: str) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (9, 7)).save(stream, kind)
    return stream.getvalue()


def array() -> bytes:
    stream = BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def tar() -> bytes:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return stream.getvalue()


def database(folder: Path) -> bytes:
    path = folder / "some.db"
    connection = sqlite3.connect(path)
    connection.execute("create table t (n)")
    connection.commit()
    connection.close()
    return path.read_bytes()


MADE: tuple[tuple[str, Callable[[], bytes]], ...] = (
    *((f"it is an image ({kind}), not a checkpoint", partial(picture, code)) for kind, code in (
        ("JPEG", "JPEG"), ("PNG", "PNG"), ("GIF", "GIF"), ("WebP", "WEBP"), ("BMP", "BMP"),
        ("TIFF", "TIFF"), ("AVIF", "AVIF"))),
    ("it is a PDF document, not a checkpoint", partial(picture, "PDF")),
    ("it holds arrays of NumPy (.npy), no state dict: save one with torch.save", array),
    ("it is an archive (gzip): unpack it", lambda: gzip.compress(b"weights")),
    ("it is an archive (bzip2): unpack it", lambda: bz2.compress(b"weights")),
    ("it is an archive (xz): unpack it", lambda: lzma.compress(b"weights")),
    ("it is an archive (tar): unpack it", tar),
    ("it is a text file, not a checkpoint (JSON)", lambda: json.dumps([{}], indent=1).encode()),
    ("it is a text file, not a checkpoint (JSON)", lambda: b"\xef\xbb\xbf{}"),
    ("it is a text file, not a checkpoint", lambda: "résultat: 1\n".encode("utf-16")),
    ("it is a text file, not a checkpoint", lambda: "\ufeffrésultat: 1\n".encode("utf-16-be")),
    ("it is a program or a shared library, not a checkpoint",
     Path(sys.executable).resolve().read_bytes),
)  # fmt: skip
"""Files that a library writes here."""


@pytest.mark.parametrize(("sentence", "make"), MADE)
def test_a_file_of_another_kind_is_named(sentence: str, make: Callable[[], bytes]) -> None:
    assert identify_head(make()[:512]) == sentence


def test_a_database_is_named(tmp_path: Path) -> None:
    assert identify_head(database(tmp_path)[:512]) == "it is a database (SQLite), not a checkpoint"


FOREIGN = "not a PyTorch checkpoint"
RECORDED = (  # first bytes as other libraries wrote them, or as their formats are described
    ("the file is empty", b""),
    ("it is a git-lfs pointer, not the checkpoint itself: run 'git lfs pull'",
     b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 46830571\n"),
    ("it is a git-annex pointer, not the checkpoint itself: run 'git annex get'",
     b"/annex/objects/SHA256E-s46830571--5c106cde.pth\n"),
    ("it is a web page, not a checkpoint: download the file behind its link",
     b"\xef\xbb\xbf\r\n<!doctype HTML>\n<html>"),
    *(("it is a web page, not a checkpoint: download the file behind its link", start)
      for start in (b"<HTML lang=en>", b"<head>", b"<?xml version='1.0'?><Error/>")),
    *(("it is an image (HEIC), not a checkpoint", b"\0\0\0\x24ftyp" + brand + b"\0\0\0\0")
      for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")),
    ("it is an image (TIFF), not a checkpoint", b"MM\0*\0\0\0\x08"),
    ("it is an archive (zstd): unpack it", b"\x28\xb5\x2f\xfd\x24\0\x01\0\0"),
    ("it is an archive (7z): unpack it", b"7z\xbc\xaf\x27\x1c\0\x04"),
    ("it is an archive (rar): unpack it", b"Rar!\x1a\x07\x01\0"),
    # onnx 1.23 and its helper.make_model, with a producer, without, and one of ten letters
    (f"it is a network in ONNX, {FOREIGN}", b"\x08\x0e\x12\x07pytorch:3\n\x0c\n\x01x\x12\x01y"),
    (f"it is a network in ONNX, {FOREIGN}", b'\x08\x0e:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01'),
    (f"it is a network in ONNX, {FOREIGN}", b"\x08\x03\x12\nkeras2onnx\x1a\x05"),
    # coremltools 9.0, Model_pb2
    (f"it is a network in Core ML, {FOREIGN}",
     b'\x08\x04\x12\xcf\x02\n\x11\n\x05image\x1a\x08"\x06\x08\xe0\x01\x10\xe0\x01R\x07\n\x05probs'),
    (f"it is a network in Core ML, {FOREIGN}", b"\x08\x01\x12\xcf\x02\n\x11\n\x05image\x1a\x08"),
    # saved_model.proto: version 1, a meta graph, its information, the operations that it uses
    (f"it is a SavedModel of TensorFlow, {FOREIGN}",
     b"\x08\x01\x12\xf1\x8b\x0a\n\xb3\x2e\x12\xe1\x05\n\x3b"),
    # graph.proto: a node, its name, its operation
    (f"it is a graph of TensorFlow, {FOREIGN}",
     b"\n\x34\n\x05input\x12\x0bPlaceholder*\x0b\n\x05dtype"),
    (f"it is a network for TensorFlow Lite, {FOREIGN}", b"\x1c\0\0\0TFL3\x14\0\x20\0"),
    (f"it is a network for PyTorch Mobile, {FOREIGN}", b"\x20\0\0\0PTMF\0\0\0\0"),
    (f"it is a network in GGUF, as language models are, {FOREIGN}", b"GGUF\x03\0\0\0\x01\0\0\0"),
    # h5py 3.16
    (f"it is an HDF5 file, as Keras and TensorFlow write it (.h5), {FOREIGN}",
     b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0"),
    (f"it is a network of Torch7 (Lua), {FOREIGN}",
     b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\x0d\0\0\0nn.Sequential"),
    # kMXAPINDArrayListMagic in MXNet's src/ndarray/ndarray.cc
    (f"it is weights of MXNet, {FOREIGN}", struct.pack("<QQQ", 0x112, 0, 161)),
    (f"it is weights of Darknet (YOLO), {FOREIGN}", struct.pack("<iiiq", 0, 2, 5, 32013312)),
    ("it is a file of MATLAB (.mat), not a checkpoint", b"MATLAB 5.0 MAT-file, Platform: PCWIN"),
    ("it is a program or a shared library, not a checkpoint", b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff"),
    *(("it is a program or a shared library, not a checkpoint", start)
      for start in (b"\xcf\xfa\xed\xfe\x0c\0\0\x01", b"\xfe\xed\xfa\xcf\x01\0\0\x0c",
                    b"\xca\xfe\xba\xbe\0\0\0\x02", b"!<arch>\nmodel.o/  \0")),
    ("it is a shortcut of Windows: name the file that it leads to",
     b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46"),
    ("it is what macOS keeps beside a file: name the file itself",
     b"\0\x05\x16\x07\0\x02\0\0Mac OS X        "),
    ("it is an empty zip archive", b"PK\x05\x06" + bytes(18)),
    ("it is a text file, not a checkpoint", b"name: resnet18\nepochs: 90\n"),
    ("it is a text file, not a checkpoint", b"MZ and BM are how programs and images begin\n"),
    ("it is a text file, not a checkpoint", b"[net]\nwidth=224\n"),
    ("it is a text file, not a checkpoint", b"[2026-01-01 10:00] epoch 1: loss 0.3\n"),
    ("it is a text file, not a checkpoint (JSON)", b"[ 0.485, 0.456, 0.406]\n"),
    ("it is a text file, not a checkpoint (JSON)", b'[\n  ["ants"]]'),
)  # fmt: skip


@pytest.mark.parametrize(("sentence", "head"), RECORDED)
def test_a_recorded_head_of_a_file_is_named(sentence: str, head: bytes) -> None:
    assert identify_head(head) == sentence
    if not head[:32].isascii() or 0 in head:  # text goes on as text
        assert identify_head((head + bytes(512))[:512]) == sentence


@pytest.mark.parametrize("head", [bytes(512), b"\x93\x01" * 256, b"\x01" * 300, b"\xff" * 512])
def test_other_bytes_have_no_name(head: bytes) -> None:
    assert identify_head(head) == (
        "it is not a checkpoint of a known format: .pth, .pt, .pkl, .ckpt or .safetensors"
    )


@pytest.mark.parametrize("cut", range(505, 513))
def test_text_cut_within_a_letter_is_text(cut: int) -> None:
    assert identify_head("€ è un segno. ".encode().join([b""] * 60)[:cut]).startswith(
        "it is a text file"
    )


class AsNumber(pickle.Pickler):
    """Puts a number in place of every tensor."""

    def persistent_id(self, value: Any) -> Any:
        return 2 if isinstance(value, Tensor) else None


def old_checkpoint(path: Path) -> Tensor:
    """Save a checkpoint as PyTorch did before 0.1.10; ``torch.load`` reads it to this day."""
    tensor = torch.arange(6.0).reshape(2, 3)
    parts = {name: BytesIO() for name in ("sys_info", "pickle", "tensors", "storages")}
    pickle.dump({"protocol_version": 1000, "little_endian": True}, parts["sys_info"], 2)
    AsNumber(parts["pickle"], 2).dump({"fc.weight": tensor})
    pickle.dump(1, parts["tensors"], 2)
    pickle.dump((2, 1, torch.FloatTensor), parts["tensors"], 2)
    parts["tensors"].write(struct.pack("<i4x5q", 2, 2, 3, 3, 1, 0))
    pickle.dump(1, parts["storages"], 2)
    pickle.dump((1, "cpu", torch.FloatStorage), parts["storages"], 2)
    parts["storages"].write(struct.pack("<q6f", 6, *range(6)))
    pickle.dump([], parts["storages"], 2)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, stream in parts.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(stream.getvalue()), 1484000000.25
            stream.seek(0)
            archive.addfile(info, stream)
    return tensor


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TypedStorage is deprecated")
def test_the_oldest_checkpoints_are_distinguished_from_archives(tmp_path: Path) -> None:
    path = tmp_path / "resnet18-5c106cde.pth"
    tensor = old_checkpoint(path)
    head = path.read_bytes()

    assert torch.equal(torch.load(path, weights_only=False)["fc.weight"], tensor)
    assert identify_head(head[:1536]) == (
        "it is a checkpoint from before PyTorch 0.1.10: load it with torch.load and save it again"
    )
    for size in (512, 1280):
        assert identify_head(head[:size]).startswith(
            "it is a tar archive, or a checkpoint from before"
        )


def test_a_tar_archive_of_today_is_not_an_old_checkpoint() -> None:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("model.pth")
        info.mtime = 1700000000.5
        archive.addfile(info)

    assert identify_head(stream.getvalue()[:1536]) == "it is an archive (tar): unpack it"


# --- zip archives by the names in them


def zipped(write: Callable[[Any], None]) -> list[str]:
    stream = BytesIO()
    write(stream)
    with zipfile.ZipFile(stream) as archive:
        return archive.namelist()


def package(stream: Any) -> None:
    with PackageExporter(stream) as exporter:
        exporter.save_pickle("weights", "weights.pkl", {"fc.weight": [1.0]})


@pytest.mark.parametrize(("names", "part"), [
    (zipped(lambda stream: np.savez(stream, a=np.zeros(2), b=np.ones(3))), "arrays of NumPy"),
    (zipped(package), "it is a torch.package, which is a program: save a state dict"),
    (["metadata.json", "config.json", "model.weights.h5"], "a network of Keras (.keras)"),
    (["[Content_Types].xml", "word/document.xml"], "it is a document of Office"),
    (["mimetype", "META-INF/container.xml"], "it is a document, not"),
    (["r.mlpackage/Manifest.json", "r.mlpackage/Data/com.apple.CoreML/weight.bin"], "Core ML"),
    (["runs/", "runs/a/resnet18.pth", "runs/log.txt"], "around resnet18.pth: unpack it"),
    (["__MACOSX/._net.pt", "net.pt"], "around net.pt: unpack it"),
    *(([f"runs/{name}"], f"around {name}: unpack it")
      for name in ("model_best.pth.tar", "last.ckpt", "resnet20.th", "net.pkl")),
    (["hub/config.json", "hub/pytorch_model.bin"], "around pytorch_model.bin: unpack it"),
    (["model-1-of-2.bin"], "around model-1-of-2.bin: unpack it"),
    (["épreuve 1.safetensors"], "around épreuve 1.safetensors: unpack it"),
    (["MAR-INF/MANIFEST.json", "resnet18.pt", "handler.py"], "around resnet18.pt: unpack it"),
    (["readme.md", "archive/data.pkl", "archive/data/0"], "a checkpoint that was repacked"),
    (["data.pkl", "data/0", "readme.md"], "a checkpoint that was repacked"),
    (["r.mlmodel"], "Core ML"),
    (["META-INF/MANIFEST.MF", "org/A.class"], "it is a Java archive"),
    *(([f"a/1.{suffix}", "list.txt"], "a zip archive of images")
      for suffix in ("JPG", "jpeg", "png", "webp", "tif", "tiff", "bmp")),
])  # fmt: skip
def test_a_zip_archive_is_named(names: list[str], part: str) -> None:
    assert part in (identify_zip(names) or "")


@pytest.mark.parametrize("names", [[], ["readme.txt"], ["a.npy", "b.txt"], ["data.pkl.txt"],
                                   ["__MACOSX/._net.pt"], ["\x1b[2J.pth"], ["a.bin"]])  # fmt: skip
def test_a_zip_archive_of_other_things_has_no_name(names: list[str]) -> None:
    assert identify_zip(names) is None
