"""What a network is, layer by layer: shapes, parameters, multiply-adds, memory."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from resnet_cli.summary.networks import Changes, Subject, count_numbers, default_size, find_subject
from resnet_cli.summary.trace import trace_network
from resnet_cli.summary.views import VIEWS, Row

__all__ = ["Changes", "Summary", "Totals", "find_subject", "summarise_network"]


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
    source: str
    view: str
    img_size: tuple[int, int]  # height, width
    batch_size: int
    in_channels: int
    num_classes: int  # 0 for a backbone alone
    rows: list[Row]
    totals: Totals
    notes: list[str]

    @property
    def outputs(self) -> str:
        """What it tells apart, in words."""
        if not self.num_classes:
            return "no head"
        return f"{self.num_classes:,} class{'es' if self.num_classes != 1 else ''}"

    def record(self) -> dict[str, Any]:
        """The summary as it is written into JSON: a square size is one number."""
        height, width = self.img_size
        record = asdict(self)
        del record["notes"]
        return record | {"img_size": height if height == width else [height, width]}


def summarise_network(
    subject: Subject,
    *,
    view: str = "layers",
    depth: int | None = None,
    img_size: tuple[int, int] | None = None,
    batch_size: int = 1,
) -> Summary:
    """Summarise a network without running it.

    Args:
        subject: from ``find_subject``.
        view: a name of ``VIEWS``.
        depth: deepest layers shown; what is below them counts for the row that it is in.
        img_size: height and width in pixels; None takes what the model was made for.
        batch_size: images of the pass.

    Raises:
        SettingError: pictures too small for the network, or a view that it has not.
    """
    side = default_size(subject.model)
    size = img_size or subject.img_size or (side, side)
    if view == "layers" and subject.written is not None:
        subject = replace(subject, network=subject.written)
    images = torch.empty(batch_size, subject.in_channels, *size, device="meta")
    traced = trace_network(subject.network, images)
    shown = VIEWS[view](subject, traced, depth)
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
        view,
        size,
        batch_size,
        subject.in_channels,
        subject.num_classes,
        shown.rows,
        totals,
        [*subject.facts, *shown.notes],
    )
