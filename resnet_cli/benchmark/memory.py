"""The most memory that a piece of work took."""

import resource
import sys
from pathlib import Path

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")

RESET_PEAK = "5"  # says proc(5): the peak resident set becomes the present one


def forget_peak(device: torch.device) -> None:
    """Begin anew; where the system cannot, the peak stays that of the whole process."""
    if device.type == "cuda":  # cuda only
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
        lines = STATUS.read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM"))
        return 1024 * int(peak.split()[1])
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
