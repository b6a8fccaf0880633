"""Where a benchmark ran: what anyone needs to know to believe its figures."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from resnet_cli.system import cpu_name

DRIVER = Path("/proc/driver/nvidia/version")


def environment(device: torch.device, workers: int) -> dict[str, Any]:
    """The machine, the versions, and how the network runs."""
    return {
        "device": device_name(device),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": workers,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "driver": driver(),
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("resnet-cli", "torch", "torchvision")},
        "memory_format": "channels_last",
        "batch_norm": "folded",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name(device: torch.device) -> str:
    """Name of the GPU, or of the processor."""
    if device.type == "cuda":  # cuda only
        return torch.cuda.get_device_name(device)
    return cpu_name()


def driver() -> str | None:
    """Version of NVIDIA's driver; None where there is none."""
    try:
        match = re.search(r"\d+\.\d+(\.\d+)?", DRIVER.read_text())
    except OSError:
        return None
    return match[0] if match else None
