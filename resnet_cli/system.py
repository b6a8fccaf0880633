"""What this process may use of its machine, and the settings that hold for the whole process.

Control groups, which bound a process in a container, are known here and nowhere else. So are the
switches of libraries that are global: threads of an operator, TF32, Pillow's limit of pixels. They
are set where a run begins.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from io import FileIO
from math import ceil
from pathlib import Path
from platform import machine, processor
from threading import Event, Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CGROUPS = Path("/sys/fs/cgroup")
CGROUPS_OF_PROCESS = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
CPUINFO = Path("/proc/cpuinfo")
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")

RESET_PEAK = "5"  # proc(5): the peak resident set becomes the present one

MEMORY_FILES = (  # limit, usage, and what of the usage is droppable file cache: versions 2 and 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


class ForgivingFile(FileIO):
    """A file that ignores failed writes, such as stderr on a full disk."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, or report the data as written."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


run_is_ending = Event()
"""Set by a signal that ends the run, for long work that nothing else would stop."""


def available_cores() -> int:
    """Count the CPU cores that this process may use.

    The least that affinity, the CPU quota of a container and ``OMP_NUM_THREADS`` allow.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    limits = [affinity or 1, *cpu_quotas()]
    if asked.isdecimal() and int(asked):
        limits.append(int(asked))
    return min(limits)


def cpu_quotas() -> Iterator[int]:
    """Yield the cores that the CPU quota of each control group is worth, rounded up."""
    for folder in control_groups("cpu"):
        try:
            quota, period = read_cpu_quota(folder)
        except (OSError, ValueError):  # no limit here, or another format of the kernel
            continue
        if quota.isdecimal():  # neither "max" nor -1
            yield max(1, ceil(int(quota) / int(period)))


def read_cpu_quota(folder: Path) -> tuple[str, str]:
    """Read the microseconds of CPU time in each period, and the period, of a control group."""
    both = folder / "cpu.max"  # version 2
    if both.exists():
        quota, period = both.read_text().split()
        return quota, period
    quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return quota.strip(), period.strip()


def free_memory() -> int | None:
    """Return the bytes that this process can still take; None where the system does not say.

    Taking more than the machine has does not fail on Linux: the kernel kills the process once the
    memory is used.
    """
    machine_bytes = next(free_machine_memory(), None)
    if machine_bytes is None:
        return None
    return max(0, min([machine_bytes, *free_group_memory()]))


def free_machine_memory() -> Iterator[int]:
    """Yield the free bytes of the machine, then its total, as far as the system states them."""
    with suppress(OSError, StopIteration, ValueError):
        yield read_kilobytes(MEMINFO, "MemAvailable")
    with suppress(OSError, ValueError, AttributeError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_group_memory() -> Iterator[int]:
    """Yield the bytes that the limit of each control group leaves to this process."""
    for folder in control_groups("memory"):
        for limit, usage, cache in MEMORY_FILES:
            with suppress(OSError, ValueError):  # no such file, or "max"
                left = int((folder / limit).read_text()) - int((folder / usage).read_text())
                statistics = (folder / "memory.stat").read_text().split()
                yield left + int(statistics[statistics.index(cache) + 1])


def reset_peak_memory() -> None:
    """Start measuring the peak here; where the system cannot, it is that of the whole process."""
    with suppress(OSError):
        CLEAR.write_text(RESET_PEAK)


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory since the reset."""
    try:
        return read_kilobytes(STATUS, "VmHWM")
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups of this process, the innermost first.

    The root is always among them: a container sees its own group as the root.

    Args:
        controller: ``cpu`` or ``memory``; in version 1 each has a tree of its own.
    """
    own = {CGROUPS: Path(), CGROUPS / controller: Path()}
    with suppress(OSError):
        for line in CGROUPS_OF_PROCESS.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if not controllers:
                own[CGROUPS] = Path(name.lstrip("/"))
            elif controller in controllers.split(","):
                own[CGROUPS / controller] = Path(name.lstrip("/"))
    for root, group in own.items():
        yield from (root / part for part in (group, *group.parents))


def read_kilobytes(file: Path, name: str) -> int:
    """Return the bytes that a line of a file in ``/proc`` states in kB."""
    line = next(line for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def cpu_instructions() -> set[str]:
    """Return the names of the processor's instruction sets, such as ``avx512_bf16``.

    Without torch, and with releases that have no ``torch.cpu.get_capabilities``, such as 2.11,
    ``/proc/cpuinfo`` tells.
    """
    torch = sys.modules.get("torch")
    tell = getattr(torch.cpu, "get_capabilities", None) if torch is not None else None
    return {name for name, value in tell().items() if value is True} if tell else cpu_flags()


def cpu_flags() -> set[str]:
    """Return the flags of the first processor that Linux lists."""
    lines = read_cpuinfo().splitlines()
    words = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(words.partition(":")[2].split())


def cpu_name() -> str:
    """Return the name of the processor."""
    match = re.search(r"^model name\s*:\s*(.+)$", read_cpuinfo(), re.MULTILINE)
    return match[1] if match else processor() or machine()


def read_cpuinfo() -> str:
    """Read Linux's description of its processors; empty on other systems."""
    try:
        return CPUINFO.read_text()
    except OSError:
        return ""


class OneThreadEach:
    """Gives PyTorch's operators one thread each while any stream runs, and restores them after.

    Workers run beside each other, one a core: a pool of threads inside each would compete with
    them. The number of threads is the process's, however many streams there are.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.streams = 0
        self.before: int | None = None  # threads; None where torch was not loaded

    def __enter__(self) -> None:
        """Note the number of threads when the first stream begins."""
        torch = sys.modules.get("torch")
        with self.lock:
            if self.streams == 0 and torch is not None:
                self.before = torch.get_num_threads()
                torch.set_num_threads(1)
            self.streams += 1

    def __exit__(self, *_: object) -> None:
        """Restore it when the last one ends."""
        torch = sys.modules.get("torch")
        with self.lock:
            self.streams -= 1
            if self.streams == 0 and torch is not None and self.before is not None:
                torch.set_num_threads(self.before)


one_thread_each = OneThreadEach()


def use_one_thread() -> None:
    """Give PyTorch's operators, if they are loaded, one thread when this thread calls them."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def disable_tf32() -> None:  # cuda only
    """Compute fp32 in full on a GPU: TF32, the default of convolutions, keeps 10 bits of 23."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def allow_pixels(count: int) -> None:
    """Let Pillow open images of up to ``count`` pixels; it refuses twice its own limit."""
    from PIL import Image

    if Image.MAX_IMAGE_PIXELS is not None and count > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = count


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed, without importing them."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
