"""Networks of other libraries are identified; torchvision's ten ResNets are not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from resnet_cli.checkpoint.formats.identify import identify_head
from resnet_cli.checkpoint.network.identify import identify_network
from shapes import BLIND, MBCONV, RESNET18, RESNET_INSIDE, TEN, Shapes, built, shapes, tensors

pytestmark = pytest.mark.usefixtures("no_first_values")


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

    assert identify_network(names) == clause


def test_a_regnet_is_named() -> None:
    assert (
        identify_network(shapes(models.regnet_y_400mf())) == "a RegNet"
    )  # not to be had without weights


@pytest.mark.parametrize("extra", ["deeplabv3_resnet50", "fcn_resnet50"])
def test_segmentation_with_a_second_head_is_named(extra: str) -> None:
    clause = identify_network(built(extra, aux_loss=True, **BLIND)) or ""

    assert clause.startswith("a segmentation network (")


BYOB = "a network of timm's ByobNet, as variants of ResNet are"
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
        assert identify_network(shapes(timm.create_model(name))) == clause


@pytest.mark.parametrize("name", ["resnet26", "resnet200", "resnext101_32x4d", "resnetaa50"])
def test_other_depths_and_pools_of_plain_resnets_have_no_name(timm: Any, name: str) -> None:
    with torch.device("meta"):
        assert identify_network(shapes(timm.create_model(name))) is None


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
def test_a_resnet_under_any_prefix_is_not_identified_as_another(
    ten: Mapping[str, Shapes], name: str, prefix: str, head: str
) -> None:
    names = {prefix + key: shape for key, shape in ten[name].items()} | HEADS[head]

    assert (
        identify_network(names, ["torch.optim.adam.Adam"], ["epoch", "state_dict", "optimizer"])
        is None
    )


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize("name", TEN)
def test_none_of_the_ten_is_identified_as_another(
    ten: Mapping[str, Shapes], name: str, prefix: str
) -> None:
    assert identify_network({prefix + key: shape for key, shape in ten[name].items()}) is None


def test_a_resnet_without_names_is_not_identified_as_another() -> None:
    with torch.device("meta"):
        network = nn.Sequential(*models.resnet18().children())

    assert identify_network(shapes(network)) is None


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_a_resnet_of_other_channels_is_not_identified_as_another(channels: int) -> None:
    assert identify_network({**RESNET18, "conv1.weight": (64, channels, 7, 7)}) is None


@pytest.mark.parametrize("line", [
    "conv1.weight:64,3,7,7,1", "layer1.0.se.weight:8", "fc2.weight:3,512",
    "layer1.2.conv1.weight:64,64,3,3",
])  # fmt: skip
def test_a_damaged_resnet_is_not_identified_as_another(line: str) -> None:
    assert identify_network(RESNET18 | tensors(line)) is None


@pytest.mark.parametrize("line", [
    "classifier.0.weight:512,2048,3,3", "classifier.4.weight:21,512,1,1",
    "features.0.weight:64,3,3,3", "features.3.weight:128,64,3,3",
    "patch_embed.proj.weight:96,3,4,4", "blocks.0.attn.proj.weight:64,64",
    "stages.0.blocks.0.norm1.weight:64", "stages.0.blocks.0.conv1.weight:64,64,1,1",
    "conv1.0.weight:24,3,3,3", "conv1.0.weight:32,3,3,3", "conv3.weight:128,64,3,3",
])  # fmt: skip
def test_half_of_the_signs_name_nothing(line: str) -> None:
    assert identify_network(tensors(line)) is None


def test_convolutions_with_biases_before_batch_norms_are_not_folded() -> None:
    assert identify_network(RESNET18 | tensors("layer1.0.conv1.bias:64")) is None


def test_a_sign_within_a_word_does_not_count() -> None:
    assert (
        identify_network(RESNET18 | tensors("myattnpool.weight:3 xroi_heads.mask_head.0.bias:3"))
        is None
    )


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(("file", "clause"), [
    ("douzai_model_int8.pth", "a quantised network: save the one that it was made from"),
    ("douzai_checkpoint.pth.tar", None),
    ("resnet20-12fca82f.th", "a ResNet-20 for small images (CIFAR)"),
])  # fmt: skip
def test_a_wild_checkpoint_is_named(data: Path, file: str, clause: str | None) -> None:
    tree = torch.load(data / "checkpoints" / "wild" / file, "cpu", weights_only=False)
    state = tree.get("state_dict", tree)
    names = {name: tuple(v.shape) for name, v in state.items() if isinstance(v, Tensor)}

    assert identify_network(names, keys=tree) == clause


@pytest.mark.parametrize("file", ["ArvinGuy_resnet18.pth", "BTMiao_model_best.pth.tar"])
def test_a_wild_pointer_is_named(data: Path, file: str) -> None:
    head = (data / "checkpoints" / "wild" / file).read_bytes()[:512]

    assert identify_head(head).startswith("it is a git-lfs pointer")


@pytest.mark.parametrize(("file", "key"), [
    ("resnet18_imagenet.pth", None), ("ants_bees_resnet18_epoch14.pkl", "model_state_dict"),
])  # fmt: skip
def test_a_real_resnet_is_not_identified_as_another(data: Path, file: str, key: str | None) -> None:
    tree = torch.load(data / "checkpoints" / file, "cpu", weights_only=True)
    state = tree[key] if key else tree

    assert identify_network({name: tuple(v.shape) for name, v in state.items()}, keys=tree) is None
