import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from conftest import trained
from resnet_cli.checkpoint.network.architectures import PLAIN, Variant, apply_variant
from resnet_cli.preprocess import Preprocess
from resnet_cli.runtimes import SessionOptions, find_runtime, private
from resnet_cli.runtimes.fusion import (
    Compiled,
    FusedBlock,
    fold_batch_norms,
    fuse_network,
)
from resnet_cli.runtimes.private import FusedConv, has_fused_operators
from resnet_cli.runtimes.torch_runtime import FromPixels, TorchSession
from resnet_cli.runtimes.winograd import WinogradConv

if not has_fused_operators(torch.float32):
    pytest.skip("this torch has no fused convolutions", allow_module_level=True)


@pytest.fixture(autouse=True)
def _new_probe() -> None:
    has_fused_operators.cache_clear()


def images(channels: int = 3, height: int = 65) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, channels, height, 32, generator=generator)


def folded(network: ResNet) -> ResNet:
    return fold_batch_norms(network, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("height", [65, 32])  # the last stage has a few pixels, or one
@pytest.mark.parametrize(
    ("name", "variant", "channels"),
    [
        ("resnet18", PLAIN, 3),
        ("resnet18", PLAIN, 1),
        ("resnet50", PLAIN, 3),
        ("resnet50", Variant(stride_in_1x1=True, ceil_pool=True), 3),
        ("resnext50_32x4d", PLAIN, 3),
    ],
)
def test_the_logits_are_those_of_torchvisions_network(
    name: str, variant: Variant, channels: int, height: int
) -> None:
    network = trained(name, in_channels=channels)
    apply_variant(network, variant)
    with torch.inference_mode():
        expected = network(images(channels, height))
        fused = fuse_network(folded(copy.deepcopy(network)))
        logits = fused(images(channels, height).to(memory_format=torch.channels_last))

    kinds: set[type[nn.Module]] = {type(module) for module in fused.modules()}
    assert FusedConv in kinds
    assert FusedBlock in kinds
    assert kinds.isdisjoint({nn.Conv2d, nn.BatchNorm2d, BasicBlock, Bottleneck})
    largest = float(expected.abs().max())  # hundreds, with random weights in fifty layers
    torch.testing.assert_close(logits, expected, rtol=0, atol=max(largest, 1) * 1e-5)


def test_other_activations_are_not_taken_for_relu() -> None:
    network = trained()
    network.layer2[1].relu = nn.LeakyReLU(0.5)
    with torch.inference_mode():
        expected = network(images())
        logits = fuse_network(folded(network))(images())
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_other_paddings_are_not_taken_for_zeros() -> None:
    network = trained()
    network.conv1 = nn.Conv2d(3, 64, 7, 2, 3, padding_mode="reflect", bias=False).eval()
    with torch.inference_mode():
        expected = network(images())
        logits = fuse_network(folded(network))(images())
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


class Gone(FusedConv):
    """What is left of a release that has the operators no more."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__(conv, relu=relu)
        raise AttributeError("no such operator")


class Changed(FusedConv):
    """An operator that does not rectify any more."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__(conv, relu=relu and False)


@pytest.mark.parametrize("operator", [Gone, Changed])
def test_without_the_operators_the_network_runs_as_it_is(
    operator: type[FusedConv], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "FusedConv", operator)
    network = trained()
    with torch.inference_mode():
        expected = network(images())
        kept = fuse_network(folded(network))
        logits = kept(images())

    assert all(type(module) is not operator for module in kept.modules())
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_the_probe_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    has_fused_operators(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folded_network_is_where_it_will_run(dtype: torch.dtype) -> None:
    network = fold_batch_norms(trained(), torch.device("cpu"), dtype)
    weights = dict(network.named_parameters())
    assert {weight.dtype for weight in weights.values()} == {dtype}
    convs = [weight for weight in weights.values() if weight.ndim == 4 and weight.shape[2] > 1]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in convs)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("variant", [PLAIN, Variant(ceil_pool=True)])
def test_compiled_pooling_changes_no_digit(variant: Variant) -> None:
    if not has_fused_operators(torch.bfloat16):
        pytest.skip("this processor has no bf16")
    network = trained()
    apply_variant(network, variant)
    pixels = images(height=8).to(torch.bfloat16, memory_format=torch.channels_last)
    with torch.inference_mode():
        folded = fold_batch_norms(network, torch.device("cpu"), torch.bfloat16)
        expected = fuse_network(copy.deepcopy(folded))(pixels)
        fused = fuse_network(folded, compiled=True)
        logits = fused(pixels)

    assert nn.MaxPool2d not in {type(module) for module in fused.modules()}
    convs = [module for module in fused.modules() if isinstance(module, WinogradConv)]
    assert all(conv.direct is not None for conv in convs)  # images so small have no use for it
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_what_compiles_parts_the_network_is_compiled_as_a_whole(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_parts() -> bool:
        options = SessionOptions(preprocess=Preprocess(), precision=precision, compiled=True)
        session = find_runtime("cpu").load(trained(), options)
        assert isinstance(session, TorchSession)
        run = session.network
        assert isinstance(run, Compiled)
        return isinstance(run.run, FromPixels)

    assert in_parts()
    monkeypatch.delattr("torch._inductor.standalone_compile")
    assert not in_parts()


TWO_PASSES = """
import sys

import torch
from conftest import trained
from resnet_cli.runtimes.fusion import fold_batch_norms, fuse_network

name, count, side = sys.argv[1], *map(int, sys.argv[2:])
network = fuse_network(fold_batch_norms(trained(name), torch.device("cpu"), torch.float32))
images = torch.zeros(count, 3, side, side).contiguous(memory_format=torch.channels_last)
with torch.inference_mode():
    for number in (1, 2):
        print("pass", number, flush=True)
        network(images)
"""


@pytest.mark.parametrize(
    ("network", "count", "side", "least"),
    [("resnet50", 2, 96, 50), ("resnet18", 16, 224, 15)],  # the second by Winograd, in parts
)
def test_weights_are_packed_in_the_first_pass_for_all_that_come(
    network: str, count: int, side: int, least: int
) -> None:
    """By what oneDNN itself says that it does."""
    told = subprocess.run(
        [sys.executable, "-c", TWO_PASSES, network, str(count), str(side)],
        env=os.environ
        | {"ONEDNN_VERBOSE": "profile_exec", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    first, second = (part.count(",reorder,") for part in told.split("pass 1")[1].split("pass 2"))
    assert first > least
    assert second == 0
