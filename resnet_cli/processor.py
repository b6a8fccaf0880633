"""What this machine's processor has instructions for."""

from pathlib import Path

import torch


def instructions() -> set[str]:
    """Names of sets of instructions, such as ``avx512_bf16``.

    A release of torch that does not tell (``torch.cpu.get_capabilities`` is newer than 2.11) is
    replaced by ``/proc/cpuinfo``.
    """
    tell = getattr(torch.cpu, "get_capabilities", None)
    return {name for name, value in tell().items() if value is True} if tell else flags()


def flags() -> set[str]:
    """What Linux says that the first processor can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    words = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(words.partition(":")[2].split())
