"""A model by name or a checkpoint -> its layers with shapes, parameters, multiply-adds and memory.

Networks are built without weights, and nothing is computed or downloaded.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import WeightsEnum, get_model_weights

from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.summary.networks import (
    Subject,
    SummaryOptions,
    count_numbers,
    default_size,
    find_subject,
    known_models,
)
from resnet_cli.summary.trace import VIEW_ROWS, SummaryRow, trace_network

GROUPS: dict[str, tuple[str, ...]] = {
    "classic": (
        "alexnet", "vgg", "googlenet", "inception", "resnet", "resnext", "wide_resnet", "densenet",
        "convnext",
    ),
    "light-weight": ("squeezenet", "mobilenet", "shufflenet", "mnasnet"),
    "searched": ("efficientnet", "regnet"),
    "transformers": ("vit", "swin", "maxvit"),
}  # fmt: skip
"""Families of models, by how their names begin."""

OTHERS = "others"

MB, MIB = 10**6, 2**20  # bytes; torchvision's metadata count in the latter


@dataclass(frozen=True, slots=True)
class Totals:
    """What the whole network costs."""

    parameters: int
    trainable_parameters: int
    buffers: int  # numbers in them: the statistics of batch norms
    macs: int  # multiply-adds of the whole batch
    gmacs: float  # of the whole batch, in thousand millions
    gflops: float  # twice the GMACs
    activations: int  # outputs of convolutions and linear layers, of the whole batch
    weights_bytes_fp32: int  # of the parameters
    weights_bytes_fp16: int
    peak_activation_bytes: int  # in fp32, the images included


@dataclass(frozen=True, slots=True)
class Summary:
    """One view of one network."""

    model: str
    source: str  # torchvision's version, or the path of a file
    view: str  # layers, blocks, stages
    img_size: tuple[int, int]  # height, width
    batch_size: int
    in_channels: int
    num_classes: int  # 0 for a backbone alone
    rows: list[SummaryRow]
    totals: Totals
    notes: list[str]  # what was read from a file, and explanations of the rows

    @property
    def outputs(self) -> str:
        """The number of classes, in words."""
        if not self.num_classes:
            return "no head"
        return f"{self.num_classes:,} class{'es' if self.num_classes != 1 else ''}"

    def record(self) -> dict[str, Any]:
        """Return the summary for JSON; a square size is one number."""
        height, width = self.img_size
        record = asdict(self)
        del record["notes"]
        return record | {"img_size": height if height == width else [height, width]}


def summarize(model: str | Path = "resnet18", options: SummaryOptions | None = None) -> Summary:
    """Summarize a network layer by layer, without its weights.

    Args:
        model: a classification model of torchvision by name, a checkpoint, or a .prototxt of Caffe.
        options: the view, the size of the images, and changes to the network.

    Raises:
        SettingError: no such model or file, or an option that it cannot take.
        CheckpointError: the file holds no ResNet.
    """
    options = options or SummaryOptions()
    return summarize_network(find_subject(str(model), options), options)


def summarize_network(subject: Subject, options: SummaryOptions) -> Summary:
    """Summarize a network that was found.

    Args:
        subject: from ``find_subject``.
        options: the view and the images; changes to the network were made by ``find_subject``.

    Raises:
        SettingError: images too small for the network, or a view that it does not have.
    """
    side = default_size(subject.model)
    size = options.img_size or subject.img_size or (side, side)
    if options.view == "layers" and subject.written is not None:
        subject = replace(subject, network=subject.written)
    images = torch.empty(options.batch_size, subject.in_channels, *size, device="meta")
    traced = trace_network(subject.network, images)
    rows = VIEW_ROWS[options.view](subject, traced, options.depth)
    parameters = count_numbers(subject.network.parameters())
    macs = sum(layer.macs for layer in traced.layers)
    totals = Totals(
        parameters=parameters,
        trainable_parameters=count_numbers(
            p for p in subject.network.parameters() if p.requires_grad
        ),
        buffers=count_numbers(subject.network.buffers()),
        macs=macs,
        gmacs=macs / 1e9,
        gflops=2 * macs / 1e9,
        activations=traced.activations,
        weights_bytes_fp32=4 * parameters,
        weights_bytes_fp16=2 * parameters,
        peak_activation_bytes=traced.peak_bytes,
    )
    return Summary(
        subject.model,
        subject.source,
        options.view,
        size,
        options.batch_size,
        subject.in_channels,
        subject.num_classes,
        rows,
        totals,
        [*subject.facts, *EXPLANATIONS[options.view](rows)],
    )


def explain_blocks(rows: list[SummaryRow]) -> list[str]:
    """Explain each projection shortcut, and why there are bottlenecks."""
    notes = []
    for row in rows:
        if row["shortcut"] == "projection":
            reasons = []
            if row["stride"] != 1:
                reasons.append(f"the stride of {row['stride']} halves the image")
            if row["in_channels"] != row["out_channels"]:
                reasons.append(f"{row['in_channels']} channels become {row['out_channels']}")
            notes.append(f"{row['name']} projects its shortcut: {' and '.join(reasons)}")
    return [*notes, compare_blocks()]


def compare_blocks(width: int = 256) -> str:
    """Compute the comparison of figure 5 in the ResNet paper."""
    squeezed = width // 4
    basic = 2 * count_weights(width, width, 3)
    bottleneck = (
        count_weights(width, squeezed, 1)
        + count_weights(squeezed, squeezed, 3)
        + count_weights(squeezed, width, 1)
    )
    return (
        f"why a bottleneck: on {width} channels, two 3×3 convolutions have {basic:,} weights; "
        f"1×1 to {squeezed}, 3×3, 1×1 back to {width} have {bottleneck:,}, "
        f"{basic / bottleneck:.1f} times fewer"
    )


def count_weights(in_channels: int, out_channels: int, kernel: int) -> int:
    """Return how many numbers the weight of a convolution has."""
    return nn.Conv2d(in_channels, out_channels, kernel, bias=False, device="meta").weight.numel()


def explain_stages(rows: list[SummaryRow]) -> list[str]:
    """Explain why a padded convolution keeps the size, and the number in the network's name."""
    stages = [row for row in rows if row["block"].startswith("[")]
    convolutions = stages[0]["block"].count(";") + 1  # of a block
    depths = [row["repeats"] for row in stages]
    return [
        "at stride 1 the size n stays for a kernel k and a padding p with\n"
        "    floor((n + 2p - k) / 1) + 1 = n, that is k = 2p + 1\n"
        "as 3×3 with padding 1, 7×7 with padding 3, 1×1 with none",
        "layers with weights: conv1, the convolutions of the blocks without their shortcuts, fc\n"
        f"    1 + {convolutions}·({'+'.join(map(str, depths))}) + 1 "
        f"= {1 + convolutions * sum(depths) + 1}",
    ]


EXPLANATIONS: dict[str, Callable[[list[SummaryRow]], list[str]]] = {
    "layers": lambda _: [],
    "blocks": explain_blocks,
    "stages": explain_stages,
}
"""What stands below the totals of a view."""


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One set of published weights."""

    name: str  # IMAGENET1K_V1
    acc1: float  # top-1 accuracy on ImageNet's validation set, percent
    acc5: float
    resize_size: int  # pixels, of the preset they were evaluated with
    crop_size: int
    megabytes: float  # 10^6 bytes, of the download
    cached: bool  # whether the file is in the torch hub cache
    gmacs: float  # at that crop


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One network and its published weights."""

    name: str
    group: str
    parameters: int
    gmacs: float  # of the first weights' crop
    weights: tuple[WeightsEntry, ...]


def list_models(*, everything: bool = False) -> list[ModelEntry]:
    """List the ten ResNets, or with ``everything`` all of torchvision's classifiers by group."""
    names = known_models() if everything else list(ARCHITECTURES)
    order = [*GROUPS, OTHERS]
    models = [describe_model(name) for name in names]
    return sorted(models, key=lambda model: order.index(model.group)) if everything else models


def group_of(name: str) -> str:
    """Return the group of a model."""
    for group, starts in GROUPS.items():
        if name.startswith(starts):
            return group
    return OTHERS


def describe_model(name: str) -> ModelEntry:
    """Read torchvision's metadata of one model."""
    table = get_model_weights(name)
    entries = tuple(map(describe_weights, table))
    parameters = next(iter(table)).meta["num_params"]
    return ModelEntry(name, group_of(name), parameters, entries[0].gmacs, entries)


def describe_weights(weights: WeightsEnum) -> WeightsEntry:
    """Read torchvision's metadata of one set of weights."""
    accuracy = weights.meta["_metrics"]["ImageNet-1K"]
    transforms = weights.transforms()
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    return WeightsEntry(
        name=weights.name,
        acc1=accuracy["acc@1"],
        acc5=accuracy["acc@5"],
        resize_size=transforms.resize_size[0],
        crop_size=transforms.crop_size[0],
        megabytes=round(weights.meta["_file_size"] * MIB / MB, 3),
        cached=file.exists(),
        gmacs=weights.meta["_ops"],
    )
