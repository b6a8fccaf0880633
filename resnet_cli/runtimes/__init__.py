"""Where the network runs: devices, and the arithmetic that they are quick in."""

import torch

from resnet_cli.errors import DeviceError, DeviceNameError, describe
from resnet_cli.system import cpu_instructions

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
    return not cpu_instructions().isdisjoint(UNITS[precision])
