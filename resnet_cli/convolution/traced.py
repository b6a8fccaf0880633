"""Functions of tensors through Inductor, without the guards of ``torch.compile``.

Before each call those guards look for arguments that share memory, and keep notes in one place for
all threads: with several workers they fail now and then, and the function is compiled again until
there is no more compiling. Here a function is traced once for each precision and shape, and runs.
"""

from collections.abc import Callable
from threading import Lock
from typing import Any

from torch import Tensor

from resnet_cli.system import run_is_ending

# in Python's wrapper the other threads would wait, for the interpreter's lock, while one computes
OPTIONS = {"config_patches": {"cpp_wrapper": True}}


def can_trace() -> bool:
    """Whether this torch has what ``Traced`` calls, which is not promised to stay."""
    import torch._inductor

    return hasattr(torch._inductor, "standalone_compile")


class Traced:
    """A function of tensors and of what else decides its result, compiled for each sort of them."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.ready: dict[tuple[object, ...], Callable[..., Tensor]] = {}
        self.lock = Lock()

    def __call__(self, *arguments: Any) -> Tensor:
        """Call the function; besides tensors, arguments are hashable."""
        key = tuple(
            (given.dtype, given.shape, given.stride()) if isinstance(given, Tensor) else given
            for given in arguments
        )
        run = self.ready.get(key) or self.compiled(key, arguments)
        return run(*(given for given in arguments if isinstance(given, Tensor)))

    def compiled(
        self, key: tuple[object, ...], arguments: tuple[Any, ...]
    ) -> Callable[..., Tensor]:
        """Compile the function for such arguments, unless another worker did.

        Raises:
            KeyboardInterrupt: the run is being ended, and there are seconds of compiling left.
        """
        import torch._inductor  # only for those who compile
        from torch.fx.experimental.proxy_tensor import make_fx

        def of_tensors(*tensors: Tensor) -> Tensor:
            rest = iter(tensors)
            return self.function(
                *(next(rest) if isinstance(given, Tensor) else given for given in arguments)
            )

        with self.lock:
            if key not in self.ready:
                if run_is_ending.is_set():
                    raise KeyboardInterrupt
                tensors = [given for given in arguments if isinstance(given, Tensor)]
                graph = make_fx(of_tensors)(*tensors)
                self.ready[key] = torch._inductor.standalone_compile(
                    graph, [*tensors], dynamic_shapes="from_example_inputs", options=OPTIONS
                )
        return self.ready[key]
