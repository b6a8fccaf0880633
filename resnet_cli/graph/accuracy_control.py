"""int8 with a limit to what it costs, by NNCF's accuracy control, in a process of its own.

With OpenVINO that was seen to spoil the memory of its process, which then ended by a segmentation
fault at any later time. So it has a process that does nothing else, and that ends without clearing
anything away once the file is written.
"""

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from signal import Signals
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import OutputError, ProcessError
from resnet_cli.files import naming_output
from resnet_cli.graph import Description, Graph, read_graph
from resnet_cli.graph.quantize import (
    DEFAULTS,
    LIBRARIES,
    Images,
    QuantizeOptions,
    advanced_parameters,
    arguments_for,
    calibration_facts,
    described,
    import_nncf,
    items_of,
    save,
    silent,
)

Score = Callable[[NDArray[np.float32], int], float]
"""Says from the outputs [classes] of an image, and its number, how right they are: 0 to 1."""

JOB, ANSWER, PRINTED = "job.pickle", "answer.pickle", "stderr.txt"
"""Files between the two processes."""

COMMAND = "from resnet_cli.graph.accuracy_control import serve; serve()"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyControl:
    """How much may be lost to int8, and what tells."""

    images: Sequence[Images]  # other than those to calibrate on
    score: Score  # of the outputs for each of them; can be pickled
    max_drop: float  # of the mean score, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the other process does."""

    network: Path
    batches: Sequence[Images]
    path: Path
    control: AccuracyControl
    description: Description
    options: QuantizeOptions


def quantize_with_max_drop(
    graph: Graph,
    batches: Sequence[Images],
    path: Path,
    *,
    control: AccuracyControl,
    description: Description,
    options: QuantizeOptions = DEFAULTS,
) -> Description:
    """Quantise a network, but layers that cost the most until the score drops by no more.

    Args:
        graph: in fp32.
        batches: all images to calibrate on, as for ``quantize_graph``.
        path: of the same format; replaced once all is written.
        control: of what is lost.
        description: of the network; precision and calibration are set here.
        options: how.

    Returns:
        What the file states of itself.

    Raises:
        ExtraError: NNCF is missing.
        OutputError: it cannot be written.
        ProcessError: a signal ended the other process.
    """
    import_nncf()  # or say that it is missing
    plain = replace(description, preprocess={**description.preprocess})  # which can be pickled
    job = Job(
        network=graph.path.absolute(),
        batches=batches,
        path=path.absolute(),
        control=control,
        description=plain,
        options=options,
    )
    beside = path.resolve().parent
    with naming_output(path), TemporaryDirectory(dir=beside, prefix=".resnet-cli-") as folder:
        with Path(folder, JOB).open("wb") as file:
            pickle.dump(job, file)
        return wait_for_job(Path(folder))


def wait_for_job(folder: Path) -> Description:
    """Start the process that does a job, and wait for its answer; an error here ends it.

    It is no fork of this process: a copy of one that computes in threads may hang.

    Raises:
        OutputError: the file cannot be written.
        ProcessError: a signal ended it.
    """
    printed = folder / PRINTED
    with printed.open("wb") as file:
        child = Popen(
            [sys.executable, "-P", "-c", COMMAND, folder],
            stdin=PIPE,  # stays open for as long as this process lives
            stdout=DEVNULL,
            stderr=file,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        )
    with child:
        try:
            status = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
    if status < 0:
        raise ProcessError(describe_end(Signals(-status).name))
    if status:
        raise RuntimeError(printed.read_text(encoding="utf-8", errors="replace"))
    answer: Description | OutputError = pickle.loads((folder / ANSWER).read_bytes())
    if isinstance(answer, OutputError):
        raise answer
    return answer


def describe_end(cause: str) -> str:
    """Say what a signal did."""
    why = ", as when memory runs out" if cause == "SIGKILL" else ""
    return (
        f"cannot limit the drop: the process of NNCF's accuracy control was ended by {cause}{why}: "
        "try it again, or without --max-drop"
    )


def serve() -> None:
    """Do the job in the folder that the command line names. This runs in the other process."""
    Thread(target=end_with_parent, daemon=True).start()
    folder = Path(sys.argv[1])
    job: Job = pickle.loads((folder / JOB).read_bytes())
    answer: Description | OutputError
    try:
        answer = do_job(job)
    except OutputError as error:
        answer = error
    (folder / ANSWER).write_bytes(pickle.dumps(answer))
    os._exit(0)  # before what is spoilt is cleared away


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that was."""
    sys.stdin.read()
    os._exit(1)


def do_job(job: Job) -> Description:
    """Quantise a network, in this process.

    Raises:
        OutputError: it cannot be written.
    """
    nncf, graph, control = import_nncf(), read_graph(job.network), job.control
    library = LIBRARIES[graph.format]
    items = list(items_of(graph, job.batches))
    scored = list(enumerate(items_of(graph, control.images)))

    def validate(model: Any, data: Any) -> tuple[float, list[float]]:
        run = library.runner(model)
        scores = [score_item(run(item), number, control.score) for number, item in data]
        return float(np.mean(scores)), scores

    with silent(nncf):
        quantized = nncf.quantize_with_accuracy_control(
            **arguments_for(nncf, graph, items, job.options),
            validation_dataset=nncf.Dataset(scored, lambda one: library.feed(one[1], graph.input)),
            validation_fn=validate,
            max_drop=control.max_drop,
            advanced_quantization_parameters=advanced_parameters(nncf),
        )
    facts = {
        **calibration_facts(job.options, items),
        "max_drop": control.max_drop,
        "validation_images": sum(len(item) for _, item in scored),
    }
    return save(quantized, graph, job.path, described(job.description, facts))


def score_item(outputs: NDArray[np.float32], number: int, score: Score) -> float:
    """Return the mean score of the images of an item."""
    first = number * len(outputs)
    return float(np.mean([score(one, first + place) for place, one in enumerate(outputs)]))
