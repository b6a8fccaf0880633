import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resnet_cli import devices
from resnet_cli.devices import UNITS, available_cores, device_name, find_device, has_units
from resnet_cli.errors import DeviceError
from resnet_cli.processor import flags

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
    assert told == (not flags().isdisjoint(UNITS[precision]))


def test_fp32_and_other_devices_need_no_units() -> None:
    assert has_units(CPU, "fp32")
    assert has_units(torch.device("mps"), "fp16")


CORES = "from resnet_cli.devices import available_cores; print(available_cores())"


def cores_of_another_process(pin: str = "", **environment: str) -> int:
    given = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    script = f"import os; {pin}; {CORES}" if pin else CORES
    answer = subprocess.check_output([sys.executable, "-c", script], env=given | environment)
    return int(answer)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is of Linux")
def test_affinity_bounds_the_cores() -> None:
    assert cores_of_another_process("os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])") == 1


@pytest.mark.parametrize(("asked", "given"), [("1", 1), ("1,2", 1), ("999", None), ("x", None)])
def test_omp_num_threads_bounds_the_cores(
    asked: str, given: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    everything = available_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert available_cores() == (given or everything)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, [2]),
        ({"cpu.max": "50000 100000\n"}, [1]),
        ({"cpu.max": "max 100000\n"}, []),
        ({"cpu.max": "nonsense\n"}, []),
        ({"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}, [3]),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, []),
        ({}, []),
    ],
)
def test_a_container_bounds_the_cores(
    files: dict[str, str], cores: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(devices, "control_groups", lambda: iter([tmp_path]))
    assert list(devices.quotas()) == cores


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="control groups are of Linux")
def test_all_control_groups_above_the_process_count() -> None:
    groups = list(devices.control_groups())
    assert groups
    assert {group for group in groups if group in {devices.CGROUPS, devices.CGROUPS / "cpu"}}


@pytest.mark.cuda
def test_the_gpu_is_named() -> None:
    assert find_device("auto").type == find_device("cuda").type == "cuda"
    assert torch.cuda.get_device_name(torch.device("cuda:0")) in device_name(torch.device("cuda"))
