"""What a file is that holds no ResNet of torchvision's: by its first bytes, or by its tensors.

Tables are tried from the top, so what is special stands before what is general.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from resnet_cli.checkpoint.network.architectures import ARCHITECTURES

PICTURES = {
    "JPEG": rb"\xff\xd8\xff", "PNG": rb"\x89PNG\r\n", "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF.{4}WEBP", "BMP": rb"BM.{4}\0\0\0\0", "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb".{4}ftypavi[fs]", "HEIC": rb".{4}ftyp(?:hei|hev|mif1|msf1)",
}  # fmt: skip
ARCHIVES = {
    "gzip": rb"\x1f\x8b", "bzip2": rb"BZh[1-9]", "xz": rb"\xfd7zXZ\0", "zstd": rb"\x28\xb5\x2f\xfd",
    "7z": rb"7z\xbc\xaf\x27\x1c", "rar": rb"Rar!\x1a\x07", "tar": rb".{257}ustar",
}  # fmt: skip
SIZE = rb"[\x80-\xff]{0,4}[\0-\x7f]"  # of a field, in the wire format of Protocol Buffers
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
MARK = rb"(?:\xef\xbb\xbf)?\s*"  # what may stand before text
TEXT = "it is a text file, not a checkpoint"
NO_STATE = "no state dict: save one with torch.save"
OLD = "a checkpoint from before PyTorch 0.1.10"  # https://github.com/pytorch/pytorch/pull/713
NATURES = (
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
    # such a checkpoint begins with a time, and what tells it comes 1024 bytes later
    (f"it is a tar archive, or {OLD}: unpack it, or load it with torch.load and save it again",
     rb"\./\./@PaxHeader.{243}ustar.{0,1023}\Z"),
    ("it is an empty zip archive", rb"PK\x05\x06"),
    *((f"it is an image ({kind}), not a checkpoint", start) for kind, start in PICTURES.items()),
    ("it is compressed, as joblib does: load it with joblib.load and save it with torch.save",
     rb"\x78[\x01\x5e\x9c\xda]"),
    *((f"it is an archive ({kind}): unpack it", start) for kind, start in ARCHIVES.items()),
    *((f"it is {kind}, no checkpoint of PyTorch", start) for kind, start in NETWORKS.items()),
    *((f"it is {kind}, not a checkpoint", start) for kind, start in OTHERS.items()),
)  # fmt: skip
"""What a file is, and how it begins."""

ZIPS = (
    (f"it holds arrays of NumPy (.npz), {NO_STATE}", r"\A(?:[^\n]+\.npy\n)+\Z"),
    ("it is a network of Keras (.keras), no checkpoint of PyTorch", r"^model\.weights\.h5$"),
    ("it is a network in Core ML, no checkpoint of PyTorch", r"com\.apple\.CoreML|\.mlmodelc?\b"),
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
"""What a zip archive is, and how the name of an entry reads that only it has."""


def identify_head(head: bytes) -> str:
    """Say what a file is that is no checkpoint.

    Args:
        head: its first 512 bytes; 1536 tell the oldest checkpoints from other tar archives.
    """
    for sentence, start in NATURES:
        if re.match(start, head, re.DOTALL):
            return sentence
    if is_utf8_text(head):
        return TEXT
    return UNKNOWN


def is_utf8_text(head: bytes) -> bool:
    """Whether the bytes read as UTF-8 text without control characters."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not a character that the cut at 512 bytes split
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)


def nature_of_zip(names: Sequence[str]) -> str | None:
    """Say what a zip archive with these entries is, no checkpoint; None when that is unknown."""
    text = "".join(f"{name}\n" for name in names if not name.startswith("__MACOSX/"))
    for sentence, pattern in ZIPS:
        if found := re.search(pattern, text, re.MULTILINE):
            return sentence.format(found[0])
    return None


RESNET = r"(?:layer1\.0|res2\.0|4\.0)\.conv1\.weight"
BLOCK = r"layer1\.0\.conv1\.weight"
STEM = r"conv1\.weight \d+,[1-4],3,3$"  # a convolution in a block has more inputs
DEEP = r"(?:conv1|stem)\.0\.weight \d+,[1-4],3,3$"
AVERAGED = r"layer2\.0\.downsample\.1\.weight \d+,\d+,1,1$"
STRANGERS = (
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
    ("an EfficientNet, a MobileNet or a kin", r"_?conv_stem\.|blocks\.0\.depthwise_conv\."),
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
"""What a network is, and the signs of it: patterns that the line of some tensor, which is its name,
a space and its shape, must match from its start or from a dot on; with ! before it, none may.
"""

LEARNERS = (
    ("a fastai export of a whole learner: save learn.model.state_dict() instead",
     r"fastai2?\..*Learner"),
    ("a network of Ultralytics (YOLO)", r"ultralytics\.|models\.yolo\."),
)  # fmt: skip
LIBRARIES = (
    ("the arguments of a training: name the weights beside it", r"transformers\.training_args"),
    ("an object of scikit-learn, no network", r"sklearn\."),
    ("boosted trees, no network", r"(?:xgboost|lightgbm|catboost)\."),
    ("a table of pandas, no network", r"pandas\."),
    ("a network of Keras or TensorFlow", r"(?:keras|tensorflow)\."),
    ("a data set, no network", r"torch\.utils\.data\.|torchvision\.datasets\."),
)
"""What a file is, and how the name of a class in it begins; of libraries, where no tensors are."""

KEPT = {
    "step", "momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg",
    "grad_avg", "acc_delta", "sum", "mu_product", "mu", "eta", "ax", "prev", "step_size",
}  # fmt: skip
"""What the optimizers of ``torch.optim`` keep of a parameter."""


def identify_network(
    names: Mapping[str, tuple[int, ...]], kinds: Collection[str] = (), keys: Collection[str] = ()
) -> str | None:
    """Name what a checkpoint holds that is none of torchvision's ten ResNets.

    Args:
        names: shapes of the tensors of a state dict, by their names with any prefix.
        kinds: classes of the objects in the file, as module.Class.
        keys: of the outermost dict.

    Returns:
        A clause to follow "it is"; None when nothing is recognised, so for those ten.
    """
    if is_optimizer(names, kinds, keys):
        return "only the state of an optimizer"
    text = "".join(f"{name} {','.join(map(str, shape))}\n" for name, shape in names.items())
    inside = " with a ResNet inside" if holds_sign(RESNET, text) else ""
    for clause, *signs in STRANGERS:
        if all(holds_sign(sign, text) for sign in signs):
            return clause.format(inside=inside, depth=count_depth(names))
    for clause, start in () if inside else LEARNERS if names else LEARNERS + LIBRARIES:
        if any(re.match(start, kind) for kind in kinds):
            return clause
    return None


def holds_sign(sign: str, text: str) -> bool:
    """Whether a sign of ``STRANGERS`` is in the lines of tensors, or is absent as it should be."""
    found = re.search(rf"(?:^|[./])(?:{sign.removeprefix('!')})", text, re.MULTILINE)
    return (found is None) == sign.startswith("!")


def is_optimizer(names: Collection[str], kinds: Collection[str], keys: Collection[str]) -> bool:
    """Whether a file holds what an optimizer keeps, and no network."""
    if {"state", "param_groups"} <= set(keys):
        return True
    if names:
        return set(names) <= KEPT and not {"step", "momentum_buffer"}.isdisjoint(names)
    return any(kind.startswith("torch.optim.") for kind in kinds)


def count_depth(names: Collection[str]) -> int:
    """Depth of a ResNet as its name counts it: the convolutions of its blocks, conv1 and fc."""
    pattern = r"(?:layer|conv)(\d)(?:_x)?\.(\d+)\.(?:conv(\d)|residual_function\.([036]))\.weight"
    found = (re.search(pattern, name) for name in names)
    return len({match.groups() for match in found if match}) + 2


def variant_of_timm(architecture: str) -> str | None:
    """Torchvision's name of a network of timm; None when torchvision has none that is the same.

    Args:
        architecture: as timm writes it, of any of its releases: ``resnet50.a1_in1k``,
            ``tv_resnet50``, ``gluon_resnet50_v1b``, ``timm/resnet50``.
    """
    name = architecture.rpartition("/")[2].partition(".")[0]
    name = re.sub(r"^(?:gluon|tv|ssl|swsl|ig)_|_v1b$", "", name)
    return name if name in ARCHITECTURES else None
