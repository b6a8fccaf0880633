"""Time ``predict`` beside what people would use in its place: same photographs, same checkpoint.

Run by hand on a machine that does nothing else, with the ``bench`` extra:

    python tests/benchmarks/peers.py PHOTOS --checkpoint resnet18=FILE

Each contender lives in a process of its own, is asked for few images and for many in turn with all
the others, round after round, and its speed is the slope between the two: what it takes to begin
is left out, and told on its own (from nothing to the first label). Ratios are taken round by round.
At the end stands what int8 and the other runtimes have to reach, and what a whole process takes for
one photograph with a network file in place of a checkpoint. A model without a checkpoint has random
weights: the same work, and labels that mean nothing.
The roofline is the best forward pass and the decoder alone, on the same core one after the other;
"others" is the same of the forward passes that are not ours, and "its own" of the very network that
a contender of ours runs: what that leaves is lost between the two.
"""

import multiprocessing as mp
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

Label = Callable[[Sequence[str]], list[int]]
CORES = 2  # of the machine that the figures in README are of; -j says otherwise


class Task(NamedTuple):
    """What a contender is given before the clock starts."""

    folder: Path  # of links to the photographs, one an image
    checkpoint: Path
    model: str
    workers: int


def imported(name: str) -> Any:
    """A library of the ``bench`` extra, which the checks of types need not have."""
    return import_module(name)


def tutorial(task: Task) -> Label:
    """Pillow, torchvision's transforms, the eager network, one image at a time, all cores."""
    import torch
    from torchvision.models import get_model

    import plain

    torch.set_num_threads(task.workers)
    network = get_model(task.model, weights=None)
    network.load_state_dict(torch.load(task.checkpoint, weights_only=True))
    network.eval()

    def run(paths: Sequence[str]) -> list[int]:
        return [int(row.argmax()) for row in plain.probabilities(network, map(Path, paths))]

    return run


class Ours(NamedTuple):
    """How our network runs."""

    precision: str
    compiled: bool = False
    runtime: str = "torch"

    def load(self, task: Task) -> Any:
        """A classifier, calibrated on the photographs where it is int8."""
        from resnet_cli import Classifier
        from resnet_cli.run.calibrate import calibrate_classifier
        from resnet_cli.sources import find_inputs

        classifier = Classifier.load(
            task.checkpoint,
            device="cpu",
            runtime=self.runtime,
            precision=self.precision,
            compile=self.compiled,
        )
        return calibrate_classifier(classifier, find_inputs([str(task.folder)]))[0]


def resnet_cli(ours: Ours) -> Callable[[Task], Label]:
    """Ours."""

    def prepare(task: Task) -> Label:
        classifier = ours.load(task)

        def run(paths: Sequence[str]) -> list[int]:
            rows = classifier.predict(list(paths), topk=1, workers=task.workers)
            return [row.index if row.index is not None else -1 for row in rows]

        return run

    return prepare


def timm(precision: str) -> Callable[[Task], Label]:
    """timm's loader and network as its ``inference.py`` puts them together, batches of 32."""

    def prepare(task: Task) -> Label:
        import torch

        library, data = imported("timm"), imported("timm.data")
        torch.set_num_threads(task.workers)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        layout = torch.channels_last if precision == "bf16" else torch.contiguous_format
        network = library.create_model(task.model, checkpoint_path=str(task.checkpoint))
        network = network.eval().to(dtype).to(memory_format=layout)
        config = data.resolve_data_config(
            {"crop_pct": 224 / 256, "interpolation": "bilinear"}, model=network
        )

        def run(paths: Sequence[str]) -> list[int]:
            dataset = data.ImageDataset(str(task.folder))
            dataset.reader.samples = [(path, 0) for path in paths]
            loader = data.create_loader(
                dataset,
                batch_size=32,
                num_workers=task.workers,
                device=torch.device("cpu"),
                img_dtype=dtype,
                use_prefetcher=True,
                **config,
            )
            labels: list[int] = []
            with torch.inference_mode():
                for images, _ in loader:
                    output = network(images.to(memory_format=layout))
                    labels += output.softmax(-1).topk(1).indices[:, 0].tolist()
            return labels

        return run

    return prepare


def transformers(task: Task) -> Label:
    """The image-classification pipeline, batches of 8; with random weights, for the same work."""
    import torch

    library = imported("transformers")
    torch.set_num_threads(task.workers)
    depths, widths, kind = HF_SIZES[task.model]
    config = library.ResNetConfig(
        depths=depths, hidden_sizes=widths, layer_type=kind, num_labels=1000, embedding_size=64
    )
    processor = library.BitImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        resample=2,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    pipeline = library.ImageClassificationPipeline(
        model=library.ResNetForImageClassification(config).eval(),
        image_processor=processor,
        device=torch.device("cpu"),
    )

    def run(paths: Sequence[str]) -> list[int]:
        answers = pipeline(list(paths), batch_size=8, top_k=1)
        return [0 for _ in answers]  # random weights: there is no label to compare

    return run


SIZES = {"resnet18": (48, 208), "resnet50": (16, 64)}
"""Models: images of the short and of the long run."""

HF_SIZES = {
    "resnet18": ([2, 2, 2, 2], [64, 128, 256, 512], "basic"),
    "resnet50": ([3, 4, 6, 3], [256, 512, 1024, 2048], "bottleneck"),
}


def onnx_file(task: Task) -> Path:
    """The network as ONNX, of batches of 8 at most, made once."""
    import torch
    from torchvision.models import get_model

    file = task.folder / f"{task.model}.onnx"
    if not file.exists():
        network = get_model(task.model, weights=None)
        network.load_state_dict(torch.load(task.checkpoint, weights_only=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                network.eval(),
                (torch.zeros(8, 3, 224, 224),),
                str(file),
                input_names=["images"],
                dynamic_axes={"images": {0: "batch"}},
                dynamo=False,
            )
    return file


def stream_of(task: Task, infer: Callable[[Any], Any]) -> Label:
    """Feed another runtime pixels [N, H, W, C] by our decoder, one stream a core, batches of 8."""
    from resnet_cli.images import Decoder
    from resnet_cli.pipeline import cut_chunks, map_ordered
    from resnet_cli.pipeline.batches import Loader
    from resnet_cli.preprocess import Preprocess
    from resnet_cli.records import Item
    from resnet_cli.system import one_thread_each

    load = Loader(Decoder(), Preprocess(), channels=3)

    def work(items: Sequence[Item]) -> list[int]:
        logits = infer(load(items).pixels)
        return [int(index) for index in logits.argmax(axis=1)]

    def run(paths: Sequence[str]) -> list[int]:
        with one_thread_each:
            chunks = map_ordered(cut_chunks(map(Item, paths), 8), work, workers=task.workers)
            return [label for labels in chunks for label in labels]

    return run


def onnx_runtime(task: Task) -> Label:
    """ONNX Runtime, one intra-op thread a stream."""
    return stream_of(task, onnx_session(task))


def onnx_session(task: Task) -> Callable[[Any], Any]:
    """A function that maps pixels to logits by ONNX Runtime; streams may share it."""
    import numpy as np

    from resnet_cli.preprocess import Preprocess

    preprocess = Preprocess()
    onnxruntime = imported("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(onnx_file(task)), options, providers=["CPUExecutionProvider"]
    )

    def infer(pixels: Any) -> Any:
        images = np.ascontiguousarray(preprocess.normalise(pixels).transpose(0, 3, 1, 2))
        return session.run(None, {"images": images})[0]

    return infer


def openvino(precision: str) -> Callable[[Task], Label]:
    """OpenVINO, a stream a core."""

    def prepare(task: Task) -> Label:
        return stream_of(task, openvino_session(task, precision))

    return prepare


def openvino_session(task: Task, precision: str) -> Callable[[Any], Any]:
    """A function that maps pixels to logits by OpenVINO; each thread has a request of its own.

    The normalisation is part of the network, as OpenVINO's own guides have it.
    """
    from threading import local

    from resnet_cli.preprocess import Preprocess

    library = imported("openvino")
    core = library.Core()
    steps = imported("openvino.preprocess").PrePostProcessor(core.read_model(onnx_file(task)))
    means, stds = (
        [255 * one for one in numbers] for numbers in (Preprocess().mean, Preprocess().std)
    )
    given = steps.input()
    given.tensor().set_element_type(library.Type.u8).set_layout(library.Layout("NHWC"))
    given.model().set_layout(library.Layout("NCHW"))
    given.preprocess().convert_element_type(library.Type.f32).mean(means).scale(stds)
    compiled = core.compile_model(
        steps.build(),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": task.workers,
            "NUM_STREAMS": task.workers,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        },
    )
    mine = local()

    def infer(pixels: Any) -> Any:
        if not hasattr(mine, "request"):
            mine.request = compiled.create_infer_request()
        return mine.request.infer({0: pixels}, share_inputs=True)[0]

    return infer


def decoder_alone(task: Task) -> Label:
    """Our decoder and resize, and nothing else."""
    from resnet_cli.images import Decoder
    from resnet_cli.pipeline import cut_chunks, map_ordered
    from resnet_cli.pipeline.batches import Loader
    from resnet_cli.preprocess import Preprocess
    from resnet_cli.records import Item
    from resnet_cli.system import one_thread_each

    load = Loader(Decoder(), Preprocess(), channels=3)

    def run(paths: Sequence[str]) -> list[int]:
        with one_thread_each:
            batches = map_ordered(cut_chunks(map(Item, paths), 8), load, workers=task.workers)
            return [0 for batch in batches for _ in batch.samples]

    return run


def forward_alone(infer_of: Callable[[Task], Callable[[Any], Any]]) -> Callable[[Task], Label]:
    """A network on one batch of 8 in memory, over and over, one stream a core."""

    def prepare(task: Task) -> Label:
        from resnet_cli.pipeline import cut_chunks, map_ordered
        from resnet_cli.records import Item
        from resnet_cli.system import one_thread_each

        infer = infer_of(task)

        def run(paths: Sequence[str]) -> list[int]:
            with one_thread_each:
                chunks = cut_chunks(map(Item, paths), 8)
                passes = map_ordered(chunks, lambda _: infer(None), workers=task.workers)
                return [0 for _ in passes for _ in range(8)][: len(paths)]

        return run

    return prepare


def our_network(ours: Ours) -> Callable[[Task], Callable[[Any], Any]]:
    """Our network alone."""

    def prepare(task: Task) -> Callable[[Any], Any]:
        import numpy as np

        run = ours.load(task).session.repeat(np.zeros((8, 224, 224, 3), np.uint8), 1)
        return lambda _: run()

    return prepare


def other_network(
    session_of: Callable[..., Callable[[Any], Any]], *settings: str
) -> Callable[[Task], Callable[[Any], Any]]:
    """The network alone in another runtime."""

    def prepare(task: Task) -> Callable[[Any], Any]:
        import numpy as np

        infer = session_of(task, *settings)
        pixels = np.zeros((8, 224, 224, 3), np.uint8)
        return lambda _: infer(pixels)

    return prepare


OURS = {
    "fp32": Ours("fp32"),
    "fp32 --compile": Ours("fp32", compiled=True),
    "fp32 by openvino": Ours("fp32", runtime="openvino"),
    "fp32 by onnxruntime": Ours("fp32", runtime="onnxruntime"),
    "bf16": Ours("bf16"),
    "bf16 --compile": Ours("bf16", compiled=True),
    "bf16 by openvino": Ours("bf16", runtime="openvino"),
    "int8": Ours("int8", runtime="openvino"),
}

CONTENDERS: dict[str, Callable[[Task], Label]] = {
    "tutorial loop": tutorial,
    "timm fp32": timm("fp32"),
    "timm bf16 channels-last": timm("bf16"),
    "transformers pipeline": transformers,
    "ONNX Runtime fp32, our decoder": onnx_runtime,
    "OpenVINO fp32, our decoder": openvino("fp32"),
    "OpenVINO bf16, our decoder": openvino("bf16"),
    **{f"predict {name}": resnet_cli(ours) for name, ours in OURS.items()},
    "decoder alone": decoder_alone,
    **{f"forward alone: ours {name}": forward_alone(our_network(o)) for name, o in OURS.items()},
    "forward alone: ONNX Runtime fp32": forward_alone(other_network(onnx_session)),
    "forward alone: OpenVINO fp32": forward_alone(other_network(openvino_session, "fp32")),
    "forward alone: OpenVINO bf16": forward_alone(other_network(openvino_session, "bf16")),
}

# fmt: off
BASES = {  # what each of ours is held against
    "fp32": (
        "tutorial loop", "timm fp32", "ONNX Runtime fp32, our decoder",
        "OpenVINO fp32, our decoder", "roofline fp32", "roofline fp32, others",
    ),
    "bf16": (
        "tutorial loop", "timm bf16 channels-last", "OpenVINO bf16, our decoder", "roofline bf16",
        "roofline bf16, others",
    ),
    "int8": ("tutorial loop", "timm bf16 channels-last", "predict fp32", "predict bf16"),
}
# fmt: on

GOALS = (  # of ours, what it is held against, and the least ratio
    ("predict int8", "predict fp32", 2.5),
    ("predict int8", "tutorial loop", 5.0),
    ("predict int8", "timm bf16 channels-last", 2.2),
    ("predict int8", "roofline int8, its own", 0.92),
    ("predict bf16 by openvino", "OpenVINO bf16, our decoder", 0.97),
)

LONGEST_START, LARGEST_START = 1.0, 0.35  # seconds for one photograph; and of what a .pth takes


def serve(name: str, task: Task, pipe: Connection) -> None:
    """Be one contender: prepare, then label so many images as often as asked."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    paths = sorted(str(path) for path in task.folder.glob("*.jpg"))
    label = CONTENDERS[name](task)
    label(paths[:1])
    pipe.send("ready")
    with suppress(EOFError):
        while True:
            count = pipe.recv()
            begun = perf_counter()
            labels = label(paths[:count])
            pipe.send((perf_counter() - begun, labels))


class Contender:
    """The parent's end of a process."""

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        begun = perf_counter()
        self.process = context.Process(target=serve, args=(name, task, theirs))
        self.process.start()
        theirs.close()
        self.pipe.recv()
        self.start_s = perf_counter() - begun
        self.rates: list[float] = []
        self.labels: list[int] = []

    def time(self, count: int) -> float:
        """Seconds for so many images."""
        self.pipe.send(count)
        seconds, self.labels = self.pipe.recv()
        return float(seconds)

    def round(self, few: int, many: int) -> None:
        """One slope."""
        short, long = self.time(few), self.time(many)
        self.rates.append((many - few) / (long - short))


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, type=click.Choice([*SIZES]), default=[*SIZES])
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="MODEL=FILE")
@click.option("--rounds", default=5, help="Rounds, after one that is not counted.")
@click.option("--few", type=int, help="Images of the short run, in place of the usual number.")
@click.option("--many", type=int, help="Images of the long run, in place of the usual number.")
@click.option("-j", "--workers", default=CORES, help="Cores.")
@click.option("--busy", default=0, help="Other processes that compute all the while.")
@click.option("--only", multiple=True, help="Names (or parts of them) of contenders; all if none.")
def main(
    photos: Path,
    models: tuple[str, ...],
    checkpoints: tuple[str, ...],
    rounds: int,
    few: int | None,
    many: int | None,
    workers: int,
    busy: int,
    only: tuple[str, ...],
) -> None:
    """Print images per second of each contender, and the ratios that matter, for each model."""
    files = dict(one.split("=", 1) for one in checkpoints)
    for model in models:
        usual_few, usual_many = SIZES[model]
        with TemporaryDirectory() as folder, others(busy):
            os.environ["RESNET_CLI_CACHE"] = str(Path(folder, "cache"))  # begins are those without
            file = Path(files[model]) if model in files else random_weights(model, Path(folder))
            task = Task(Path(folder, "photos"), file.resolve(), model, workers)
            link_photos(photos, task.folder, many or usual_many)
            click.echo(f"\n{model}")
            names = [name for name in CONTENDERS if not only or any(part in name for part in only)]
            contenders = [started(name, task) for name in names]
            starts = Starts(task)
            for number in range(rounds + 1):
                for contender in contenders:
                    contender.round(few or usual_few, many or usual_many)
                starts.round()
                click.echo(f"round {number} of {rounds} done", err=True)
            for contender in contenders:
                contender.pipe.close()
                contender.process.join()
            report(contenders, starts)


def random_weights(model: str, folder: Path) -> Path:
    """Save a model without training."""
    import torch
    from torchvision.models import get_model

    torch.manual_seed(0)
    path = folder / f"{model}.pth"
    torch.save(get_model(model, weights=None).state_dict(), path)
    return path


def link_photos(photos: Path, folder: Path, count: int) -> None:
    """Fill a folder with links to photographs, again and again until there are enough."""
    from resnet_cli.sources import find_inputs

    folder.mkdir()
    paths = islice(cycle([item.path for item in find_inputs([str(photos)]).known]), count)
    for number, path in enumerate(paths):
        (folder / f"{number:06}.jpg").symlink_to(Path(path).resolve())


class Starts:
    """Whole processes that classify one photograph: with a checkpoint, and with a network file."""

    def __init__(self, task: Task) -> None:
        from resnet_cli import Classifier

        self.photo = min(task.folder.glob("*.jpg"))
        converted = Classifier.load(task.checkpoint, device="cpu", runtime="openvino").graph
        assert converted is not None
        self.files = {"with the checkpoint": task.checkpoint, "with a .xml": converted.path}
        self.seconds: dict[str, list[float]] = {name: [] for name in self.files}

    def round(self) -> None:
        """One process each."""
        for name, file in self.files.items():
            begun = perf_counter()
            words = [
                sys.executable,
                "-m",
                "resnet_cli",
                "predict",
                str(self.photo),
                "-c",
                str(file),
            ]
            subprocess.run(words, check=True, capture_output=True)
            self.seconds[name].append(perf_counter() - begun)

    def report(self) -> None:
        """Print the medians without the first round, and their ratio."""
        without, with_file = (values[1:] for values in self.seconds.values())
        for name, values in self.seconds.items():
            spread = f"({min(values[1:]):.2f}, {max(values[1:]):.2f})"
            click.echo(f"one photograph {name:23}  {median(values[1:]):8.2f} s  {spread}")
        ratio = median(one / other for one, other in zip(with_file, without, strict=True))
        reached = median(with_file) <= LONGEST_START and ratio <= LARGEST_START
        click.echo(
            f"{verdict(reached)}: {median(with_file):.2f} s of at most {LONGEST_START}, and "
            f"{ratio:.2f} of at most {LARGEST_START} of what the checkpoint takes"
        )


@contextmanager
def others(count: int) -> Iterator[None]:
    """Let other processes compute meanwhile."""
    processes = [mp.get_context("spawn").Process(target=compute, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    yield
    for process in processes:
        process.kill()


def compute() -> None:
    """Keep a core busy."""
    while True:
        pass


def started(name: str, task: Task) -> Contender:
    """Start one contender, and say so."""
    contender = Contender(name, task)
    click.echo(f"{name}: first label after {contender.start_s:.1f} s", err=True)
    return contender


def report(contenders: Sequence[Contender], starts: Starts) -> None:
    """Print speeds, then ratios, then what is to be reached."""
    rates = {contender.name: contender.rates[1:] for contender in contenders}
    rates |= rooflines(rates)
    begins = {contender.name: f"{contender.start_s:.1f}" for contender in contenders}
    click.echo(f"{'':38}  images/s  (least, most)    start s")
    for name, values in rates.items():
        spread = f"({min(values):.1f}, {max(values):.1f})"
        click.echo(f"{name:38}  {median(values):8.1f}  {spread:16} {begins.get(name, ''):>6}")
    click.echo()
    for name in rates:
        if name.startswith("predict "):
            compare(name, rates)
    agree(contenders)
    click.echo()
    for ours, base, least in GOALS:
        if ours in rates and base in rates:
            ratio = median(ratios_of(rates[ours], rates[base]))
            click.echo(
                f"{verdict(ratio >= least)}: {ratio:.2f} of at least {least}: {ours} against {base}"
            )
    starts.report()


def verdict(reached: bool) -> str:
    """Say whether a goal is reached."""
    return "reached" if reached else "MISSED "


def ratios_of(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratios, round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def rooflines(rates: dict[str, list[float]]) -> dict[str, list[float]]:
    """Every roofline that there are rates for."""
    passes = {name: values for name, values in rates.items() if name.startswith("forward")}
    found: dict[str, list[list[float]]] = {}
    for precision in BASES:
        alike = {name: values for name, values in passes.items() if precision in name}
        found[f"roofline {precision}"] = [*alike.values()]
        found[f"roofline {precision}, others"] = [v for n, v in alike.items() if "ours" not in n]
    for name in rates:
        if name.startswith("predict "):
            alone = passes.get(name.replace("predict", "forward alone: ours"))
            found[its_own(name)] = [alone] if alone else []
    lines = {name: roofline(values, rates.get("decoder alone")) for name, values in found.items()}
    return {name: line for name, line in lines.items() if line}


def roofline(passes: Sequence[list[float]], decoder: list[float] | None) -> list[float]:
    """Images/s of the best forward pass and the decoder alone, one after the other on a core."""
    if not passes or not decoder:
        return []
    best = [max(values) for values in zip(*passes, strict=True)]
    return [1 / (1 / network + 1 / files) for network, files in zip(best, decoder, strict=True)]


def its_own(name: str) -> str:
    """The roofline of the network that one of ours runs."""
    return name.replace("predict", "roofline") + ", its own"


def compare(name: str, rates: dict[str, list[float]]) -> None:
    """Print the ratios of one of ours, round by round."""
    precision = name.split()[1]
    for base in (*BASES[precision], its_own(name)):
        if base in rates:
            ratios = ratios_of(rates[name], rates[base])
            spread = f"({min(ratios):.2f}, {max(ratios):.2f})"
            click.echo(f"{name:24} against {base:32} {median(ratios):5.2f}  {spread}")


def agree(contenders: Sequence[Contender]) -> None:
    """Print how many labels differ from those of the tutorial loop."""
    by_name = {contender.name: contender.labels for contender in contenders}
    expected = by_name.get("tutorial loop")
    for name, labels in by_name.items():
        if expected and "alone" not in name and not name.startswith("transformers"):
            flips = sum(a != b for a, b in zip(expected, labels, strict=True))
            click.echo(f"{flips} of {len(labels)} labels differ: {name}")


if __name__ == "__main__":
    main()
