"""What the process may use of its machine, against files as the system writes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from resnet_cli import system
from resnet_cli.pipeline.memory_budget import default_total
from resnet_cli.runtimes import find_runtime
from resnet_cli.system import available_cores, free_memory

CPU = find_runtime("cpu")
MIB = 1 << 20


def file_system(root: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for what the system says of its memory."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(system, "MEMINFO", root / "meminfo")
    monkeypatch.setattr(system, "CGROUPS_OF_PROCESS", root / "cgroup")
    monkeypatch.setattr(system, "CGROUPS", root / "groups")


MACHINE = {"meminfo": "MemTotal: 9 kB\nMemFree:  1 kB\nMemAvailable:   8388608 kB\n"}


@pytest.mark.parametrize(("files", "mebibytes"), [
    ({}, 8192),
    ({"cgroup": "0::/\n", "groups/memory.max": "max\n", "groups/memory.current": "7\n"}, 8192),
    (  # inside a container, version 2
        {
            "cgroup": "0::/\n",
            "groups/memory.max": str(2048 * MIB),
            "groups/memory.current": str(1500 * MIB),
            "groups/memory.stat": f"anon 9\ninactive_file {1000 * MIB}\nfile 3\n",
        },
        1548,
    ),
    (  # a service, limited above
        {
            "cgroup": "1:name=systemd:/x\n0::/user/service\n",
            "groups/user/memory.max": str(4096 * MIB),
            "groups/user/memory.current": str(96 * MIB),
            "groups/user/memory.stat": "inactive_file 0\n",
            "groups/user/service/memory.max": "max\n",
        },
        4000,
    ),
    (  # version 1
        {
            "cgroup": "5:cpu:/a\n4:memory:/b\n",
            "groups/memory/b/memory.limit_in_bytes": str(1000 * MIB),
            "groups/memory/b/memory.usage_in_bytes": str(500 * MIB),
            "groups/memory/b/memory.stat": f"total_inactive_file {100 * MIB}\n",
        },
        600,
    ),
])  # fmt: skip
def test_free_memory_is_within_the_limits_of_the_container(
    tmp_path: Path, files: dict[str, str], mebibytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_system(tmp_path, MACHINE | files, monkeypatch)

    assert free_memory() == CPU.available_memory() == mebibytes * MIB  # predict's and benchmark's
    assert default_total() == mebibytes * MIB // 2


def test_where_little_is_free_ordinary_photographs_still_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_system(tmp_path, {"meminfo": "MemAvailable: 1000 kB\n"}, monkeypatch)

    assert default_total() == 256 * MIB


def test_a_system_that_says_nothing_has_some_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_system(tmp_path, {}, monkeypatch)

    assert default_total() >= 256 * MIB


CORES = "from resnet_cli.system import available_cores; print(available_cores())"


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
    monkeypatch.setattr(system, "control_groups", lambda _: iter([tmp_path]))
    assert list(system.cpu_quotas()) == cores


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="control groups are of Linux")
def test_all_control_groups_above_the_process_count() -> None:
    groups = list(system.control_groups("cpu"))
    assert groups
    assert {group for group in groups if group in {system.CGROUPS, system.CGROUPS / "cpu"}}


def test_a_system_that_says_nothing_of_its_memory_leaves_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.delattr(os, "sysconf")

    assert free_memory() is None
    assert default_total() == 2 << 30


def test_threads_are_left_alone_where_torch_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    with monkeypatch.context() as without:
        without.delitem(sys.modules, "torch")
        with system.one_thread_each:
            system.use_one_thread()
    assert torch.get_num_threads() == before


def test_pillow_opens_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    system.allow_pixels(1000)  # Pillow refuses twice its limit
    assert Image.MAX_IMAGE_PIXELS == 500
    system.allow_pixels(1001)
    assert Image.MAX_IMAGE_PIXELS == 1001
