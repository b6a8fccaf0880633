"""LAYOUTS: how other systems name the tensors of a ResNet, in terms of torchvision's names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from resnet_cli.checkpoint.network.architectures import PLAIN, Variant

KINDS = "weight|bias|running_mean|running_var|num_batches_tracked"
END = rf"\.({KINDS})"

Rule = tuple[str, str]  # a pattern of names, and torchvision's name with its groups


@dataclass(frozen=True)
class TensorLayout:
    """One way of naming the tensors of a ResNet.

    A name that matches a rule belongs to the backbone. In the replacement, ``{stage}`` is the stage
    of torchvision for the group of that name, ``{block}`` the number of a block, and any other
    group is inserted as it is.
    """

    name: str
    landmark: str  # every network of this layout has it; the text before it is the prefix
    rules: tuple[Rule, ...]
    heads: tuple[str, ...] = ()  # places of its head, besides the usual ones
    stem: str | None = None  # a second landmark, where numbers alone are ambiguous
    first_stage: int = 1  # its number for torchvision's layer1
    default: Variant = PLAIN  # where the file does not state it
    plain_shortcuts: bool = False  # its projections have no batch norm
    only_scales: bool = False  # its batch norms have scales and shifts, without statistics

    @cached_property
    def patterns(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        """The rules, compiled."""
        return tuple((re.compile(pattern + END), target) for pattern, target in self.rules)

    def translate(self, name: str) -> str | None:
        """Return torchvision's name of a tensor; None where it is not of the backbone."""
        for pattern, target in self.patterns:
            match = pattern.fullmatch(name)
            if match:
                found = match.groupdict()
                stage = int(found.get("stage") or 0) - self.first_stage + 1
                block = block_number(found.get("block") or "0")
                start = target.format(stage=stage, block=block, **unnamed_groups(match))
                return f"{start}.{match.groups()[-1]}"
        return None


def unnamed_groups(match: re.Match[str]) -> dict[str, str]:
    """Return the groups of a match besides stage and block."""
    return {
        name: text
        for name, text in match.groupdict(default="").items()
        if name not in ("stage", "block")
    }


def block_number(text: str) -> int:
    """Return the number of a block from 0: itself, Caffe's letter, or the number behind its b."""
    if text.isdigit():
        return int(text)
    return int(text[1:]) if len(text) > 1 else ord(text) - ord("a")


STAGE_4 = r"(?P<stage>[1-4])"
BLOCK = r"(?P<block>\d{1,3})"

LAYOUTS = (
    TensorLayout(
        "torchvision",
        "layer1.0.conv1.weight",
        (
            (r"(?P<stem>conv1|bn1)", "{stem}"),
            (
                rf"layer{STAGE_4}\.{BLOCK}\.(?P<part>(?:conv|bn)[123])",
                "layer{stage}.{block}.{part}",
            ),
            (
                rf"layer{STAGE_4}\.{BLOCK}\.(?:downsample|shortcut)\.(?P<part>[01])",
                "layer{stage}.{block}.downsample.{part}",
            ),
        ),
    ),
    TensorLayout(  # nn.Sequential(*resnet.children()), which fastai cuts as well
        "sequential",
        "4.0.conv1.weight",
        (
            (r"0", "conv1"),
            (r"1", "bn1"),
            (
                rf"(?P<stage>[4-7])\.{BLOCK}\.(?P<part>(?:conv|bn)[123]|downsample\.[01])",
                "layer{stage}.{block}.{part}",
            ),
        ),
        stem="0.weight",
        first_stage=4,
    ),
    TensorLayout(  # Dive into Deep Learning: Sequential(b1, b2, b3, b4, b5, …), without names
        "d2l",
        "1.0.conv1.weight",
        (
            (r"0\.0", "conv1"),
            (r"0\.1", "bn1"),
            (rf"{STAGE_4}\.{BLOCK}\.(?P<part>(?:conv|bn)[12])", "layer{stage}.{block}.{part}"),
            (rf"{STAGE_4}\.{BLOCK}\.conv3", "layer{stage}.{block}.downsample.0"),
        ),
        heads=("7", "last.2"),
        stem="0.0.weight",
        plain_shortcuts=True,
    ),
    TensorLayout(  # the same in its second edition, with names from b2 on
        "d2l",
        "b2.0.conv1.weight",
        (
            (r"(?:0|b1)\.0", "conv1"),
            (r"(?:0|b1)\.1", "bn1"),
            (
                rf"b(?P<stage>[2-5])\.{BLOCK}\.(?P<part>(?:conv|bn)[12])",
                "layer{stage}.{block}.{part}",
            ),
            (rf"b(?P<stage>[2-5])\.{BLOCK}\.conv3", "layer{stage}.{block}.downsample.0"),
        ),
        heads=("last.2", "last"),
        first_stage=2,
        plain_shortcuts=True,
    ),
    TensorLayout(  # the book's Chinese edition for PyTorch, which names stages, not the stem
        "d2l",
        "resnet_block1.0.conv1.weight",
        (
            (r"0", "conv1"),
            (r"1", "bn1"),
            (
                rf"resnet_block{STAGE_4}\.{BLOCK}\.(?P<part>(?:conv|bn)[12])",
                "layer{stage}.{block}.{part}",
            ),
            (rf"resnet_block{STAGE_4}\.{BLOCK}\.conv3", "layer{stage}.{block}.downsample.0"),
        ),
        heads=("fc.1",),
        stem="0.weight",
        plain_shortcuts=True,
    ),
    TensorLayout(
        "transformers",
        "encoder.stages.0.layers.0.layer.0.convolution.weight",
        (
            (r"embedder\.embedder\.convolution", "conv1"),
            (r"embedder\.embedder\.normalization", "bn1"),
            *(
                (
                    rf"encoder\.stages\.(?P<stage>[0-3])\.layers\.{BLOCK}\.{theirs}",
                    f"layer{{stage}}.{{block}}.{ours}",
                )
                for theirs, ours in (
                    (r"layer\.0\.convolution", "conv1"),
                    (r"layer\.0\.normalization", "bn1"),
                    (r"layer\.1\.convolution", "conv2"),
                    (r"layer\.1\.normalization", "bn2"),
                    (r"layer\.2\.convolution", "conv3"),
                    (r"layer\.2\.normalization", "bn3"),
                    (r"shortcut\.convolution", "downsample.0"),
                    (r"shortcut\.normalization", "downsample.1"),
                )
            ),
        ),
        heads=("classifier.1",),
        first_stage=0,
    ),
    TensorLayout(
        "detectron2",
        "res2.0.conv1.weight",
        (
            (r"stem\.conv1", "conv1"),
            (r"stem\.conv1\.norm", "bn1"),
            (
                rf"res(?P<stage>[2-5])\.{BLOCK}\.conv(?P<part>[123])",
                "layer{stage}.{block}.conv{part}",
            ),
            (
                rf"res(?P<stage>[2-5])\.{BLOCK}\.conv(?P<part>[123])\.norm",
                "layer{stage}.{block}.bn{part}",
            ),
            (rf"res(?P<stage>[2-5])\.{BLOCK}\.shortcut", "layer{stage}.{block}.downsample.0"),
            (rf"res(?P<stage>[2-5])\.{BLOCK}\.shortcut\.norm", "layer{stage}.{block}.downsample.1"),
        ),
        heads=("linear",),
        first_stage=2,
    ),
    TensorLayout(  # the files of Caffe, and what was copied out of them under the same names
        "caffe",
        "res2a_branch2a.weight",
        (
            (r"conv1", "conv1"),
            (r"(?:bn|scale)_conv1", "bn1"),
            *(
                (
                    rf"{theirs}(?P<stage>[2-5])(?P<block>[a-z]\d{{0,3}})_branch{branch}",
                    f"layer{{stage}}.{{block}}.{ours}",
                )
                for branch, conv, norm in (
                    ("1", "downsample.0", "downsample.1"),
                    ("2a", "conv1", "bn1"),
                    ("2b", "conv2", "bn2"),
                    ("2c", "conv3", "bn3"),
                )
                for theirs, ours in (("res", conv), ("(?:bn|scale)", norm))
            ),
        ),
        heads=("fc1000",),
        first_stage=2,
        default=Variant(stride_in_1x1=True, ceil_pool=True),
    ),
    TensorLayout(  # the blobs of Detectron, from MSRA's files for Caffe
        "msra",
        "res2_0_branch2a.weight",
        (
            (r"conv1", "conv1"),
            (r"res_conv1_bn", "bn1"),
            *(
                (
                    rf"res(?P<stage>[2-5])_{BLOCK}_branch{branch}{theirs}",
                    f"layer{{stage}}.{{block}}.{ours}",
                )
                for branch, conv, norm in (
                    ("1", "downsample.0", "downsample.1"),
                    ("2a", "conv1", "bn1"),
                    ("2b", "conv2", "bn2"),
                    ("2c", "conv3", "bn3"),
                )
                for theirs, ours in (("", conv), ("_bn", norm))
            ),
        ),
        heads=("fc1000", "pred"),
        first_stage=2,
        default=Variant(stride_in_1x1=True),
        only_scales=True,
    ),
)
"""Layouts in the order they are tried."""

BLOBS = {"w": "weight", "s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
"""Suffixes of Caffe2 for the tensors of a layer."""


def with_dots(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename the blobs of Caffe2 as PyTorch does: ``conv1_w`` to ``conv1.weight``.

    The momentum that training stores beside them is dropped; other tensors keep their names.
    """
    if "conv1_w" not in tensors:
        return tensors
    split = {name: name.rpartition("_") for name in tensors if not name.endswith("_momentum")}
    return {
        f"{layer}.{BLOBS[end]}" if end in BLOBS else name: tensors[name]
        for name, (layer, _, end) in split.items()
    }


FEWEST_TENSORS = 50  # tensors that show a ResNet without its landmark; a resnet18 has 102
