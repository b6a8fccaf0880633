"""What a checkpoint holds in place of one of torchvision's ten ResNets, by its tensors and classes.

The tables are tried from the top: special cases come before general ones.
"""

import re
from collections.abc import Collection, Mapping
from itertools import product
from typing import Any

from resnet_cli.checkpoint.network.layouts import FEWEST_TENSORS, LAYOUTS
from resnet_cli.checkpoint.network.naming import prefix_of, unwrapped_tensors
from resnet_cli.checkpoint.network.parametrized import plain_name
from resnet_cli.checkpoint.tensors import name_unreadable
from resnet_cli.checkpoint.tree import Foreign, as_container, items_of, tensors_in, walk_containers
from resnet_cli.errors import CheckpointError
from resnet_cli.text import first_few

RESNET = r"(?:layer1\.0|res2\.0|4\.0)\.conv1\.weight"
BLOCK = r"layer1\.0\.conv1\.weight"
STEM = r"conv1\.weight \d+,[1-4],3,3$"  # a convolution in a block has more inputs
DEEP = r"(?:conv1|stem)\.0\.weight \d+,[1-4],3,3$"
AVERAGED = r"layer2\.0\.downsample\.1\.weight \d+,\d+,1,1$"
NETWORKS = (
    ("a quantised network: save the one that it was made from", r"zero_point|_packed_params"),
    ("a LoRA: merge it into its network and save that", r"(?:\w+_)?lora[_.](?:down|up|[AB])\b"),
    ("a part of a diffusion model",
     r"down_blocks\.0\.(?:resnets|attentions)|diffusion_model\.|first_stage_model\."),
    ("a network of PaddlePaddle", r"_variance "),
    ("a network of Keras or TensorFlow", r"moving_variance"),
    ("a network for images and texts together (CLIP)", r"text_projection\b|text_model\."),
    ("the image half of CLIP, whose ResNet pools by attention", r"attnpool\."),
    ("a network for speech", r"encoder\.conv1\.weight \d+,(?:80|128),3$"),
    ("a language model", r"(?:embed_tokens|word_embeddings|tok_embeddings|wte)\.weight"),
    ("a detector (Mask R-CNN){inside}", r"roi_heads?\.mask_(?:head|predictor)\."),
    ("a detector (Keypoint R-CNN){inside}", r"roi_heads\.keypoint_(?:head|predictor)\."),
    ("a detector (Faster R-CNN){inside}", r"roi_heads?\.(?:box|bbox)_(?:head|predictor)\."),
    ("a detector (FCOS){inside}", r"head\.regression_head\.bbox_ctrness\."),
    ("a detector (SSD){inside}", r"head\.classification_head\.module_list\."),
    ("a detector (RetinaNet){inside}", r"head\.(?:classification_head\.cls_logits|cls_subnet)\."),
    ("a detector (DETR){inside}", r"bbox_(?:embed|predictor)\.(?:\d\.)?layers\.0\."),
    ("a network of Ultralytics (YOLO)", r"model\.\d+\.(?:\w+\.){0,4}(?:cv1\.conv|dfl)\."),
    ("a detector (YOLO)", r"module_list\.\d+\.(?:Conv2d|conv_\d+)\.|head\.cls_preds\.\d"),
    ("a segmentation network (SAM)", r"mask_decoder\."),
    ("a segmentation network (DeepLab){inside}", r"classifier\.0\.convs\.|decoder\.aspp\."),
    ("a segmentation network (FCN){inside}",
     r"classifier\.0\.weight \d+,\d+,3,3$", r"classifier\.4\.weight \d+,\d+,1,1$"),
    ("a segmentation network (U-Net){inside}",
     r"decoder\.blocks\.|inc\.double_conv\.|layers\.\d+\.shuf\."),
    ("a segmentation network (U-Net){inside}",
     r"(?:decoder|up)\w*\.(?:\w+\.){0,5}weight \d+,\d+,[23],[23]$", RESNET),
    ("a segmentation network{inside}", r"decode_head\.|segmentation_head\.|classifier\.cbr\."),
    ("a detector{inside}", r"bbox_head\.|neck\.fpn_convs\.|fpn_lateral2\."),
    ("a network for poses{inside}", r"deconv_layers\.0\.|keypoint_head\."),
    ("a network for optical flow (RAFT)", r"update_block\."),
    ("a network from images to images (CycleGAN)", r"model\.\d+\.conv_block\."),
    ("a recurrent network (LSTM or GRU){inside}", r"weight_ih_l0 "),
    ("a network for video or volumes, whose convolutions are 3D",
     r"(?:layer1\.0\.conv1|features|patch_embed|conv_proj)(?:\.\w+){0,6} \d+(?:,\d+){4}$"),
    ("a network for signals, whose convolutions are 1D", r"layer1\.0\.conv1\.weight \d+,\d+,\d+$"),
    ("a DenseNet", r"denseblock1\.denselayer1\."),
    ("an AlexNet", r"features\.0\.weight \d+,\d,11,11$"),
    ("a SqueezeNet", r"features\.\d+\.squeeze\.weight"),
    ("a VGG", r"features\.0\.weight 64,[1-4],3,3$", r"features\.[234]\.weight \d+,64,3,3$"),
    ("a GoogLeNet", r"inception3a\."),
    ("an Inception-ResNet", r"repeat(?:_1)?\.0\.branch0\."),
    ("an Inception", r"Mixed_5b\.|features\.\d+\.branch0\."),
    ("an Xception", r"block1\.rep\."),
    ("a MobileNet", r"features\.1\.(?:conv|block)\.0\.0\.weight"),
    ("an EfficientNet", r"features\.1\.0\.block\.0\.0\.weight"),
    ("an EfficientNet, a MobileNet or similar", r"_?conv_stem\.|blocks\.0\.depthwise_conv\."),
    ("an MNASNet", r"layers\.8\.0\.layers\.0\.weight"),
    ("a ShuffleNet", r"stage2\.0\.branch2\.0\.weight"),
    ("a RegNet", r"trunk_output\.block1\.|s1\.b1\.conv1\.|regnet\.encoder\."),
    ("a ConvNeXt", r"features\.1\.0\.block\.0\.weight \d+,1,7,7$"),
    ("a ConvNeXt", r"stages\.0\.(?:\w+\.)?0\.(?:dwconv|conv_dw)\.weight \d+,1,7,7$"),
    ("a MaxViT", r"layers\.MBconv\.|attn_block\.attn\."),
    ("a Swin transformer", r"features\.[01]\.0\.attn\.|layers\.0\.blocks\.0\.att(?:n|ention)\."),
    ("a vision transformer, such as ViT", r"layers\.encoder_layer_0\.|transformer\.resblocks\.0\."),
    ("a vision transformer, such as ViT",
     r"patch_embed\w*\.", r"(?:blocks|layers?)\.0\.(?:attn|attention)\."),
    ("a transformer{inside}", r"attn\.qkv\.weight|self_attn\.(?:q_proj\.|in_proj_weight)"),
    ("an HRNet", r"stage[234]\.0\.branches\."),
    ("a CSPNet", r"stages\.0\.conv_transition_b\."),
    ("a network without norms (NFNet, NF-ResNet)", r"stages\.0\.0\.conv1\.gain"),
    ("a pre-activation ResNet (ResNet-V2 or BiT)",
     r"stages\.0\.(?:blocks|layers)\.0\.norm1\.", r"(?:blocks|layers)\.0\.conv1\.weight"),
    ("a pre-activation ResNet (ResNet-V2)",
     r"layer2\.0\.shortcut\.0\.weight", r"!layer2\.0\.shortcut\.1\."),
    ("a network of timm's ByobNet, as variants of ResNet are", r"stages\.0\.0\.conv2_kxk\."),
    ("a TResNet", r"body\.layer1\.0\.conv1\.conv\."),
    ("a ResNet with efficient channel attention (ECA)", r"layer1\.0\.(?:se|eca)\.conv\.weight 1,1"),
    ("a ResNet with block attention (CBAM)", r"layer1\.0\.(?:ca|cbam|se\.channel)\."),
    ("a squeeze-and-excitation ResNet (SE-ResNet)", r"layer1\.0\.se(?:_module)?\.\w+\."),
    ("a selective kernel ResNet (SKNet)", r"layer1\.0\.conv[12]\.paths\."),
    ("a ResNeSt", r"layer1\.0\.conv2\.bn0\."),
    ("a Res2Net", r"layer1\.0\.convs\.0\."),
    ("a ResNet with instance norm (IBN-Net)", r"layer1\.0\.bn1\.IN\."),
    ("a ResNet that blurs before it strides", r"layer2\.0\.(?:conv\d|downsample)\.\d\.filt "),
    ("an xResNet of fastai", r"4\.0\.conv(?:path|s)\.0\.0\.weight"),
    ("a ResNet for faces (ArcFace)", r"layer1\.0\.prelu\.|body\.0\.res_layer\.1\."),
    ("a ResNet with a tiered deep stem (ResNet-T)", r"conv1\.0\.weight 24,[1-4],3,3$", BLOCK),
    ("a ResNet with a deep stem that averages in its shortcuts (ResNet-D)", DEEP, AVERAGED),
    ("a ResNet with a deep stem (ResNet-C)", DEEP, BLOCK),
    ("a ResNet with a deep stem", STEM, r"conv3\.weight \d+,64,3,3$"),
    ("a ResNet that averages in its shortcuts", AVERAGED),
    ("a ResNet-{depth} for small images (CIFAR)", STEM, BLOCK),
    ("a ResNet-{depth} for small images (CIFAR)", r"conv2_x\.0\.residual_function\.0\."),
    ("a Wide ResNet for small images (CIFAR)", r"block1\.layer\.0\.conv1\."),
    ("a ResNet with deformable convolutions", r"layer\d\.0\.conv2(?:\.conv)?_offset\."),
    ("a ResNet whose batch norms are folded into its convolutions: save it before that",
     r"layer1\.0\.conv1\.bias", r"!layer1\.0\.bn1\."),
    ("a ResNet without statistics of batch norm (group norm?): save all of model.state_dict()",
     r"layer1\.0\.(?:bn|gn)1\.weight", r"!layer1\.0\.bn1\.running_mean"),
)  # fmt: skip
"""What a network is, and its signs: patterns of a tensor's name, a space and its shape. Each must
match some tensor, from the start or from a dot on; with ! before it, it must match none.
"""

LEARNERS = (
    ("a fastai export of a whole learner: save learn.model.state_dict() instead",
     r"fastai2?\..*Learner"),
    ("a network of Ultralytics (YOLO)", r"ultralytics\.|models\.yolo\."),
)  # fmt: skip
LIBRARIES = (
    ("the arguments of a training: name the weights beside it", r"transformers\.training_args"),
    ("an object of scikit-learn, not a network", r"sklearn\."),
    ("boosted trees, not a network", r"(?:xgboost|lightgbm|catboost)\."),
    ("a table of pandas, not a network", r"pandas\."),
    ("a network of Keras or TensorFlow", r"(?:keras|tensorflow)\."),
    ("a data set, not a network", r"torch\.utils\.data\.|torchvision\.datasets\."),
)
"""What a file without tensors is, and a pattern of the name of a class in it."""

OPTIMIZER_STATE = {
    "step", "momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg",
    "grad_avg", "acc_delta", "sum", "mu_product", "mu", "eta", "ax", "prev", "step_size",
}  # fmt: skip
"""What the optimizers of ``torch.optim`` store for a parameter."""


OTHER_POOLS = re.compile(r"(?:.*/)?(resnet(?:aa|blur)\w*)(?:\.\w+)?")
"""Networks of timm with torchvision's tensors and other strides."""


def identify_network(
    names: Mapping[str, tuple[int, ...]], kinds: Collection[str] = (), keys: Collection[str] = ()
) -> str | None:
    """Name what a checkpoint holds that is not one of torchvision's ten ResNets.

    Args:
        names: shapes of the tensors of a state dict, by name; the names may have a prefix.
        kinds: classes of the objects in the file, as module.Class.
        keys: of the outermost dict.

    Returns:
        A clause to follow "it is"; None where nothing is recognised, as for those ten.
    """
    if is_optimizer(names, kinds, keys):
        return "only the state of an optimizer"
    text = "".join(f"{name} {','.join(map(str, shape))}\n" for name, shape in names.items())
    inside = " with a ResNet inside" if holds_sign(RESNET, text) else ""
    for clause, *signs in NETWORKS:
        if all(holds_sign(sign, text) for sign in signs):
            return clause.format(inside=inside, depth=count_depth(names))
    for clause, start in () if inside else LEARNERS if names else LEARNERS + LIBRARIES:
        if any(re.match(start, kind) for kind in kinds):
            return clause
    return None


def holds_sign(sign: str, text: str) -> bool:
    """Return whether a sign of ``NETWORKS`` matches a line of tensors; with !, whether none."""
    found = re.search(rf"(?:^|[./])(?:{sign.removeprefix('!')})", text, re.MULTILINE)
    return (found is None) == sign.startswith("!")


def is_optimizer(names: Collection[str], kinds: Collection[str], keys: Collection[str]) -> bool:
    """Return whether a file holds the state of an optimizer, and no network."""
    if {"state", "param_groups"} <= set(keys):
        return True
    if names:
        return set(names) <= OPTIMIZER_STATE and not {"step", "momentum_buffer"}.isdisjoint(names)
    return any(kind.startswith("torch.optim.") for kind in kinds)


def count_depth(names: Collection[str]) -> int:
    """Return the depth of a ResNet as its name counts it: convolutions of blocks, conv1 and fc."""
    pattern = r"(?:layer|conv)(\d)(?:_x)?\.(\d+)\.(?:conv(\d)|residual_function\.([036]))\.weight"
    found = (re.search(pattern, name) for name in names)
    return len({match.groups() for match in found if match}) + 2


def identify_other(tree: Any) -> str | None:
    """Return a clause that names what a file holds in place of a ResNet; None where unknown."""
    fullest: dict[str, tuple[int, ...]] = {}
    kinds = set()
    for _, container in walk_containers(tree):
        try:
            tensors = tensors_in(container)
        except CheckpointError:  # a tensor is incomplete
            return None
        if len(tensors) > len(fullest):
            fullest = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        kinds |= {value.path for _, value in items_of(container) if isinstance(value, Foreign)}
    if isinstance(tree, Foreign):
        kinds.add(tree.path)
    if "torch._utils._rebuild_qtensor" in kinds:
        return "quantised: save the float weights that it was made from"
    if clause := name_unreadable(tree):
        return clause
    keys = [key for key, _ in items_of(tree)] if isinstance(tree, Mapping) else []
    return identify_network(fullest, kinds, keys)


VOWELS = ("a", "e", "i", "o")


def describe_incomplete(tree: Any) -> str | None:
    """Say that a ResNet lacks the tensor by which its layout is recognised, or return None."""
    for _, container in walk_containers(tree):
        tensors = tensors_in(container)
        for name, layout in product(tensors, LAYOUTS):
            prefix = prefix_of(plain_name(name), layout.landmark.replace("conv1", "conv2"))
            if prefix is not None:
                plain_names = map(plain_name, unwrapped_tensors(tensors, prefix))
                inside = (n.removeprefix(prefix) for n in plain_names if n.startswith(prefix))
                if sum(layout.translate(n) is not None for n in inside) > FEWEST_TENSORS:
                    return f"it is incomplete: {prefix}{layout.landmark} is missing"
                break  # one is enough: a file may claim any number of them
    return None


def describe_inventory(tree: Any) -> str:
    """Say in a few words what a tree holds in place of a ResNet."""
    names: list[str] = []
    where = ""
    for path, container in walk_containers(tree):
        tensors = tensors_in(container)
        if len(tensors) > max(1, len(names)):
            names, where = list(tensors), path
    if not isinstance(tree, Mapping):
        article = "an" if class_name(tree)[:1].lower() in VOWELS else "a"
        held = f"it holds {article} {class_name(tree)}, not a state dict"
    elif not tree:
        held = "it holds nothing"
    elif not any(tensors_in(container) for _, container in walk_containers(tree)):
        listed = [f"{key} ({class_name(value)})" for key, value in items_of(tree)]
        held = f"there are no weights in it, only a dict of {first_few(listed)}"
    else:
        held = f"it holds {first_few([key for key, _ in items_of(tree)])}"
    if names and (where or not isinstance(tree, Mapping)):
        held += f"; its {len(names)} tensors are {first_few(names)}"
    return held


def class_name(value: Any) -> str:
    """Return the name of the class of a value, as its file has it."""
    if isinstance(value, Mapping):
        return "dict"
    return value.kind if isinstance(value, Foreign) else type(value).__name__


def refuse_other_pools(tree: Any) -> None:
    """Refuse a network of timm with torchvision's tensors, which only its name distinguishes.

    Raises:
        CheckpointError: names the network.
    """
    if not isinstance(tree, Mapping):
        return
    arguments = as_container(tree.get("args"))
    named = arguments.get("model") if isinstance(arguments, Mapping) else None
    for name in (tree.get("arch"), named):
        match = OTHER_POOLS.fullmatch(name) if isinstance(name, str) else None
        if match:
            raise CheckpointError(
                f"it is timm's {match[1]}, which is another network than torchvision's"
            )
