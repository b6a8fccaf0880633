"""Where the network runs: devices, the arithmetic that they are quick in, and the cores at hand."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import torch

from resnet_cli.errors import DeviceError, DeviceNameError, describe
from resnet_cli.processor import instructions

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

BATCH_SIZES = {"cpu": 4, "cuda": 64, "mps": 32}
"""Images in one pass, by type of device, where the user names no number.

On the CPU the activations of a few images stay in the caches. Blocks of over 32 MiB, which sixteen
images have, glibc returns to the kernel every time: clearing those pages anew takes 2 ms of a core
per image.
"""

UNITS = {  # precision: what a processor calls the instructions for it
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}

CGROUPS = Path("/sys/fs/cgroup")


def find_device(name: str) -> torch.device:
    """Resolve ``auto`` or a name such as ``cpu``, ``cuda:1`` or ``mps``, and check that it works.

    Raises:
        DeviceError: no such device here.
        DeviceNameError: no device has this name.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        known = accelerator is not None and accelerator.type in BATCH_SIZES
        return accelerator if accelerator is not None and known else torch.device("cpu")
    if name.partition(":")[0] not in BATCH_SIZES:
        raise DeviceNameError(f"cannot use device {name!r}: one of auto, cpu, cuda, cuda:1, mps")
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("cannot use device 'mps': there is no Apple GPU here: try auto")
    try:
        return torch.empty(0, device=name).device
    except (AssertionError, RuntimeError) as error:  # a CPU-only build asserts
        reason = describe(error).partition(". ")[0][:120]  # torch lists all that it could do
        raise DeviceError(f"cannot use device {name!r} ({reason}): try auto") from error


def device_name(device: torch.device) -> str:
    """The device in words, with the name of the GPU."""
    if device.type == "cuda":  # cuda only
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def has_units(device: torch.device, precision: str) -> bool:
    """Whether a device computes in ``precision`` itself; a processor without emulates it slowly."""
    if device.type != "cpu" or precision not in UNITS:
        return True
    return not instructions().isdisjoint(UNITS[precision])


def available_cores() -> int:
    """CPU cores that this process may use.

    The least of what affinity, a container's share of time and ``OMP_NUM_THREADS`` allow.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    limits = [affinity or 1, *quotas()]
    if asked.isdecimal() and int(asked):
        limits.append(int(asked))
    return min(limits)


def quotas() -> Iterator[int]:
    """Cores' worth of time that control groups leave this process, rounded up."""
    for folder in control_groups():
        try:
            quota, period = share(folder)
        except (OSError, ValueError):  # no limit here, or a kernel that says it otherwise
            continue
        if quota.isdecimal():  # and not "max", or -1
            yield max(1, ceil(int(quota) / int(period)))


def share(folder: Path) -> tuple[str, str]:
    """Microseconds of processor time in each period, and the period, of one control group."""
    together = folder / "cpu.max"  # version 2
    if together.exists():
        quota, period = together.read_text().split()
        return quota, period
    quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return quota.strip(), period.strip()


def control_groups() -> Iterator[Path]:
    """The control groups that bound the processor time of this process, the innermost first."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS  # version 1, or 2
        own = root / path.lstrip("/")
        yield from (up for up in (own, *own.parents) if up.is_relative_to(root))
