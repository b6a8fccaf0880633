"""Run a network through ``torch.compile``, for one batch size."""

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from resnet_cli.errors import DeviceError, describe

log = logging.getLogger("resnet_cli")

KEPT = ThreadPoolExecutor(1)
"""The thread that compiles for the CPU; it never ends.

torch 2.11 crashes if the thread that compiled first has ended when another one compiles.
"""


def compile_whole(
    network: Callable[[Tensor], Tensor], options: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    """Wrap a network, which is compiled as a whole in its first pass.

    Args:
        network: maps images to logits.
        options: of ``torch.compile``, as its runtime states them.
    """
    run: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False, **options)
    return run


def in_kept_thread(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Run a network on CPU images in the thread that compiles, with the settings of this one."""
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def work() -> Tensor:
        torch.set_num_threads(threads)  # a setting of each thread, which is compiled in
        with torch.inference_mode(inference):
            return run(images)

    return KEPT.submit(work).result()


class Compiled:
    """A network that is compiled for one batch size.

    Each size would be a compilation of its own: a smaller batch, such as the last one, is padded.
    """

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        """Take a network that compiles in its first pass, as a whole or in parts."""
        self.run = run
        self.size = 0  # of the batches that it is compiled for
        self.lock = Lock()

    def __call__(self, images: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes].

        Raises:
            DeviceError: it cannot be compiled here, for example without a C++ compiler.
        """
        count = len(images)
        if count > self.size:
            with self.lock:  # the other workers wait for the first to compile
                if count > self.size:
                    logits = self.first(images)
                    self.size = count
                    return logits
        try:
            return self.run(self.padded(images))[:count]
        except torch.OutOfMemoryError:
            self.size = 0  # compile again for the smaller batches that follow
            raise

    def padded(self, images: Tensor) -> Tensor:
        """Pad a batch to the size that was compiled for."""
        missing = self.size - len(images)
        if missing <= 0:  # an out of memory on another thread may have set the size to 0 meanwhile
            return images
        # a tensor made in inference mode differs for the compiler, which would compile again
        with torch.inference_mode(mode=False):
            return nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing))

    def first(self, images: Tensor) -> Tensor:
        """Compile for this size, and log how long it took."""
        log.info("compiling for batches of %d: a minute the first time, then seconds", len(images))
        begun = perf_counter()
        run = partial(in_kept_thread, self.run) if images.device.type == "cpu" else self.run
        try:
            logits = run(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # the base of torch.compile's errors
            reason = describe(error)
            if "CxxCompiler" in reason:  # torch's own message is about its internals
                reason = "no C++ compiler was found, such as g++"
            raise DeviceError(
                f"cannot compile the network ({reason}): leave --compile out"
            ) from error
        log.info(
            "ready for batches of %d after %.0f s: what is compiled is kept in %s",
            len(images),
            perf_counter() - begun,
            os.environ.get("TORCHINDUCTOR_CACHE_DIR", "torch's cache"),
        )
        return logits
