"""Programs and runtimes that classify the same photographs; ``peers.py`` gives each a process."""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

Label = Callable[[Sequence[str]], list[int]]


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

        classifier = Classifier.load(
            task.checkpoint,
            device="cpu",
            runtime=self.runtime,
            precision=self.precision,
            compile=self.compiled,
        )
        return calibrate_classifier(classifier, task.folder)


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
