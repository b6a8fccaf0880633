"""Pages of the grid in windows, for people who sit in front of the machine."""

from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import get_backend
from matplotlib.backends.registry import backend_registry
from matplotlib.figure import Figure

from resnet_cli.errors import OutputError
from resnet_cli.writers.grid import pages_of
from resnet_cli.writers.options import Options, Write


def check_display() -> None:
    """Make sure that a window can be opened.

    Raises:
        OutputError: there is no display, or nothing that draws windows on it.
    """
    _, framework = backend_registry.resolve_backend(get_backend())
    if framework in (None, "headless"):
        raise OutputError(
            "cannot open a window: there is no display, or no window toolkit that matplotlib "
            "knows: write the pages to a file with --grid FILE"
        )


@contextmanager
def window_writer(options: Options) -> Iterator[Write]:
    """Show each page in a window; closing it lets the run go on."""
    from matplotlib import pyplot

    def show(figure: Figure) -> None:
        pyplot.show(block=True)
        pyplot.close(figure)

    with pages_of(options, show, new_figure=pyplot.figure) as write:
        yield write
