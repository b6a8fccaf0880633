import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from conftest import trained
from resnet_cli.preprocess import Preprocess
from resnet_cli.runtimes import SessionOptions, find_runtime, winograd
from resnet_cli.runtimes.fusion import Compiled, fold_batch_norms, fuse_network
from resnet_cli.runtimes.private import Traced, has_fused_operators
from resnet_cli.runtimes.torch_runtime import Normalise, TorchSession
from resnet_cli.runtimes.winograd import (
    WinogradConv,
    count_algorithms,
    filter_transform,
    input_transform,
    output_transform,
    saves_time,
    suits_winograd,
)
from resnet_cli.system import run_is_ending

if not has_fused_operators(torch.float32) or not winograd.IS_X86:
    pytest.skip("this torch or processor has no use for it", allow_module_level=True)

CPU = torch.device("cpu")


def conv_of(inputs: int = 128, outputs: int = 128, **settings: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 3, **{"padding": 1} | settings)
    return conv.to(memory_format=torch.channels_last).requires_grad_(False)


def images_of(count: int, channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, channels, height, width, generator=generator).relu_()
    return images.contiguous(memory_format=torch.channels_last)


def in_doubles(conv: nn.Conv2d, images: Tensor, shortcut: Tensor | None) -> Tensor:
    """What torch's own convolution gives, in float64."""
    bias = None if conv.bias is None else conv.bias.double()
    found = functional.conv2d(images.double(), conv.weight.double(), bias, padding=1)
    return (found if shortcut is None else found + shortcut.double()).relu_()


def error(actual: Tensor, expected: Tensor) -> float:
    """The root of the mean square, of that of what is expected."""
    return float((actual.double() - expected).norm() / expected.norm())


def test_the_transforms_are_those_of_numpys_correlation() -> None:
    rng = np.random.default_rng(0)
    pixels, weights = rng.normal(size=6), rng.normal(size=3)
    values = torch.stack(input_transform(torch.from_numpy(pixels).unbind()))
    products = values * (filter_transform() @ torch.from_numpy(weights))
    results = torch.stack(output_transform(products.unbind()))
    np.testing.assert_allclose(results, np.correlate(pixels, weights, "valid"), rtol=1e-12)


def by_winograd(network: object) -> int:
    """How many convolutions have gone over to the algorithm."""
    assert isinstance(network, nn.Module)
    convs = [part for part in network.modules() if isinstance(part, WinogradConv)]
    return sum(conv.direct is None for conv in convs)


@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "height", "width"),
    [(4, 128, 128, 28, 28), (11, 128, 64, 9, 14), (16, 512, 512, 7, 7), (1, 128, 136, 40, 33)],
)
def test_it_is_the_convolution(
    count: int, inputs: int, outputs: int, height: int, width: int, with_shortcut: bool
) -> None:
    conv = conv_of(inputs, outputs)
    images = images_of(count, inputs, height, width)
    shortcut = images_of(count, outputs, height, width) if with_shortcut else None
    run = WinogradConv(conv)
    with torch.inference_mode():
        expected = in_doubles(conv, images, shortcut)
        before = images.clone()
        found = run(images, shortcut)

    assert run.direct is None  # it was Winograd's algorithm
    assert torch.equal(images, before)
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert 0 < error(found, expected) < 2e-6


def test_a_convolution_may_have_no_bias() -> None:
    conv = conv_of(bias=False)
    images = images_of(4, 128, 28, 28)
    with torch.inference_mode():
        assert error(WinogradConv(conv)(images), in_doubles(conv, images, None)) < 2e-6


@pytest.mark.parametrize(
    ("count", "channels", "side"),
    [
        (1, 512, 7),  # one photograph: the weights are read for a few tiles
        (1, 256, 14),
        (4, 64, 56),  # the sums cost more than they save
        (64, 512, 2),  # a tile of sixteen pixels for four
        (4, 128, 8),
    ],
)
def test_what_it_does_not_pay_for_is_done_directly(count: int, channels: int, side: int) -> None:
    conv = conv_of(channels, channels)
    images = images_of(count, channels, side, side)
    run = WinogradConv(conv)
    with torch.inference_mode():
        found = run(images)
        assert run.direct is not None
        assert error(found, in_doubles(conv, images, None)) < 1e-6


def test_it_takes_over_from_the_first_pass_that_is_worth_it() -> None:
    conv = conv_of()
    run = WinogradConv(conv)
    with torch.inference_mode():
        for count, direct in ((1, True), (4, False), (1, False)):
            images = images_of(count, 128, 28, 28)
            assert error(run(images), in_doubles(conv, images, None)) < 2e-6
            assert (run.direct is not None) is direct


def test_workers_may_begin_at_once() -> None:
    conv = conv_of()
    images = images_of(4, 128, 28, 28)
    run = WinogradConv(conv)

    @torch.inference_mode()
    def work(_: int) -> float:
        return error(run(images), in_doubles(conv, images, None))

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, range(16))) < 2e-6


@pytest.mark.parametrize(
    "settings",
    [{"stride": 2}, {"padding": 0}, {"dilation": 2, "padding": 2}, {"groups": 2}],
)
def test_other_convolutions_do_not_suit(settings: dict[str, int]) -> None:
    assert suits_winograd(conv_of(), compiled=False)
    assert not suits_winograd(conv_of(**settings), compiled=True)


@pytest.mark.parametrize("unit", ["avx512_bf16", "amx_bf16"])
def test_half_precision_suits_if_compiled_and_products_cost_time(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "cpu_instructions", lambda: {"avx512_bf16", unit})
    assert suits_winograd(conv_of().bfloat16(), compiled=True) is (unit != "amx_bf16")
    assert not suits_winograd(conv_of().bfloat16(), compiled=False)
    assert not suits_winograd(conv_of().half(), compiled=True)  # of too small a range
    assert suits_winograd(conv_of(), compiled=False)


def test_other_processors_do_not_suit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "IS_X86", False)
    assert not suits_winograd(conv_of(), compiled=True)
    assert not suits_winograd(conv_of().bfloat16(), compiled=True)


@pytest.mark.parametrize(("name", "count"), [("resnet18", 9), ("resnet50", 10)])
def test_probabilities_are_those_of_torchvisions_network(name: str, count: int) -> None:
    network = trained(name, num_classes=7)
    network.fc.weight.data.div_(8)  # logits as of a trained network, not hundreds
    pixels = torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8)
    normalise = Normalise(Preprocess().mean, Preprocess().std)
    with torch.inference_mode():
        expected = network.double()(normalise(pixels).double()).softmax(1)
        session = find_runtime("cpu").load(network.float(), SessionOptions(preprocess=Preprocess()))
        assert isinstance(session, TorchSession)
        probs, indices = session.top(pixels, 7)

    assert by_winograd(session.network) == count
    found = torch.empty_like(probs).scatter_(1, indices, probs)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("with_shortcut", "most"), [(False, 1.24e-2), (True, 6e-3)])
def test_in_bf16_its_products_alone_are_rounded(with_shortcut: bool, most: float) -> None:
    if not saves_time(torch.bfloat16, compiled=True) or not has_fused_operators(torch.bfloat16):
        pytest.skip("this processor has no use for it")
    conv = conv_of().bfloat16()
    images = images_of(4, 128, 14, 14).bfloat16()
    shortcut = images_of(4, 128, 14, 14).bfloat16() if with_shortcut else None
    run = WinogradConv(conv, compiled=True)
    with torch.inference_mode():
        expected = in_doubles(conv, images, shortcut)
        found = run(images, shortcut)

    assert run.direct is None
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert error(found, expected) < most


@pytest.mark.usefixtures("compiler")
def test_what_is_compiled_for_one_precision_is_not_run_in_another() -> None:
    run = Traced(lambda values: values.sin())
    values = torch.linspace(0, 1, 8)
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16, torch.float32):
            torch.testing.assert_close(run(values.to(dtype)), values.to(dtype).sin())


def test_in_bf16_few_channels_are_convolved_directly() -> None:
    run = WinogradConv(conv_of(64, 64).bfloat16(), compiled=True)
    assert not run.pays(torch.Size((4, 64, 56, 56)))
    assert WinogradConv(conv_of(64, 64), compiled=True).pays(torch.Size((4, 64, 56, 56)))


@pytest.mark.usefixtures("compiler")
def test_workers_share_what_is_compiled() -> None:
    conv = conv_of(64, 64)
    images = images_of(2, 64, 12, 8)
    fused = WinogradConv(conv, compiled=True)
    run = Compiled(lambda images: fused(images, images))

    @torch.inference_mode()
    def work(_: int) -> float:
        return error(run(images), in_doubles(conv, images, images))

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, range(400))) < 2e-6


@pytest.mark.usefixtures("compiler")
def test_a_run_that_is_being_ended_compiles_no_more() -> None:
    run = Traced(lambda values: values.cos())
    values = torch.ones(3)
    run(values)
    run_is_ending.set()
    try:
        run(values)  # which is compiled
        with pytest.raises(KeyboardInterrupt):
            run(torch.ones(4))
    finally:
        run_is_ending.clear()
    torch.testing.assert_close(run(torch.ones(4)), torch.ones(4).cos())


@pytest.mark.usefixtures("compiler")
def test_other_threads_run_while_what_is_compiled_computes() -> None:
    def laborious(values: Tensor) -> Tensor:
        for _ in range(100):
            values = values.sin()
        return values

    run = Traced(laborious)
    values = torch.linspace(0, 1, 1 << 22)
    with torch.inference_mode():
        run(values)
    turns = 0
    with ThreadPoolExecutor(1) as pool:
        computed = pool.submit(run, values)
        while not computed.done():
            sleep(0.001)
            turns += 1
    assert turns > 20


NO_COMPILER = """
import numpy as np
from conftest import trained
from resnet_cli.errors import DeviceError
from resnet_cli.preprocess import Preprocess
from resnet_cli.runtimes import SessionOptions, find_runtime

options = SessionOptions(preprocess=Preprocess(), compiled=True)
session = find_runtime("cpu").load(trained(), options)
try:
    session.launch(np.zeros((2, 64, 64, 3), np.uint8), 1)
except DeviceError as error:
    print(error)
"""


def test_without_a_compiler_the_parts_are_refused_in_a_sentence(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", NO_COMPILER],
        env=os.environ
        | {
            "CXX": "no-such-compiler",
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told == (
        "cannot compile the network (no C++ compiler was found, such as g++): leave --compile out\n"
    )


@pytest.mark.usefixtures("compiler")
def test_compiled_it_is_the_same() -> None:
    network = trained("resnet18", num_classes=7)
    images = images_of(2, 3, 32, 32)
    with torch.inference_mode():
        expected = network(images)
        fused = fuse_network(fold_batch_norms(network, CPU, torch.float32), compiled=True)
        run = Compiled(fused)
        torch.testing.assert_close(run(images), expected, rtol=1e-4, atol=1e-4)
        with torch.compiler.set_stance("fail_on_recompile"):
            torch.testing.assert_close(run(images[:1]), expected[:1], rtol=1e-4, atol=1e-4)
    assert by_winograd(fused) == 7  # the third stage has four pixels


def test_what_ran_is_counted() -> None:
    stem = nn.Conv2d(128, 128, 1, bias=False).to(memory_format=torch.channels_last)
    network = nn.Sequential(stem.requires_grad_(False), WinogradConv(conv_of()))
    assert count_algorithms(network) == {"oneDNN direct": 2}
    network(images_of(1, 128, 3, 3))  # too small to pay
    assert count_algorithms(network) == {"oneDNN direct": 2}
    network(images_of(4, 128, 28, 28))
    assert count_algorithms(network) == {"Winograd F(4x4, 3x3)": 1, "oneDNN direct": 1}
