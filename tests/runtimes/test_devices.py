import sys
from typing import Any

import pytest
import torch

from resnet_cli.errors import DeviceError
from resnet_cli.runtimes import (
    PRECISIONS,
    RUNTIMES,
    RuntimeClass,
    find_runtime,
    import_runtime,
)
from resnet_cli.runtimes.host import UNITS
from resnet_cli.runtimes.torch_cuda import TorchCuda
from resnet_cli.runtimes.torch_runtime import TorchCpu, TorchMps, TorchRuntime
from resnet_cli.system import cpu_flags


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_a_device_is_found(name: str) -> None:
    runtime = find_runtime(name)
    assert runtime.device == "cpu" or (name == "auto" and runtime.device in {"cuda:0", "mps:0"})
    assert runtime.device in runtime.description


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cpu:", "cuda:x", "CPU"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"cannot use device '{name}'") as caught:
        find_runtime(name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_device_of_another_kind_is_refused_with_those_that_work() -> None:
    with pytest.raises(DeviceError, match=r"one of auto, cpu, cuda, .*mps"):
        find_runtime("meta")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/cpuinfo is of Linux")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this torch does not tell")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_linux_and_torch_agree_on_the_units(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = precision in find_runtime("cpu").precisions
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert (precision in find_runtime("cpu").precisions) == told
    assert told == (not cpu_flags().isdisjoint(UNITS[precision]))


def test_fp32_and_other_devices_need_no_units() -> None:
    assert "fp32" in find_runtime("cpu").precisions
    assert TorchRuntime("cpu").precisions == set(PRECISIONS) - {"int8"}


KINDS = [(name, kind) for name, kinds in RUNTIMES.items() for kind in kinds]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_each_runtime_says_where_its_work_belongs(name: str, kind: str) -> None:
    runtime: Any = import_runtime(kind, name)
    assert runtime.batch_size > 0
    assert not (runtime.on_workers_cores and runtime.wants_processes)
    assert isinstance(runtime.is_available(), bool)


CLASSES: tuple[RuntimeClass, ...] = (TorchCuda, TorchMps, TorchCpu)  # the checks of types see it


def test_torch_works_on_the_cores_of_the_workers_or_behind_them() -> None:
    assert tuple(map(import_runtime, RUNTIMES["torch"])) == CLASSES
    sizes = [(one.on_workers_cores, one.batch_size) for one in (TorchCuda, TorchMps, TorchCpu)]
    assert sizes == [(False, 64), (False, 32), (True, 4)]
    assert TorchCuda.wants_processes
    assert TorchCuda.times_passes


def test_only_a_gpu_with_events_times_passes_that_are_not_waited_for() -> None:
    with pytest.raises(NotImplementedError):
        find_runtime("cpu").time_pass(list)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="an Apple GPU is here")
def test_an_apple_gpu_is_missing_elsewhere() -> None:
    with pytest.raises(DeviceError, match=r"cannot use device 'mps'.*: try auto"):
        find_runtime("mps")


def test_memory_for_a_batch_is_of_its_shape() -> None:
    pixels = find_runtime("cpu").allocate((2, 5, 4, 3))
    assert (pixels.shape, str(pixels.dtype)) == ((2, 5, 4, 3), "uint8")


@pytest.mark.cuda
def test_the_gpu_is_named() -> None:
    assert find_runtime("auto").device == find_runtime("cuda").device == "cuda:0"
    assert torch.cuda.get_device_name(torch.device("cuda:0")) in find_runtime("cuda").description
