"""The images that are taken for another class, a row each, as the run goes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resnet_cli.evaluate import mistake
from resnet_cli.records import Prediction
from resnet_cli.writers.csv import harmless
from resnet_cli.writers.dialect import Dialect, Table

COLUMNS = ("path", "truth", "truth_index", "label", "index", "prob", "truth_prob")

Write = Callable[[Prediction, int], None]


@contextmanager
def mistakes_writer(
    path: Path, names: Sequence[str], *, overwrite: bool, dialect: Dialect
) -> Iterator[Write]:
    """Open a .csv file for the mistakes, in input order.

    Args:
        path: of the file.
        names: class names, one an output.
        overwrite: whether it may be there already.
        dialect: of the table.

    Yields:
        A function that takes a prediction and the index of the true class.
    """
    mode = "w" if overwrite else "x"
    with path.open(mode, encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = Table(dialect)
        file.write(dialect.mark + table.line(COLUMNS))

        def write(prediction: Prediction, truth: int) -> None:
            if prediction.error is not None or prediction.index == truth:
                return
            found = mistake(prediction, truth, names)
            row = {
                "path": found.path,
                "truth": found.truth,
                "truth_index": truth,
                "label": found.label,
                "index": prediction.index,
                "prob": found.prob,
                "truth_prob": found.truth_prob,
            }
            file.write(table.line(harmless(row).values()))
            file.flush()

        yield write
