"""What runtimes have in common that take pixels from, and compute in, the memory of the machine."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from resnet_cli import system
from resnet_cli.records import Pixels
from resnet_cli.runtimes import TimedPass

UNITS: Mapping[str, tuple[str, ...]] = {  # precision: instructions that compute in it
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}


def precisions_with_units() -> frozenset[str]:
    """Return the floating-point precisions that this processor has instructions for."""
    found = system.cpu_instructions()
    return frozenset({"fp32"} | {name for name, units in UNITS.items() if found & set(units)})


class HostRuntime:
    """A runtime on the processor, or behind it."""

    device: str
    suffix: ClassVar[str | None] = None
    on_workers_cores: ClassVar[bool] = True
    batch_size: ClassVar[int]
    wants_processes: ClassVar[bool] = False
    times_passes: ClassVar[bool] = False

    @classmethod
    def is_available(cls) -> bool:
        """Return True; GPUs look for one."""
        return True

    @property
    def hardware(self) -> str:
        """Name of the processor."""
        return system.cpu_name()

    @property
    def description(self) -> str:
        """The device in words."""
        return self.device

    def allocate(self, shape: tuple[int, ...]) -> Pixels:
        """Return uninitialised host memory for a batch."""
        return np.empty(shape, np.uint8)

    def compiling_pays(self, precision: str) -> bool:  # noqa: ARG002 - see ``Runtime``
        """Return False: there is nothing to compile."""
        return False

    def synchronize(self) -> None:
        """Return at once: a pass on the processor is done when it returns."""

    def time_pass(self, run: Callable[[], object]) -> TimedPass:
        """Refuse: only CUDA's events tell the time of a queued pass."""
        raise NotImplementedError(f"{self.device} does not time passes: {run}")

    def reset_peak_memory(self) -> None:
        """Start measuring peak memory from here, where the system can."""
        system.reset_peak_memory()

    def peak_memory(self) -> int:
        """Return the most bytes that this process has used since the reset."""
        return system.peak_memory()

    def available_memory(self) -> int | None:
        """Return the bytes of the machine that are free; None where the system does not say."""
        return system.free_memory()
