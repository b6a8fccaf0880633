"""Networks identified by a few of their tensors, and variants of ResNets."""

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_cli.checkpoint.network.identify import identify_network
from shapes import MBCONV, RESNET18, RESNET_INSIDE, Shapes, shapes, tensors

pytestmark = pytest.mark.usefixtures("no_first_values")


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
    ("a network for images and texts together (CLIP)",  # openai/CLIP
     "visual.conv1.weight:32,3,3,3 visual.layer1.0.conv1.weight:64,64,1,1 text_projection:512,512"),
    ("a network for images and texts together (CLIP)",  # transformers 5.23
     "text_model.embeddings.token_embedding.weight:49408,512"),
    ("the image half of CLIP, whose ResNet pools by attention",
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
    ("a network from images to images (CycleGAN)",  # junyanz/pytorch-CycleGAN-and-pix2pix
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
    ("a ResNet-18 for small images (CIFAR)",  # weiaicunzai/pytorch-cifar100
     " ".join(f"conv{stage}_x.{block}.residual_function.{place}.weight:64,64,3,3"
              for stage in (2, 3, 4, 5) for block in (0, 1) for place in (0, 3))
     + " conv2_x.0.residual_function.1.weight:64"),
    ("a Wide ResNet for small images (CIFAR)",  # xternalz/WideResNet-pytorch
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


@pytest.mark.parametrize(("clause", "line"), NAMED)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_networks_of_other_libraries_are_named(clause: str, line: str, prefix: str) -> None:
    assert (
        identify_network({prefix + name: shape for name, shape in tensors(line).items()}) == clause
    )


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
    ("a ResNet-18 for small images (CIFAR)",
     renamed(downsample="shortcut", fc="linear") | tensors("conv1.weight:64,3,3,3")),
    ("a quantised network: save the one that it was made from",
     RESNET18 | tensors("conv1.scale:1 conv1.zero_point:1")),
    ("a transformer with a ResNet inside",
     RESNET18 | tensors("decoder.layers.0.self_attn.q_proj.weight:512,512")),
    ("a transformer with a ResNet inside",
     RESNET18 | tensors("head.layers.0.self_attn.in_proj_weight:1536,512")),
])  # fmt: skip
def test_variants_of_a_resnet_are_named(clause: str, names: Shapes) -> None:
    assert identify_network(names) == clause


def test_group_norm_is_noticed() -> None:
    with torch.device("meta"):
        network = models.resnet18(norm_layer=lambda channels: nn.GroupNorm(32, channels))

    assert "(group norm?)" in (identify_network(shapes(network)) or "")


def test_folded_batch_norms_are_noticed() -> None:
    with torch.device("meta"):
        network = models.resnet18()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                child.bias = nn.Parameter(torch.empty(child.out_channels, device="meta"))

    assert (identify_network(shapes(network)) or "").startswith(
        "a ResNet whose batch norms are folded"
    )


def test_a_recurrent_part_is_noticed() -> None:
    with torch.device("meta"):
        network = nn.ModuleDict({"cnn": models.resnet18(), "rnn": nn.LSTM(512, 64)})

    assert identify_network(shapes(network)) == f"a recurrent network (LSTM or GRU){RESNET_INSIDE}"


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
def test_the_depth_of_a_resnet_for_small_images_is_named(
    block: type[BasicBlock] | type[Bottleneck], blocks: int, depth: int
) -> None:
    with torch.device("meta"):
        names = shapes(for_cifar(block, blocks))

    assert identify_network(names) == f"a ResNet-{depth} for small images (CIFAR)"
