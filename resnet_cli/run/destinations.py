"""Where the results of a run go: its files, each with a manifest beside it, grids and a window."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_cli.results import open_writer
from resnet_cli.results.files.manifest import Output
from resnet_cli.results.files.resume import SavedRows
from resnet_cli.results.formats import format_of
from resnet_cli.results.options import Write, WriterOptions
from resnet_cli.results.short_names import names_for
from resnet_cli.sources import Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where the results of a run go."""

    options: WriterOptions
    files: tuple[Path, ...] = ()  # each with its manifest beside it
    grids: tuple[Path, ...] = ()
    show: bool = False  # a grid in a window
    resume: bool = False  # continue after the rows that the files hold

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return every file."""
        return (*self.files, *self.grids)

    @property
    def want_thumbnails(self) -> bool:
        """Return True if anything shows the images."""
        return self.show or any(format_of(path).thumbnails for path in self.paths)

    @property
    def topk(self) -> int:
        """Return the number of classes of an image that any of them wants."""
        options = [self.options, *map(self.options_for, self.files)]
        return max(each.layout.classes for each in options)

    @property
    def resumed(self) -> dict[Path, WriterOptions]:
        """Return the files that this run resumes, each with how it would write it."""
        return {path: self.options_for(path) for path in self.files if self.resume}

    def options_for(self, path: Path) -> WriterOptions:
        """Return how one file is written: a report shows the next best classes too."""
        topk = max(self.options.topk, format_of(path).least_topk)
        return replace(self.options, topk=topk)

    def describing(self, record: Callable[[], Mapping[str, Any]], inputs: Inputs) -> "Destinations":
        """Return a copy whose writers know what made the results, and of which items."""
        paths = None if inputs.total is None else [item.path for item in inputs.known]
        return replace(self, options=replace(self.options, record=record, name=names_for(paths)))

    @contextmanager
    def open(self, saved: Sequence[SavedRows]) -> Iterator[tuple[list[Output], list[Write]]]:
        """Open everything for as long as the block lasts.

        Args:
            saved: the rows of each file that is resumed.

        Yields:
            The files, and what draws grids.
        """
        earlier = saved if self.resume else [None] * len(self.files)
        with ExitStack() as stack:
            outputs = [
                self.open_file(path, one, stack)
                for path, one in zip(self.files, earlier, strict=True)
            ]
            drawings = [stack.enter_context(open_writer(path, self.options)) for path in self.grids]
            if self.show:
                from resnet_cli.results.grid import window_writer

                drawings.append(stack.enter_context(window_writer(self.options)))
            yield outputs, drawings

    def open_file(self, path: Path, saved: SavedRows | None, stack: ExitStack) -> Output:
        """Open one result file."""
        options = self.options_for(path).after(saved)
        write = stack.enter_context(open_writer(path, options))
        return Output(path, saved or SavedRows(), write, options)
