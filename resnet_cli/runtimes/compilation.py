"""The network through ``torch.compile``, as a whole or where it has something to gain."""

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
"""A thread that compiles for the CPU and does not end.

Once the thread that compiled first has ended, torch 2.11 crashes as the next one compiles.
"""


def compile_whole(
    network: Callable[[Tensor], Tensor], options: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    """Compile a network as a whole in its first pass, with the options of its runtime."""
    run: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False, **options)
    return run


def in_kept_thread(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Run a network on CPU images in the thread that compiles, as it would run in this one."""
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def work() -> Tensor:
        torch.set_num_threads(threads)  # each thread has a number of its own, which is compiled in
        with torch.inference_mode(inference):
            return run(images)

    return KEPT.submit(work).result()


class Compiled:
    """A network that is compiled, for one size of batch.

    Every size is a compilation of its own: a smaller batch, such as the last one, is padded.
    """

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        """Take a network that is compiled, as a whole or in parts, in its first pass."""
        self.run = run
        self.size = 0  # of the batches it is compiled for
        self.lock = Lock()

    def __call__(self, images: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes].

        Raises:
            DeviceError: it cannot be compiled here, for want of a C++ compiler for example.
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
            self.size = 0  # the smaller batches that follow are compiled for themselves
            raise

    def padded(self, images: Tensor) -> Tensor:
        """Fill a batch up to the size that was compiled for."""
        missing = self.size - len(images)
        if missing <= 0:  # an out of memory on another thread may have set the size to 0 meanwhile
            return images
        # what inference mode makes is of another kind to the compiler, which would compile anew
        with torch.inference_mode(False):
            return nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing))

    def first(self, images: Tensor) -> Tensor:
        """Compile for this size, and say how long it took."""
        log.info("compiling for batches of %d: a minute the first time, then seconds", len(images))
        begun = perf_counter()
        run = partial(in_kept_thread, self.run) if images.device.type == "cpu" else self.run
        try:
            logits = run(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what torch.compile's own errors derive from
            reason = describe(error)
            if "CxxCompiler" in reason:  # whose own words are of torch's insides
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
