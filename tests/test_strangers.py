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
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.package.package_exporter import PackageExporter
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_cli.checkpoint.strangers import nature, nature_of_zip, stranger, variant_of_timm

Shapes = dict[str, tuple[int, ...]]

TEN = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
       "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2")  # fmt: skip
BLIND = {"weights": None, "weights_backbone": None}


def shapes(network: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module", autouse=True)
def _no_first_values() -> Iterator[None]:
    """Networks without weights need no initialisation, which takes half the time of building."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "kaiming_normal_",
            "kaiming_uniform_",
            "trunc_normal_",
            "normal_",
            "ones_",
            "zeros_",
        ):
            patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield


@pytest.fixture(scope="module")
def timm() -> Any:
    return pytest.importorskip("timm")


@cache
def built(name: str, **settings: Any) -> Shapes:
    with torch.device("meta"):
        return shapes(models.get_model(name, **settings))


# --- files by their first bytes


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
    *((f"it is a picture ({kind}), not a checkpoint", partial(picture, code)) for kind, code in (
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
    assert nature(make()[:512]) == sentence


def test_a_database_is_named(tmp_path: Path) -> None:
    assert nature(database(tmp_path)[:512]) == "it is a database (SQLite), not a checkpoint"


FOREIGN = "no checkpoint of PyTorch"
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
    *(("it is a picture (HEIC), not a checkpoint", b"\0\0\0\x24ftyp" + brand + b"\0\0\0\0")
      for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")),
    ("it is a picture (TIFF), not a checkpoint", b"MM\0*\0\0\0\x08"),
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
    ("it is a text file, not a checkpoint", b"MZ and BM are how programs and pictures begin\n"),
    ("it is a text file, not a checkpoint", b"[net]\nwidth=224\n"),
    ("it is a text file, not a checkpoint", b"[2026-01-01 10:00] epoch 1: loss 0.3\n"),
    ("it is a text file, not a checkpoint (JSON)", b"[ 0.485, 0.456, 0.406]\n"),
    ("it is a text file, not a checkpoint (JSON)", b'[\n  ["ants"]]'),
)  # fmt: skip


@pytest.mark.parametrize(("sentence", "head"), RECORDED)
def test_a_recorded_beginning_is_named(sentence: str, head: bytes) -> None:
    assert nature(head) == sentence
    if not head[:32].isascii() or 0 in head:  # text goes on as text
        assert nature((head + bytes(512))[:512]) == sentence


@pytest.mark.parametrize("head", [bytes(512), b"\x93\x01" * 256, b"\x01" * 300, b"\xff" * 512])
def test_other_bytes_have_no_name(head: bytes) -> None:
    assert nature(head) == (
        "it is no checkpoint of a known format: .pth, .pt, .pkl, .ckpt or .safetensors"
    )


@pytest.mark.parametrize("cut", range(505, 513))
def test_text_cut_within_a_letter_is_text(cut: int) -> None:
    assert nature("€ è un segno. ".encode().join([b""] * 60)[:cut]).startswith("it is a text file")


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
def test_the_oldest_checkpoints_are_told_from_archives(tmp_path: Path) -> None:
    path = tmp_path / "resnet18-5c106cde.pth"
    tensor = old_checkpoint(path)
    head = path.read_bytes()

    assert torch.equal(torch.load(path, weights_only=False)["fc.weight"], tensor)
    assert nature(head[:1536]) == (
        "it is a checkpoint from before PyTorch 0.1.10: load it with torch.load and save it again"
    )
    for size in (512, 1280):
        assert nature(head[:size]).startswith("it is a tar archive, or a checkpoint from before")


def test_a_tar_archive_of_today_is_no_old_checkpoint() -> None:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("model.pth")
        info.mtime = 1700000000.5
        archive.addfile(info)

    assert nature(stream.getvalue()[:1536]) == "it is an archive (tar): unpack it"


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
    (["readme.md", "archive/data.pkl", "archive/data/0"], "a checkpoint that was packed anew"),
    (["data.pkl", "data/0", "readme.md"], "a checkpoint that was packed anew"),
    (["r.mlmodel"], "Core ML"),
    (["META-INF/MANIFEST.MF", "org/A.class"], "it is a Java archive"),
    *(([f"a/1.{suffix}", "list.txt"], "a zip archive of pictures")
      for suffix in ("JPG", "jpeg", "png", "webp", "tif", "tiff", "bmp")),
])  # fmt: skip
def test_a_zip_archive_is_named(names: list[str], part: str) -> None:
    assert part in (nature_of_zip(names) or "")


@pytest.mark.parametrize("names", [[], ["readme.txt"], ["a.npy", "b.txt"], ["data.pkl.txt"],
                                   ["__MACOSX/._net.pt"], ["\x1b[2J.pth"], ["a.bin"]])  # fmt: skip
def test_a_zip_archive_of_other_things_has_no_name(names: list[str]) -> None:
    assert nature_of_zip(names) is None


# --- networks by their tensors

RESNET_INSIDE = " with a ResNet inside"
FAMILIES = {
    "an AlexNet": "alexnet",
    "a VGG": "vgg11 vgg11_bn vgg13 vgg16_bn vgg19",
    "a DenseNet": "densenet121 densenet161",
    "a SqueezeNet": "squeezenet1_0 squeezenet1_1",
    "a GoogLeNet": "googlenet",
    "an Inception": "inception_v3",
    "a MobileNet": "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large",
    "an EfficientNet": "efficientnet_b0 efficientnet_v2_s",
    "an MNASNet": "mnasnet0_5",
    "a ShuffleNet": "shufflenet_v2_x1_0",
    "a ConvNeXt": "convnext_tiny convnext_large",
    "a MaxViT": "maxvit_t",
    "a Swin transformer": "swin_t swin_v2_t",
    "a vision transformer, such as ViT": "vit_b_16 vit_l_32",
    "a network for video or volumes, whose convolutions are 3D":
        "r3d_18 mc3_18 r2plus1d_18 s3d swin3d_t mvit_v1_b mvit_v2_s",
    "a network for optical flow (RAFT)": "raft_small",
    "a detector (Faster R-CNN)": "fasterrcnn_mobilenet_v3_large_fpn",
    f"a detector (Faster R-CNN){RESNET_INSIDE}":
        "fasterrcnn_resnet50_fpn fasterrcnn_resnet50_fpn_v2",
    f"a detector (Mask R-CNN){RESNET_INSIDE}": "maskrcnn_resnet50_fpn",
    f"a detector (Keypoint R-CNN){RESNET_INSIDE}": "keypointrcnn_resnet50_fpn",
    f"a detector (RetinaNet){RESNET_INSIDE}": "retinanet_resnet50_fpn",
    f"a detector (FCOS){RESNET_INSIDE}": "fcos_resnet50_fpn",
    "a detector (SSD)": "ssd300_vgg16 ssdlite320_mobilenet_v3_large",
    "a segmentation network (DeepLab)": "deeplabv3_mobilenet_v3_large",
    f"a segmentation network (DeepLab){RESNET_INSIDE}": "deeplabv3_resnet50",
    f"a segmentation network (FCN){RESNET_INSIDE}": "fcn_resnet50",
    "a segmentation network": "lraspp_mobilenet_v3_large",
}  # fmt: skip
"""What torchvision's other networks are."""


def each(table: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(clause, name) for clause, names in table.items() for name in names.split()]


WITH_BACKBONE = ("rcnn", "retinanet", "fcos", "ssd", "deeplab", "fcn_", "lraspp")


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize(("clause", "name"), each(FAMILIES))
@pytest.mark.parametrize("prefix", ["", "module.model."])
def test_networks_of_torchvision_are_named(clause: str, name: str, prefix: str) -> None:
    settings = BLIND if any(part in name for part in WITH_BACKBONE) else {}
    names = {prefix + key: shape for key, shape in built(name, **settings).items()}

    assert stranger(names) == clause


def test_a_regnet_is_named() -> None:
    assert stranger(shapes(models.regnet_y_400mf())) == "a RegNet"  # not to be had without weights


@pytest.mark.parametrize("extra", ["deeplabv3_resnet50", "fcn_resnet50"])
def test_segmentation_with_a_second_head_is_named(extra: str) -> None:
    clause = stranger(built(extra, aux_loss=True, **BLIND)) or ""

    assert clause.startswith("a segmentation network (")


BYOB = "a network of timm's ByobNet, as variants of ResNet are"
MBCONV = "an EfficientNet, a MobileNet or a kin"
TIMM = {
    "a squeeze-and-excitation ResNet (SE-ResNet)":
        "seresnet18 seresnext50_32x4d legacy_seresnet18 legacy_seresnext26_32x4d resnetrs50",
    "a ResNet with efficient channel attention (ECA)": "ecaresnet26t ecaresnetlight",
    "a selective kernel ResNet (SKNet)": "skresnet18 skresnext50_32x4d",
    "a ResNeSt": "resnest14d",
    "a Res2Net": "res2net50_14w_8s res2net50d",
    "a ResNet with a tiered deep stem (ResNet-T)": "resnet10t resnet26t",
    "a ResNet with a deep stem that averages in its shortcuts (ResNet-D)":
        "resnet18d resnext50d_32x4d resnetblur50d",
    "a ResNet with a deep stem (ResNet-C)": "resnet50c resnet50s",
    "a ResNet without statistics of batch norm (group norm?): save all of model.state_dict()":
        "resnet50_gn",
    "a pre-activation ResNet (ResNet-V2 or BiT)": "resnetv2_18 resnetv2_50x1_bit",
    "a network without norms (NFNet, NF-ResNet)": "nf_resnet26 nf_seresnet26",
    BYOB: "resnet50_clip resnet51q gcresnet33ts bat_resnext26ts",
    "a TResNet": "tresnet_m",
    "a CSPNet": "cspresnet50 cspresnext50",
    "an Inception-ResNet": "inception_resnet_v2",
    "an Inception": "inception_v4",
    "an HRNet": "hrnet_w18_small",
    "an Xception": "legacy_xception",
    "a vision transformer, such as ViT": "vit_small_resnet26d_224 deit_tiny_patch16_224",
    "a Swin transformer": "swin_tiny_patch4_window7_224",
    "a transformer": "visformer_tiny",
    "a ConvNeXt": "convnext_atto",
    "a MaxViT": "maxvit_pico_rw_256",
    MBCONV: "efficientnet_b0 mobilenetv3_small_050",
    "a RegNet": "regnetx_002 regnety_002",
    "a DenseNet": "densenet121",
    "a VGG": "vgg11",
}  # fmt: skip
"""What networks of timm are."""


@pytest.mark.parametrize(("clause", "name"), each(TIMM))
def test_networks_of_timm_are_named(timm: Any, clause: str, name: str) -> None:
    with torch.device("meta"):
        assert stranger(shapes(timm.create_model(name))) == clause


@pytest.mark.parametrize("name", ["resnet26", "resnet200", "resnext101_32x4d", "resnetaa50"])
def test_other_depths_and_pools_of_plain_resnets_have_no_name(timm: Any, name: str) -> None:
    with torch.device("meta"):
        assert stranger(shapes(timm.create_model(name))) is None


NAMED = (  # a few tensors each, as the libraries and repositories name them
    ("a LoRA: merge it into its network and save that",  # kohya-ss, peft, diffusers of old
     "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight:4,320"),
    ("a LoRA: merge it into its network and save that",
     "base_model.model.layer4.0.conv1.lora_A.default.weight:8,512,3,3"),
    ("a LoRA: merge it into its network and save that", "mid.processor.to_q_lora.up.weight:320,4"),
    ("a part of a diffusion model", "down_blocks.0.resnets.0.norm1.weight:320"),  # diffusers 0.42
    ("a part of a diffusion model", "encoder.down_blocks.0.resnets.0.conv1.weight:64,64,3,3"),
    ("a part of a diffusion model", "down_blocks.0.attentions.0.norm.weight:320"),
    ("a part of a diffusion model", "first_stage_model.encoder.conv_in.weight:128,3,3,3"),
    ("a part of a diffusion model",  # CompVis/stable-diffusion
     "model.diffusion_model.input_blocks.0.0.weight:320,4,3,3 cond_stage_model.text_model.x:2"),
    ("a network of PaddlePaddle", "conv1._conv.weight:64,3,7,7 conv1._batch_norm._variance:64"),
    ("a network of Keras or TensorFlow", "conv1_bn/moving_variance:64"),
    ("a network for pictures and texts together (CLIP)",  # openai/CLIP
     "visual.conv1.weight:32,3,3,3 visual.layer1.0.conv1.weight:64,64,1,1 text_projection:512,512"),
    ("a network for pictures and texts together (CLIP)",  # transformers 5.23
     "text_model.embeddings.token_embedding.weight:49408,512"),
    ("the picture half of CLIP, whose ResNet pools by attention",
     "conv1.weight:32,3,3,3 layer1.0.conv1.weight:64,64,1,1 attnpool.positional_embedding:50,2048"),
    ("a network for speech", "model.encoder.conv1.weight:384,80,3"),  # transformers' whisper
    ("a network for speech", "model.encoder.conv1.weight:1280,128,3"),
    ("a language model", "model.embed_tokens.weight:32000,4096"),
    ("a language model", "transformer.wte.weight:50257,768"),
    ("a language model", "tok_embeddings.weight:32000,4096"),  # meta-llama/llama
    ("a language model", "bert.embeddings.word_embeddings.weight:30522,768"),
    ("a detector (Mask R-CNN) with a ResNet inside",  # mmdetection
     "backbone.layer1.0.conv1.weight:64,64,1,1 rpn_head.rpn_conv.weight:256,256,3,3 "
     "roi_head.mask_head.convs.0.conv.weight:256,256,3,3"),
    ("a detector (Faster R-CNN) with a ResNet inside",  # detectron2
     "backbone.bottom_up.res2.0.conv1.weight:64,64,1,1 "
     "proposal_generator.rpn_head.conv.bias:256 roi_heads.box_predictor.cls_score.bias:81"),
    ("a detector (Mask R-CNN)", "roi_heads.mask_head.predictor.weight:80,256,1,1"),  # detectron2
    ("a detector (Mask R-CNN)", "roi_heads.mask_predictor.conv5_mask.weight:256,256,2,2"),
    ("a detector (Keypoint R-CNN)", "roi_heads.keypoint_head.conv_fcn1.weight:512,256,3,3"),
    ("a detector (Keypoint R-CNN)", "roi_heads.keypoint_predictor.kps_score_lowres.bias:17"),
    ("a detector (Faster R-CNN)", "roi_head.bbox_head.shared_fcs.0.weight:1024,12544"),
    ("a detector (Faster R-CNN)", "roi_heads.box_head.fc6.weight:1024,12544"),
    ("a detector", "backbone.fpn_lateral2.weight:256,256,1,1"),
    ("a detector (RetinaNet) with a ResNet inside",  # detectron2
     "backbone.bottom_up.res2.0.conv1.weight:64,64,1,1 head.cls_subnet.0.weight:256,256,3,3"),
    ("a detector with a ResNet inside",  # mmdetection
     "backbone.layer1.0.conv1.weight:64,64,1,1 bbox_head.cls_convs.0.conv.weight:256,256,3,3"),
    ("a detector with a ResNet inside",
     "backbone.layer1.0.conv1.weight:64,64,1,1 neck.fpn_convs.0.conv.weight:256,256,3,3"),
    ("a detector (DETR) with a ResNet inside",  # facebookresearch/detr
     "backbone.0.body.layer1.0.conv1.weight:64,64,1,1 bbox_embed.layers.0.weight:256,256"),
    ("a detector (DETR) with a ResNet inside",  # transformers 5.23
     "model.backbone.model.layer1.0.conv1.weight:64,64,1,1 bbox_predictor.layers.0.weight:256,256"),
    ("a network of Ultralytics (YOLO)",  # ultralytics 8.4: yolov8n, and its rtdetr-resnet50
     "model.0.conv.weight:16,3,3,3 model.2.cv1.conv.weight:32,32,1,1"),
    ("a network of Ultralytics (YOLO)", "model.22.dfl.conv.weight:1,16,1,1"),
    ("a network of Ultralytics (YOLO)", "model.1.layer.0.cv1.conv.weight:64,64,1,1"),
    ("a detector (YOLO)", "module_list.0.Conv2d.weight:32,3,3,3"),  # ultralytics/yolov3 of 2019
    ("a detector (YOLO)", "module_list.0.conv_0.weight:32,3,3,3"),  # eriklindernoren/PyTorch-YOLOv3
    ("a detector (YOLO)", "head.cls_preds.0.weight:80,128,1,1"),  # YOLOX
    ("a segmentation network (SAM)", "mask_decoder.iou_token.weight:1,256"),
    ("a segmentation network (DeepLab) with a ResNet inside",  # segmentation-models-pytorch 0.6
     "encoder.layer1.0.conv1.weight:64,64,3,3 decoder.aspp.0.convs.0.0.weight:256,512,1,1"),
    ("a segmentation network (U-Net) with a ResNet inside",
     "encoder.layer1.0.conv1.weight:64,64,3,3 decoder.blocks.0.conv1.0.weight:256,768,3,3"),
    ("a segmentation network with a ResNet inside",
     "encoder.layer1.0.conv1.weight:64,64,3,3 segmentation_head.0.weight:1,128,1,1"),
    # milesial/Pytorch-UNet
    ("a segmentation network (U-Net)", "inc.double_conv.0.weight:64,3,3,3"),
    ("a segmentation network (U-Net)", "layers.4.shuf.0.0.weight:1024,512,1,1"),  # fastai 2.8
    ("a segmentation network with a ResNet inside",  # mmsegmentation
     "backbone.layer1.0.conv1.weight:64,64,1,1 decode_head.conv_seg.weight:19,512,1,1"),
    ("a network for poses with a ResNet inside",  # microsoft/human-pose-estimation.pytorch
     "layer1.0.conv1.weight:64,64,1,1 deconv_layers.0.weight:2048,256,4,4"),
    ("a network for poses", "keypoint_head.final_layer.weight:17,256,1,1"),  # mmpose
    ("a network from pictures to pictures (CycleGAN)",  # junyanz/pytorch-CycleGAN-and-pix2pix
     "model.1.weight:64,3,7,7 model.10.conv_block.1.weight:256,256,3,3"),
    ("a network for video or volumes, whose convolutions are 3D",  # kenshohara/3D-ResNets-PyTorch
     "conv1.weight:64,3,7,7,7 layer1.0.conv1.weight:64,64,3,3,3"),
    ("a network for signals, whose convolutions are 1D",
     "conv1.weight:64,12,7 layer1.0.conv1.weight:64,64,3"),
    ("an Inception-ResNet", "repeat_1.0.branch0.conv.weight:32,256,1,1"),  # facenet-pytorch
    (MBCONV, "_conv_stem.weight:32,3,3,3"),  # lukemelas/EfficientNet-PyTorch
    (MBCONV, "efficientnet.encoder.blocks.0.depthwise_conv.depthwise_conv.weight:64,1,3,3"),
    ("a RegNet", "regnet.encoder.stages.0.layers.0.shortcut.convolution.weight:128,32,1,1"),
    ("a ConvNeXt", "stages.0.0.dwconv.weight:96,1,7,7"),  # facebookresearch/ConvNeXt
    ("a ConvNeXt", "convnext.encoder.stages.0.layers.0.dwconv.weight:96,1,7,7"),
    ("a Swin transformer", "swin.encoder.layers.0.blocks.0.attention.q_proj.weight:96,96"),
    ("a vision transformer, such as ViT",  # transformers 5.23, and 4
     "vit.embeddings.patch_embeddings.projection.weight:768,3,16,16 "
     "vit.layers.0.attention.q_proj.weight:768,768"),
    ("a vision transformer, such as ViT",
     "vit.embeddings.patch_embeddings.projection.weight:768,3,16,16 "
     "vit.encoder.layer.0.attention.attention.query.weight:768,768"),
    ("a vision transformer, such as ViT",  # open_clip
     "visual.transformer.resblocks.0.attn.in_proj_weight:2304,768"),
    ("a pre-activation ResNet (ResNet-V2 or BiT)",  # transformers 5.23
     "bit.encoder.stages.0.layers.0.norm1.weight:64 "
     "bit.encoder.stages.0.layers.0.conv1.weight:64,64,1,1"),
    ("a pre-activation ResNet (ResNet-V2)",  # kuangliu/pytorch-cifar
     "conv1.weight:64,3,3,3 layer1.0.bn1.weight:64 layer1.0.bn1.running_mean:64 "
     "layer1.0.conv1.weight:64,64,3,3 layer2.0.shortcut.0.weight:128,64,1,1"),
    ("an xResNet of fastai", "0.4.0.convpath.0.0.weight:64,64,1,1"),
    ("an xResNet of fastai", "0.4.0.convs.0.0.weight:64,64,1,1"),  # before fastai 2
    ("a ResNet-18 for small pictures (CIFAR)",  # weiaicunzai/pytorch-cifar100
     " ".join(f"conv{stage}_x.{block}.residual_function.{place}.weight:64,64,3,3"
              for stage in (2, 3, 4, 5) for block in (0, 1) for place in (0, 3))
     + " conv2_x.0.residual_function.1.weight:64"),
    ("a Wide ResNet for small pictures (CIFAR)",  # xternalz/WideResNet-pytorch
     "conv1.weight:16,3,3,3 block1.layer.0.conv1.weight:160,16,3,3"),
    ("a ResNet for faces (ArcFace)",  # deepinsight/insightface
     "conv1.weight:64,3,3,3 layer1.0.conv1.weight:64,64,3,3 layer1.0.prelu.weight:64"),
    ("a ResNet for faces (ArcFace)", "body.0.res_layer.1.weight:64,64,3,3"),
    ("a ResNet with a deep stem",  # CSAILVision/semantic-segmentation-pytorch
     "conv1.weight:64,3,3,3 conv3.weight:128,64,3,3 layer1.0.conv1.weight:64,128,1,1"),
    ("a ResNet with a deep stem that averages in its shortcuts (ResNet-D)",  # mmpretrain
     "backbone.stem.0.weight:32,3,3,3 backbone.layer1.0.conv1.weight:64,64,1,1 "
     "backbone.layer2.0.downsample.1.weight:512,256,1,1"),
    ("a ResNet with a deep stem (ResNet-C)",  # mmpretrain's ResNetV1c
     "backbone.stem.0.weight:32,3,3,3 backbone.layer1.0.conv1.weight:64,64,1,1"),
)  # fmt: skip


def tensors(line: str) -> Shapes:
    pairs = (entry.split(":") for entry in line.split(" "))
    return {name: tuple(int(size) for size in shape.split(",")) for name, shape in pairs}


@pytest.mark.parametrize(("clause", "line"), NAMED)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_networks_of_other_libraries_are_named(clause: str, line: str, prefix: str) -> None:
    assert stranger({prefix + name: shape for name, shape in tensors(line).items()}) == clause


RESNET18 = built("resnet18")


def renamed(**changes: str) -> Shapes:
    """The tensors of a ResNet-18, with other words in their names."""
    found = {}
    for name, shape in RESNET18.items():
        for ours, theirs in changes.items():
            name = name.replace(ours, theirs)
        found[name] = shape
    return found


def without(*endings: str) -> Shapes:
    return {name: shape for name, shape in RESNET18.items() if not name.endswith(endings)}


@pytest.mark.parametrize(("clause", "names"), [
    ("a ResNet with block attention (CBAM)", RESNET18 | tensors("layer1.0.ca.fc1.weight:4,64,1,1")),
    ("a ResNet with block attention (CBAM)",
     RESNET18 | tensors("layer1.0.cbam.ChannelGate.mlp.1.weight:4,64")),
    ("a ResNet with block attention (CBAM)",
     RESNET18 | tensors("layer1.0.se.channel.fc1.weight:4,64,1,1")),
    ("a ResNet with efficient channel attention (ECA)",  # BangguWu/ECANet
     RESNET18 | tensors("layer1.0.eca.conv.weight:1,1,3")),
    ("a quantised network: save the one that it was made from",
     RESNET18 | tensors("fc._packed_params._packed_params:2")),
    ("a squeeze-and-excitation ResNet (SE-ResNet)",
     RESNET18 | tensors("layer1.0.se.fc.0.weight:4,64")),
    ("a ResNet with instance norm (IBN-Net)", RESNET18 | tensors("layer1.0.bn1.IN.weight:32")),
    ("a ResNet that blurs before it strides",
     RESNET18 | tensors("layer2.0.downsample.0.filt:64,1,3,3")),
    ("a ResNet that blurs before it strides",  # adobe/antialiased-cnns
     RESNET18 | tensors("layer2.0.conv2.0.filt:128,1,3,3")),
    ("a ResNet with deformable convolutions",
     RESNET18 | tensors("layer3.0.conv2_offset.weight:18,256,3,3")),
    ("a ResNet that averages in its shortcuts",
     RESNET18 | tensors("layer2.0.downsample.1.weight:128,64,1,1")),
    ("a network of timm's ByobNet, as variants of ResNet are",
     tensors("stages.0.0.conv2_kxk.conv.weight:64,64,3,3")),
    ("a ResNet without statistics of batch norm (group norm?): save all of model.state_dict()",
     without("running_mean", "running_var", "num_batches_tracked")),
    ("a ResNet without statistics of batch norm (group norm?): save all of model.state_dict()",
     {name.replace("bn", "gn"): shape for name, shape in without("running_mean").items()}),
    ("a ResNet-18 for small pictures (CIFAR)",
     renamed(downsample="shortcut", fc="linear") | tensors("conv1.weight:64,3,3,3")),
    ("a quantised network: save the one that it was made from",
     RESNET18 | tensors("conv1.scale:1 conv1.zero_point:1")),
    ("a transformer with a ResNet inside",
     RESNET18 | tensors("decoder.layers.0.self_attn.q_proj.weight:512,512")),
    ("a transformer with a ResNet inside",
     RESNET18 | tensors("head.layers.0.self_attn.in_proj_weight:1536,512")),
])  # fmt: skip
def test_variants_of_a_resnet_are_named(clause: str, names: Shapes) -> None:
    assert stranger(names) == clause


def test_group_norm_is_noticed() -> None:
    with torch.device("meta"):
        network = models.resnet18(norm_layer=lambda channels: nn.GroupNorm(32, channels))

    assert "(group norm?)" in (stranger(shapes(network)) or "")


def test_folded_batch_norms_are_noticed() -> None:
    with torch.device("meta"):
        network = models.resnet18()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                child.bias = nn.Parameter(torch.empty(child.out_channels, device="meta"))

    assert (stranger(shapes(network)) or "").startswith("a ResNet whose batch norms are folded")


def test_a_recurrent_part_is_noticed() -> None:
    with torch.device("meta"):
        network = nn.ModuleDict({"cnn": models.resnet18(), "rnn": nn.LSTM(512, 64)})

    assert stranger(shapes(network)) == f"a recurrent network (LSTM or GRU){RESNET_INSIDE}"


def for_cifar(block: type[BasicBlock] | type[Bottleneck], blocks: int) -> nn.Module:
    """The network of section 4.2 of the ResNet paper, which has three stages."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    channels = 16
    for planes in (16, 32, 64):
        stage = []
        for _ in range(blocks):
            wide = planes * block.expansion
            shortcut = nn.Conv2d(channels, wide, 1) if channels != wide else None
            stage.append(block(channels, planes, downsample=shortcut))
            channels = wide
        layers.append(nn.Sequential(*stage))
    names = ("conv1", "layer1", "layer2", "layer3", "linear")
    return nn.ModuleDict(dict(zip(names, [*layers, nn.Linear(channels, 10)], strict=True)))


@pytest.mark.parametrize(("block", "blocks", "depth"), [
    (BasicBlock, 3, 20), (BasicBlock, 5, 32), (BasicBlock, 7, 44), (BasicBlock, 9, 56),
    (BasicBlock, 18, 110), (Bottleneck, 18, 164),
])  # fmt: skip
def test_the_depth_of_a_resnet_for_small_pictures_is_told(
    block: type[BasicBlock] | type[Bottleneck], blocks: int, depth: int
) -> None:
    with torch.device("meta"):
        names = shapes(for_cifar(block, blocks))

    assert stranger(names) == f"a ResNet-{depth} for small pictures (CIFAR)"


# --- what is no network


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "ASGD": torch.optim.ASGD,
    "Rprop": torch.optim.Rprop,
    "RMSprop": lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimizer_is_named(name: str) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name]([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    state = optimizer.state_dict()
    kept = {key: tuple(v.shape) for key, v in state["state"][0].items() if isinstance(v, Tensor)}

    assert kept
    assert stranger(kept, keys=state.keys()) == "only the state of an optimizer"
    assert stranger(kept, keys=["epoch", "optimizer"]) == "only the state of an optimizer"


def test_an_optimizer_without_a_step_is_named() -> None:
    state = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1).state_dict()

    assert stranger({}, keys=state) == "only the state of an optimizer"
    assert stranger({}, ["torch.optim.sgd.SGD"]) == "only the state of an optimizer"


@pytest.mark.parametrize("names", [{}, {"sum": ()}, {"step": (), "loss": ()}, {"mu": (3,)}])
def test_a_few_numbers_are_no_optimizer(names: Shapes) -> None:
    assert stranger(names, keys=["epoch", "optimizer"]) is None


def test_a_network_beside_an_optimizer_is_no_optimizer() -> None:
    names: Shapes = {"weight": (3, 3), "step": ()}

    assert stranger(names, ["torch.optim.sgd.SGD"]) is None
    assert stranger(names, keys=["state", "epoch"]) is None


LEARNER = "a fastai export of a whole learner: save learn.model.state_dict() instead"


@pytest.mark.parametrize(("kind", "clause"), [
    ("fastai.learner.Learner", LEARNER),
    ("fastai.text.learner.TextLearner", LEARNER),
    ("fastai.basic_train.Learner", LEARNER),
    ("ultralytics.nn.tasks.DetectionModel", "a network of Ultralytics (YOLO)"),
    ("models.yolo.Model", "a network of Ultralytics (YOLO)"),
    ("sklearn.ensemble._forest.RandomForestClassifier", "an object of scikit-learn, no network"),
    ("xgboost.sklearn.XGBClassifier", "boosted trees, no network"),
    ("lightgbm.sklearn.LGBMClassifier", "boosted trees, no network"),
    ("catboost.core.CatBoost", "boosted trees, no network"),
    ("tensorflow.python.trackable.data_structures.ListWrapper",
     "a network of Keras or TensorFlow"),
    ("torch.utils.data.dataset.Subset", "a data set, no network"),
    ("pandas.core.frame.DataFrame", "a table of pandas, no network"),
    ("keras.src.engine.sequential.Sequential", "a network of Keras or TensorFlow"),
    ("torchvision.datasets.folder.ImageFolder", "a data set, no network"),
    ("transformers.training_args.TrainingArguments",
     "the arguments of a training: name the weights beside it"),
    ("my.sklearn.Thing", None),
    ("fastai.layers.AdaptiveConcatPool2d", None),
    ("torchvision.models.resnet.ResNet", None),
])  # fmt: skip
def test_objects_of_other_libraries_are_named(kind: str, clause: str | None) -> None:
    assert stranger({}, ["collections.OrderedDict", kind]) == clause


def test_classes_of_objects_beside_tensors_name_no_library() -> None:
    unknown = {"a.weight": (3, 3)}

    assert stranger(unknown, ["sklearn.preprocessing._label.LabelEncoder"]) is None
    assert stranger(unknown, ["fastai.learner.Learner"]) == LEARNER
    assert stranger(RESNET18, ["fastai.learner.Learner"]) is None


# --- what is a ResNet of torchvision


@pytest.fixture(scope="module")
def ten() -> Mapping[str, Shapes]:
    return {name: built(name, num_classes=2) for name in TEN}


HEADS: dict[str, Shapes] = {
    "as it is": {},
    "two layers": {"fc.0.weight": (64, 512), "fc.0.bias": (64,), "fc.3.weight": (2, 64)},
    "beside a projector": {"projector.0.weight": (2048, 512), "queue": (128, 65536)},
    "elsewhere": {"head.fc.weight": (2, 512), "classifier.1.weight": (2, 512)},
    "with norms": {"head.0.running_mean": (512,), "head.2.weight": (2, 512)},
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("prefix", [
    "", "module.", "model.", "_orig_mod.module.", "backbone.", "encoder.", "net.", "model.0.",
    "module.backbone.body.", "encoder_q.", "visual.", "vit.", "features.", "student.",
])  # fmt: skip
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_a_resnet_under_any_prefix_is_no_stranger(
    ten: Mapping[str, Shapes], name: str, prefix: str, head: str
) -> None:
    names = {prefix + key: shape for key, shape in ten[name].items()} | HEADS[head]

    assert stranger(names, ["torch.optim.adam.Adam"], ["epoch", "state_dict", "optimizer"]) is None


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize("name", TEN)
def test_none_of_the_ten_is_a_stranger(ten: Mapping[str, Shapes], name: str, prefix: str) -> None:
    assert stranger({prefix + key: shape for key, shape in ten[name].items()}) is None


def test_a_resnet_without_names_is_no_stranger() -> None:
    with torch.device("meta"):
        network = nn.Sequential(*models.resnet18().children())

    assert stranger(shapes(network)) is None


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_a_resnet_of_other_channels_is_no_stranger(channels: int) -> None:
    assert stranger({**RESNET18, "conv1.weight": (64, channels, 7, 7)}) is None


@pytest.mark.parametrize("line", [
    "conv1.weight:64,3,7,7,1", "layer1.0.se.weight:8", "fc2.weight:3,512",
    "layer1.2.conv1.weight:64,64,3,3",
])  # fmt: skip
def test_a_resnet_that_is_only_spoiled_is_no_stranger(line: str) -> None:
    assert stranger(RESNET18 | tensors(line)) is None


@pytest.mark.parametrize("line", [
    "classifier.0.weight:512,2048,3,3", "classifier.4.weight:21,512,1,1",
    "features.0.weight:64,3,3,3", "features.3.weight:128,64,3,3",
    "patch_embed.proj.weight:96,3,4,4", "blocks.0.attn.proj.weight:64,64",
    "stages.0.blocks.0.norm1.weight:64", "stages.0.blocks.0.conv1.weight:64,64,1,1",
    "conv1.0.weight:24,3,3,3", "conv1.0.weight:32,3,3,3", "conv3.weight:128,64,3,3",
])  # fmt: skip
def test_half_of_the_signs_name_nothing(line: str) -> None:
    assert stranger(tensors(line)) is None


def test_convolutions_with_biases_before_batch_norms_are_not_folded() -> None:
    assert stranger(RESNET18 | tensors("layer1.0.conv1.bias:64")) is None


def test_what_stands_within_a_word_is_no_sign() -> None:
    assert stranger(RESNET18 | tensors("myattnpool.weight:3 xroi_heads.mask_head.0.bias:3")) is None


# --- timm's names


def computing(network: nn.Module) -> dict[str, str]:
    """Layers that compute, with their settings, by name."""
    passive = (nn.Identity, nn.ReLU, nn.AdaptiveAvgPool2d, nn.Flatten)
    return {
        name: repr(module)
        for name, module in network.named_modules()
        if next(module.children(), None) is None and not isinstance(module, passive)
    }


Anatomy = tuple[Shapes, dict[str, str]]


@pytest.fixture(scope="module")
def originals() -> Mapping[str, Anatomy]:
    with torch.device("meta"):
        networks = {name: models.get_model(name, num_classes=7) for name in TEN}
    return {name: (shapes(network), computing(network)) for name, network in networks.items()}


def twin(network: nn.Module, originals: Mapping[str, Anatomy]) -> str | None:
    """The original with the same tensors and the same layers."""
    tensors_of = shapes(network)
    alike = [name for name, (theirs, _) in originals.items() if theirs == tensors_of]
    same = [name for name in alike if originals[name][1] == computing(network)]
    return same[0] if same else None


def test_every_network_of_timm_is_taken_for_what_it_is(
    timm: Any, originals: Mapping[str, Anatomy]
) -> None:
    names = [name for name in timm.list_models() if "resnet" in name or "resnext" in name]
    with torch.device("meta"):
        twins = {name: twin(timm.create_model(name, num_classes=7), originals) for name in names}

    assert {name: variant_of_timm(name) for name in names} == twins
    assert set(TEN) <= set(twins.values())


def test_every_published_file_of_timm_is_of_its_network(timm: Any) -> None:
    tagged = [name for name in timm.list_pretrained() if "resnet" in name or "resnext" in name]

    assert len(tagged) > 100
    for name in tagged:
        assert variant_of_timm(name) == variant_of_timm(name.split(".")[0])
        assert variant_of_timm(f"timm/{name}") == variant_of_timm(name)


@pytest.mark.parametrize("name", ["resnet18", "resnetblur18"])
def test_the_twins_compute_the_same(timm: Any, name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = models.resnet18(num_classes=7).eval(), timm.create_model(name, num_classes=7)
    for key, tensor in ours.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(*((0.5, 1.5) if key.endswith("var") else (-0.1, 0.1)))
    theirs.eval().load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        same = torch.allclose(ours(images), theirs(images), rtol=1e-4, atol=1e-6)

    assert same == (variant_of_timm(name) == "resnet18")


RETIRED = {  # names of timm before 0.9, from the table of deprecated names of timm 1.0
    **{f"tv_{name}": name for name in ("resnet34", "resnet50", "resnet101", "resnet152")},
    "tv_resnext50_32x4d": "resnext50_32x4d",
    "ig_resnext101_32x8d": "resnext101_32x8d",
    **{f"ig_resnext101_32x{width}d": None for width in (16, 32, 48)},
    **{f"{source}_{name}": name for source in ("ssl", "swsl")
       for name in ("resnet18", "resnet50", "resnext50_32x4d", "resnext101_32x8d")},
    **{f"{source}_resnext101_32x{width}d": None for source in ("ssl", "swsl") for width in (4, 16)},
    **{f"gluon_resnet{depth}_v1b": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"gluon_resnet{depth}_v1{kind}": None for depth in (50, 101, 152) for kind in "cds"},
    "gluon_resnext50_32x4d": "resnext50_32x4d",
    "gluon_resnext101_64x4d": "resnext101_64x4d",
    **dict.fromkeys(("gluon_resnext101_32x4d", "gluon_seresnext50_32x4d", "seresnext26tn_32x4d",
                     "gluon_seresnext101_32x4d", "gluon_seresnext101_64x4d", "resnetv2_50x1_bitm",
                     "ens_adv_inception_resnet_v2", "tresnet_m_448", "vit_base_resnet50_384")),
}  # fmt: skip


@pytest.mark.parametrize("name", RETIRED)
def test_names_that_timm_has_retired_are_known(name: str) -> None:
    assert variant_of_timm(name) == RETIRED[name]


@pytest.mark.filterwarnings("ignore:Mapping deprecated model name")
@pytest.mark.parametrize("name", [name for name in RETIRED if "_32x" not in name or "x8" in name])
def test_retired_names_mean_the_networks_of_today(
    timm: Any, originals: Mapping[str, Anatomy], name: str
) -> None:
    """Timm sends ig_resnext101_32x16d and its like to 32x8d, so those stand in the table alone."""
    with torch.device("meta"):
        assert twin(timm.create_model(name, num_classes=7), originals) == RETIRED[name]


@pytest.mark.parametrize("name", [
    "", "resnet", "resnet50_", "tv_", "vgg16", "resnet20", "seresnet50", "gluon_", "resnet18_v1",
    "nf_resnet50",
])  # fmt: skip
def test_other_names_are_of_other_networks(name: str) -> None:
    assert variant_of_timm(name) is None


# --- real files


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(("file", "clause"), [
    ("douzai_model_int8.pth", "a quantised network: save the one that it was made from"),
    ("douzai_checkpoint.pth.tar", None),
    ("resnet20-12fca82f.th", "a ResNet-20 for small pictures (CIFAR)"),
])  # fmt: skip
def test_a_wild_checkpoint_is_named(data: Path, file: str, clause: str | None) -> None:
    tree = torch.load(data / "checkpoints" / "wild" / file, "cpu", weights_only=False)
    state = tree.get("state_dict", tree)
    names = {name: tuple(v.shape) for name, v in state.items() if isinstance(v, Tensor)}

    assert stranger(names, keys=tree) == clause


@pytest.mark.parametrize("file", ["ArvinGuy_resnet18.pth", "BTMiao_model_best.pth.tar"])
def test_a_wild_pointer_is_named(data: Path, file: str) -> None:
    head = (data / "checkpoints" / "wild" / file).read_bytes()[:512]

    assert nature(head).startswith("it is a git-lfs pointer")


@pytest.mark.parametrize(("file", "key"), [
    ("resnet18_imagenet.pth", None), ("ants_bees_resnet18_epoch14.pkl", "model_state_dict"),
])  # fmt: skip
def test_a_real_resnet_is_no_stranger(data: Path, file: str, key: str | None) -> None:
    tree = torch.load(data / "checkpoints" / file, "cpu", weights_only=True)
    state = tree[key] if key else tree

    assert stranger({name: tuple(v.shape) for name, v in state.items()}, keys=tree) is None
