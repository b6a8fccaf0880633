"""How much memory there is, and the most that a piece of work took."""

import re
import resource
import sys
from pathlib import Path

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
MACHINE = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")
CONTAINERS = (  # limit, use, and details of it, in the two generations of Linux's control groups
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
CACHE = re.compile(r"^(?:in)?active_file (\d+)$", re.MULTILINE)  # given back when asked for

RESET_PEAK = "5"  # says proc(5): the peak resident set becomes the present one


def forget_peak(device: torch.device) -> None:
    """Begin anew; where the system cannot, the peak stays that of the whole process."""
    if device.type == "cuda":  # cuda only
        torch.cuda.empty_cache()  # what the row before has left
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return


def peak_bytes(device: torch.device) -> int:
    """Bytes on the device at the worst moment since; of the process, on the CPU."""
    if device.type == "cuda":  # cuda only
        return torch.cuda.max_memory_allocated(device)
    try:
        return kilobytes(STATUS, "VmHWM")
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def room(device: torch.device) -> int | None:
    """Bytes that work may take: of a GPU all it has, of the machine what is free.

    None where nobody can tell. To ask for more than the machine has does not fail on Linux: the
    kernel ends the process once the memory is used.
    """
    if device.type == "cuda":  # cuda only
        return torch.cuda.mem_get_info(device)[1]
    try:
        free = kilobytes(MACHINE, "MemAvailable")
    except (OSError, StopIteration):
        return None
    return min([free, *room_in_containers()])


def room_in_containers() -> list[int]:
    """Bytes that each control group leaves."""
    found = []
    for names in CONTAINERS:
        try:
            limit, used, details = ((GROUPS / name).read_text() for name in names)
            found.append(int(limit) - int(used) + sum(map(int, CACHE.findall(details))))
        except (OSError, ValueError):  # no such group, or no limit, which is the word max
            continue
    return found


def kilobytes(file: Path, name: str) -> int:
    """The bytes that a line of a file in /proc states in kB."""
    line = next(line for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
