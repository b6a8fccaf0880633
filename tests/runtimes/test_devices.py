import sys

import pytest
import torch

from resnet_cli.errors import DeviceError
from resnet_cli.runtimes import UNITS, device_name, find_device, has_units
from resnet_cli.system import cpu_flags

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_a_device_is_found(name: str) -> None:
    device = find_device(name)
    assert device.type == "cpu" or (name == "auto" and device.type in {"cuda", "mps"})
    assert str(device) in device_name(device)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cpu:", "cuda:x", "CPU"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"cannot use device '{name}'") as caught:
        find_device(name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_device_of_another_kind_is_refused_with_those_that_work() -> None:
    with pytest.raises(DeviceError, match=r"one of auto, cpu, cuda, .*mps"):
        find_device("meta")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/cpuinfo is of Linux")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this torch does not tell")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_linux_and_torch_agree_on_the_units(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = has_units(CPU, precision)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert has_units(CPU, precision) == told
    assert told == (not cpu_flags().isdisjoint(UNITS[precision]))


def test_fp32_and_other_devices_need_no_units() -> None:
    assert has_units(CPU, "fp32")
    assert has_units(torch.device("mps"), "fp16")


@pytest.mark.cuda
def test_the_gpu_is_named() -> None:
    assert find_device("auto").type == find_device("cuda").type == "cuda"
    assert torch.cuda.get_device_name(torch.device("cuda:0")) in device_name(torch.device("cuda"))
