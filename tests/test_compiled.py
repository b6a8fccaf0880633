from pathlib import Path

import pytest
import torch
import torch._inductor.config
from torch import nn

from resnet_cli.compiled import Compiled, whole
from resnet_cli.errors import DeviceError


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
    run = Compiled(whole(network, "cpu"))
    images = torch.randn(5, 3, 16, 16)
    with torch.inference_mode():
        expected = network(images)
        torch.testing.assert_close(run(images), expected, rtol=0, atol=1e-5)
        with torch.compiler.set_stance("fail_on_recompile"):
            torch.testing.assert_close(run(images[:3]), expected[:3], rtol=0, atol=1e-5)


def test_a_network_that_cannot_be_compiled_is_a_device_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    run = Compiled(whole(Small(9).eval(), "cpu"))
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        torch.inference_mode(),
        pytest.raises(
            DeviceError, match=r"cannot compile the network \(no C\+\+ compiler was .*--compile"
        ) as caught,
    ):
        run(torch.randn(2, 3, 16, 16))
    assert len(str(caught.value).splitlines()) == 1
