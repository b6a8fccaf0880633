"""The tensors of a backbone in the form of torchvision's network; refused where they do not fit."""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from resnet_cli.checkpoint.network.detect import Parts
from resnet_cli.checkpoint.network.layouts import TensorLayout
from resnet_cli.checkpoint.tree import Part
from resnet_cli.errors import CheckpointError


def complete_backbone(
    backbone: Mapping[str, Tensor], layout: TensorLayout, ours: Mapping[str, Part]
) -> dict[str, Tensor]:
    """Bring the tensors of a backbone into the form that torchvision's network has.

    Raises:
        CheckpointError: they cannot be brought into it.
    """
    state = dict(backbone)
    if layout.only_scales:
        state = with_neutral_statistics(state)
    if layout.plain_shortcuts:
        state = with_shortcuts_complete(state)
    return with_usual_eps(with_biases_folded(state), ours)


EPS = 1e-5  # of torchvision's batch norms


def with_usual_eps(state: Mapping[str, Tensor], ours: Parts) -> dict[str, Tensor]:
    """Compensate a different epsilon in the variance, which is exact."""
    changed = dict(state)
    for name, part in ours.items():
        eps, variance = part.settings.get("eps"), f"{name}.running_var"
        if isinstance(eps, float) and eps != EPS and variance in state:
            changed[variance] = as_exact(state[variance]) + (eps - EPS)
    return changed


def as_exact(tensor: Tensor) -> Tensor:
    """Return a tensor in fp32, or in fp64 where it was, so that sums lose no digits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def with_biases_folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold the bias of each convolution into the batch norm behind it, which is exact.

    Raises:
        CheckpointError: no batch norm follows the bias.
    """
    changed = dict(state)
    for name in state:
        conv, _, kind = name.rpartition(".")
        if kind == "bias" and is_conv(state, conv):
            norm = norm_behind(conv)
            mean = state.get(f"{norm}.running_mean")
            if mean is None or mean.shape != state[name].shape:
                raise CheckpointError(f"{name} is followed by no batch norm")
            changed[f"{norm}.running_mean"] = as_exact(mean) - as_exact(changed.pop(name))
    return changed


def is_conv(state: Mapping[str, Tensor], name: str) -> bool:
    """Return whether a layer is a convolution."""
    weight = state.get(f"{name}.weight")
    return weight is not None and weight.ndim == 4


def norm_behind(conv: str) -> str:
    """Return the name of the batch norm that follows a convolution."""
    if conv.endswith("downsample.0"):
        return conv.removesuffix("0") + "1"
    start, _, own = conv.rpartition("conv")
    return f"{start}bn{own}"


def with_neutral_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add neutral statistics to batch norms that only scale and shift."""
    changed = dict(state)
    for name, weight in state.items():
        norm = name.removesuffix(".weight")
        if norm == name or weight.ndim != 1 or f"{norm}.running_var" in state:
            continue
        zeros = torch.zeros(len(weight))
        changed |= {f"{norm}.running_mean": zeros, f"{norm}.running_var": zeros + (1 - EPS)}
    return changed


def with_shortcuts_complete(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add a batch norm to each shortcut that is a convolution alone, as torchvision's have one.

    It adds the bias of the convolution, and nothing else.
    """
    changed = dict(state)
    for name, weight in state.items():
        conv = name.removesuffix(".weight")
        norm = norm_behind(conv)
        if not conv.endswith("downsample.0") or f"{norm}.running_mean" in state:
            continue
        zeros = torch.zeros(len(weight))
        changed |= {
            f"{norm}.weight": zeros + 1,
            f"{norm}.bias": changed.pop(f"{conv}.bias", zeros),
            f"{norm}.running_mean": zeros,
            f"{norm}.running_var": zeros + (1 - EPS),  # so that it divides by 1
        }
    return changed


def require_whole(model: str, names: Iterable[str], state: Mapping[str, Tensor]) -> None:
    """Refuse a network with missing tensors; missing counters do not matter.

    Raises:
        CheckpointError: names the first one.
    """
    missing = [n for n in names if n not in state and not n.endswith("num_batches_tracked")]
    if missing:
        raise CheckpointError(f"it is incomplete: {first_name(missing)} missing from its {model}")


def require_fit(
    blank: ResNet, names: Collection[str], state: Mapping[str, Tensor], surplus: list[str]
) -> None:
    """Refuse tensors that are not exactly those of the network.

    Raises:
        CheckpointError: one is left over, or has another shape; the message names it.
    """
    wanted = {name: tensor.shape for name, tensor in blank.state_dict().items() if name in names}
    extra = [name for name in state if name not in wanted] + surplus
    if extra:
        raise CheckpointError(f"it holds more than a ResNet: {first_name(extra)} left over")
    for name, shape in wanted.items():
        if name in state and state[name].shape != shape:
            raise CheckpointError(
                f"{name} has the shape {list(state[name].shape)} in place of {list(shape)}"
            )


def first_name(names: list[str]) -> str:
    """Return the first of several names, and the number of the others."""
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{names[0]} and {len(names) - 1} more are"


COMPARED = ("stride", "padding", "dilation", "kernel_size", "groups")  # of convolutions


def require_same_convolutions(network: ResNet, ours: Parts) -> None:
    """Refuse convolutions whose recorded settings differ from the network's.

    Raises:
        CheckpointError: names the first.
    """
    for name, part in ours.items():
        module = network.get_submodule(name)
        if not isinstance(module, nn.Conv2d):
            continue
        for key in COMPARED:
            value, wanted = part.settings.get(key), getattr(module, key)
            if value is not None and value not in (
                wanted,
                wanted[0] if key != "groups" else wanted,
            ):
                raise CheckpointError(f"its {name} has {key} {value}, torchvision's {wanted}")
        if part.settings.get("padding_mode", "zeros") != "zeros":
            raise CheckpointError(
                f"its {name} pads with {part.settings['padding_mode']}, not zeros"
            )
