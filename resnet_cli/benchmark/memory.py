"""How much memory there is, and the most that a piece of work took."""

import resource
import sys
from pathlib import Path

import torch

from resnet_cli.system import free_memory, read_kilobytes

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")

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
        return read_kilobytes(STATUS, "VmHWM")
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def room(device: torch.device) -> int | None:
    """Bytes that work may take: of a GPU all it has, of the machine what is free.

    None where the system does not say.
    """
    if device.type == "cuda":  # cuda only
        return torch.cuda.mem_get_info(device)[1]
    return free_memory()
