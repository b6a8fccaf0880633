from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import current_thread

import pytest
import torch
import torch._inductor.config
from torch import Tensor, nn

from resnet_cli.errors import DeviceError
from resnet_cli.runtimes.fusion import Compiled, compile_whole
from resnet_cli.runtimes.torch_runtime import TorchCpu


class Small(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(3, channels, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, 3),
        )


@pytest.mark.usefixtures("compiler")
def test_a_compiled_network_gives_what_it_gave_before() -> None:
    torch.manual_seed(0)
    network = Small(8).eval()
    run = Compiled(compile_whole(network, TorchCpu.compile_options))
    images = torch.randn(5, 3, 16, 16)
    with torch.inference_mode():
        expected = network(images)
        torch.testing.assert_close(run(images), expected, rtol=0, atol=1e-5)
        with torch.compiler.set_stance("fail_on_recompile"):
            torch.testing.assert_close(run(images[:3]), expected[:3], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("compiler")
def test_threads_that_end_may_compile_one_after_the_other() -> None:
    """Each run has threads of its own; torch 2.11 crashed at the second."""
    torch.manual_seed(0)
    network = Small(7).eval()
    run = Compiled(compile_whole(network, TorchCpu.compile_options))

    @torch.inference_mode()
    def work(count: int) -> None:
        images = torch.randn(count, 3, 16, 16)
        torch.testing.assert_close(run(images), network(images), rtol=0, atol=1e-5)

    for count in (1, 2, 3):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work, count).result()


def test_it_compiles_for_as_many_threads_as_run_it() -> None:
    seen = []

    def network(images: Tensor) -> Tensor:
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled(), current_thread()))
        return images

    def work(threads: int) -> None:
        torch.set_num_threads(threads)
        Compiled(network)(torch.zeros(1, 3, 8, 8))
        with torch.inference_mode():
            Compiled(network)(torch.zeros(1, 3, 8, 8))

    for threads in (1, 2):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work, threads).result()
    assert [row[:2] for row in seen] == [(1, False), (1, True), (2, False), (2, True)]
    threads_seen = {row[2] for row in seen}  # not their numbers, which new threads take over
    assert len(threads_seen) == 1
    assert threads_seen.pop().is_alive()


def test_a_network_that_cannot_be_compiled_is_a_device_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    network = compile_whole(Small(9).eval(), TorchCpu.compile_options)

    def run(images: Tensor) -> Tensor:
        with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
            return network(images)

    with (
        torch.inference_mode(),
        pytest.raises(
            DeviceError, match=r"cannot compile the network \(no C\+\+ compiler was .*--compile"
        ) as caught,
    ):
        Compiled(run)(torch.randn(2, 3, 16, 16))
    assert len(str(caught.value).splitlines()) == 1
