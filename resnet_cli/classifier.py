"""A checkpoint, its preprocessing and a runtime, ready to classify images."""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_cli.checkpoint import open_checkpoint
from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.checkpoint.locate import LoadOptions, locate_checkpoint
from resnet_cli.errors import ImageError, OptionError, SettingError
from resnet_cli.files import sha256_of_files
from resnet_cli.graph import Graph
from resnet_cli.images import DecodeOptions, Decoder
from resnet_cli.pipeline import cut_chunks, stream_results
from resnet_cli.pipeline.batches import Answers, Loader, Wanted
from resnet_cli.pipeline.prefetch import Prefetch
from resnet_cli.pipeline.workers import place_loader
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Batch, Prediction
from resnet_cli.runtimes import (
    QUANTIZED,
    Runtime,
    RuntimeOptions,
    Session,
    SessionOptions,
    find_runtime,
)
from resnet_cli.sources import Inputs
from resnet_cli.sources.in_memory import Source, inputs_of_source
from resnet_cli.system import allow_pixels, available_cores

if TYPE_CHECKING:
    from torchvision.models import ResNet

    from resnet_cli.checkpoint.loading import Checkpoint

log = logging.getLogger("resnet_cli")

IMAGENET_COLOURS = (Preprocess().mean, Preprocess().std)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How images are classified, and what is kept of each.

    Raises:
        OptionError: names a value that cannot be, and what would be right.
    """

    topk: int | None = None  # classes of an image; None keeps 1, or 5 of more than 10
    threshold: float | None = None  # a best probability under it is ``uncertain``
    batch_size: int | None = None  # images in one pass; None chooses for the device
    workers: int | None = None  # CPU threads; None takes all cores
    on_error: str = "skip"  # yields an error row, or ``fail``, which raises after that row
    thumbnails: bool = False  # make a small image for each prediction
    distribution: bool = False  # keep the probabilities of all classes

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("topk", "batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"cannot use {name}={value}: 1 or more")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise OptionError(f"threshold must be a probability, 0 to 1, got {self.threshold}")
        if self.on_error not in ("skip", "fail"):
            raise OptionError(f"cannot use on_error={self.on_error!r}: skip or fail")

    @property
    def threads(self) -> int:
        """Return how many workers there are."""
        return self.workers or available_cores()


Adjust = Callable[[Preprocess], Preprocess]
"""Changes the preprocessing that a checkpoint records."""


@dataclass(frozen=True)
class Classifier:
    """A network that is loaded and ready to classify images."""

    checkpoint: "Checkpoint | ExportedCheckpoint"
    reason: str  # why this checkpoint, in words
    preprocess: Preprocess
    preprocess_source: str  # in words
    session: Session
    decoder: Decoder
    class_names: tuple[str, ...]  # one an index
    precision: str
    compiled: bool
    graph: Graph | None = None  # network file that the session runs
    quantized: str | None = None  # SHA-256 of the weights that were calibrated for this run
    keeps: bool = True  # what is converted or calibrated, in the cache
    url: str = ""  # where the checkpoint was downloaded from, without what is secret

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        *,
        model: str | None = None,
        weights: str | None = None,
        classes: Sequence[str] | str | Path | None = None,
        preprocess: Preprocess | Adjust | None = None,
        runtime: str | None = None,
        device: str = "auto",
        precision: str | None = None,
        compile: bool = False,
        cache: bool = True,
        exact: bool = False,
        upright: bool = True,
        srgb: bool = False,
        background: str | None = None,
        max_pixels: int | None = None,
        bands: Sequence[int] | None = None,
        state_key: str | None = None,
        ema: bool = True,
        dilated: bool = False,
        trusted: bool = False,
        progress: bool = False,
    ) -> "Classifier":
        """Load a checkpoint and make it ready to run.

        Args:
            checkpoint: file or its URL; None takes the one in ``./checkpoints``, else torchvision's
                weights.
            model: torchvision's name of the architecture; None reads it off the checkpoint.
            weights: torchvision's weights by name, such as ``IMAGENET1K_V2``.
            classes: class names in the order of the outputs, or a .txt, .json or .csv file, or the
                URL of one.
            preprocess: in place of what the checkpoint records, or a function that changes it.
            runtime: ``torch``, ``openvino`` or ``onnxruntime``; None is torch, and the own one of
                an exported file.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
            precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``; what the processor would emulate
                is fp32. None is fp32, or int8 of an exported file in int8.
            compile: run through ``torch.compile``.
            cache: keep a network that is converted for a runtime, for the next time.
            exact: decode and resize by Pillow alone, pixel for pixel as torchvision's transforms.
            upright: turn images as their EXIF orientation says.
            srgb: convert images from their own colour profiles, which training leaves out.
            background: colour to lay transparent images over; None drops alpha.
            max_pixels: of an image; a larger one is an error. None is Pillow's limit. A larger
                limit is Pillow's from then on, for the whole process.
            bands: which bands of an image feed the network, from 1, as many as it has input
                channels. None takes red, green and blue, or the first ones.
            state_key: which weights of a file that holds several.
            ema: prefer averaged weights where there are some.
            dilated: layer3 and layer4 of the network dilate instead of striding.
            trusted: run what the checkpoint says where nothing else opens it.
            progress: let a download draw its bar on stderr.

        Raises:
            CheckpointError: it cannot be found or read, or holds no ResNet.
            SettingError: a value that does not fit.
            DeviceError: no such device here.
        """
        return cls.from_options(
            checkpoint,
            weights=weights,
            load=LoadOptions(
                classes=classes,
                model=model,
                state_key=state_key,
                ema=ema,
                dilated=dilated,
                trusted=trusted,
            ),
            decode=DecodeOptions(
                exact=exact,
                upright=upright,
                srgb=srgb,
                background=background,
                max_pixels=max_pixels,
                bands=bands,
            ),
            compute=RuntimeOptions(
                runtime=runtime, device=device, precision=precision, compile=compile, cache=cache
            ),
            preprocess=preprocess,
            progress=progress,
        )

    @classmethod
    def from_options(
        cls,
        checkpoint: str | Path | None,
        *,
        weights: str | None = None,
        load: LoadOptions,
        decode: DecodeOptions,
        compute: RuntimeOptions,
        preprocess: Preprocess | Adjust | None = None,
        progress: bool = False,
    ) -> "Classifier":
        """Load a checkpoint and make it ready to run; what ``load`` does with its arguments."""
        location = locate_checkpoint(
            checkpoint, model=load.model, weights=weights, progress=progress
        )
        if location.published:  # whose model is known
            load = replace(load, model=None)
        return cls.of(
            open_checkpoint(location, load),
            reason=location.reason,
            url=location.url,
            decode=decode,
            compute=compute,
            preprocess=preprocess,
        )

    @classmethod
    def of(
        cls,
        checkpoint: "Checkpoint | ExportedCheckpoint",
        *,
        reason: str,
        url: str = "",
        compute: RuntimeOptions,
        decode: DecodeOptions | None = None,
        preprocess: Preprocess | Adjust | None = None,
    ) -> "Classifier":
        """Make a checkpoint that is loaded ready to run.

        Args:
            checkpoint: loaded.
            reason: why this one, in words.
            url: where it was downloaded from, without what is secret.
            compute: where and how the network runs.
            decode: how files become pixels.
            preprocess: in place of what the checkpoint records, or a function that changes it.

        Raises:
            SettingError: a value that does not fit.
            DeviceError: no such device here.
        """
        graph = checkpoint.graph if isinstance(checkpoint, ExportedCheckpoint) else None
        runtime = find_runtime(compute.device, compute.runtime_for(graph))
        precision = compute.precision_on(runtime, graph.precision if graph else "fp32")
        settings, source = choose_preprocess(preprocess, checkpoint)
        decoder = (decode or DecodeOptions()).decoder(checkpoint.in_channels)
        if graph:  # Pillow alone decodes, so that torch is not needed
            decoder = replace(decoder, exact=True)
        allow_pixels(decoder.max_pixels)
        network = network_for(runtime, checkpoint, settings, compute)
        return cls(
            checkpoint=checkpoint,
            reason=reason,
            preprocess=settings,
            preprocess_source=source,
            session=runtime.load(
                network,
                SessionOptions(
                    preprocess=settings,
                    activation=checkpoint.activation,
                    precision=precision,
                    compiled=compute.compile,
                ),
            ),
            decoder=decoder,
            class_names=outcome_names(checkpoint),
            precision=precision,
            compiled=compute.compile,
            graph=network if isinstance(network, Graph) else None,
            keeps=compute.cache,
            url=url,
        )

    @property
    def needs_calibration(self) -> bool:
        """True while a network that is to run in int8 was not quantised yet."""
        stored = self.graph.precision if self.graph else None
        return self.precision == QUANTIZED != stored

    @property
    def runtime(self) -> Runtime:
        """What computes the network."""
        return self.session.runtime

    def record(self) -> dict[str, Any]:
        """Return what decides the predictions, as the manifest has it."""
        path = self.url or str(self.checkpoint.path)
        return {
            "checkpoint": {"path": path, "sha256": sha256_of_files(*self.checkpoint.files)},
            "state_key": self.checkpoint.state_key,
            "model": self.checkpoint.model,
            "classes": list(self.class_names),
            "classes_source": self.checkpoint.classes.source,
            "multi_label": self.checkpoint.is_multi_label,
            "preprocess": self.preprocess.record(),
            "preprocess_source": self.preprocess_source,
            "exif": "apply" if self.decoder.upright else "ignore",
            "exact": self.decoder.exact,
            "icc": "srgb" if self.decoder.srgb else "ignore",
            "background": self.decoder.background,
            "max_pixels": self.decoder.max_pixels,
            "bands": self.decoder.bands,
            "device": self.runtime.description,
            "precision": self.precision,
            "quantized": self.quantized,
            "compiled": self.compiled,
        }

    def topk(self, k: int | None) -> int:
        """Return how many classes are kept: ``k``, by default 1, or 5 of more than 10."""
        count = len(self.class_names)
        return min(count, k or (5 if count > 10 else 1))

    def predict(
        self,
        source: Source,
        *,
        topk: int | None = None,
        threshold: float | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        on_error: str = "skip",
        thumbnails: bool = False,
        distribution: bool = False,
    ) -> Generator[Prediction]:
        """Classify images as a stream, in input order.

        Images in memory are named ``image-0``, ``image-1`` … by their places among all that is
        given. A list is checked at the call; any other iterable is read as the run goes, as far
        ahead as the workers need. Paths and bytes are decoded by the workers, a Pillow image that
        is not loaded yet as it is taken.

        Args:
            source: a folder, a file, a glob, ``@list.txt``, a Pillow image, the bytes of an image
                file, a uint8 array [H, W, C] with 3 channels (RGB, not BGR), 4 (RGB and alpha) or
                1, an array [H, W], an array of several images [N, H, W, C], or an iterable of any
                of these; or ``Inputs``.
            topk: classes kept for an image, at most the number there are.
            threshold: makes ``decision`` the label, or ``uncertain`` where the best probability is
                under it; None decides nothing.
            batch_size: images in one pass; None chooses for the device and the number of images.
            workers: CPU threads; None takes all cores.
            on_error: ``skip`` yields an error row and continues, ``fail`` raises after that row.
            thumbnails: make a small image for each prediction.
            distribution: keep the probabilities of all classes beside the best ``topk``.

        Yields:
            One prediction for each input, readable or not.

        Raises:
            InputError: nothing to classify.
            SettingError: a value that does not fit, or an array of another type or shape.
            ImageError: an unreadable image, with ``on_error="fail"``.
        """
        options = PredictOptions(
            topk=topk,
            threshold=threshold,
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
            thumbnails=thumbnails,
            distribution=distribution,
        )
        return self.classify(inputs_of_source(source, self.decoder.bands), options)

    def classify(self, inputs: Inputs, options: PredictOptions) -> Generator[Prediction]:
        """Classify items as a stream, in their order; what ``predict`` does.

        Raises:
            ImageError: an unreadable image, with ``on_error="fail"``.
        """
        size = options.batch_size or self.default_batch_size(inputs.total, options.threads)
        wanted = Wanted(self.topk(options.topk), options.threshold, options.distribution)
        loader = self.loader(thumbnails=options.thumbnails)
        rows = self.rows(inputs, loader, wanted, size=size, workers=options.threads)
        return stop_at_error(rows) if options.on_error == "fail" else rows

    def rows(
        self, inputs: Inputs, loader: Loader, wanted: Wanted, *, size: int, workers: int
    ) -> Generator[Prediction]:
        """Classify inputs in batches of ``size``."""
        runtime = self.runtime
        fetched = Prefetch(inputs.items, inputs.connections)
        with (
            place_loader(
                loader, runtime=runtime, workers=workers, size=size, total=inputs.total
            ) as load,
            closing(
                stream_results(
                    cut_chunks(fetched, size),
                    load,
                    partial(self.launch, wanted=wanted),
                    workers=workers,
                    on_workers_cores=runtime.on_workers_cores,
                )
            ) as predictions,
            closing(fetched),
        ):
            yield from predictions

    def default_batch_size(self, total: int | None, workers: int) -> int:
        """Return the images in one pass: as many as pay, yet the same work for each worker."""
        largest = self.runtime.batch_size
        if total is None:
            return largest
        rounds = max(1, ceil(total / (largest * workers)))
        return max(1, ceil(total / (rounds * workers)))

    def loader(self, *, thumbnails: bool = False) -> Loader:
        """Return what loads items into batches for this network."""
        return Loader(
            self.decoder,
            self.preprocess,
            channels=self.checkpoint.in_channels,
            allocate=self.runtime.allocate,
            thumbnails=thumbnails,
        )

    def launch(self, batch: Batch, wanted: Wanted) -> Callable[[], list[Prediction]]:
        """Start the network on a batch, and return what waits for the rows of its images."""
        if self.needs_calibration:
            raise SettingError(
                "int8 is calibrated on images before it classifies: use predict_to_files, or "
                "calibrate_classifier"
            )
        kept = len(self.class_names) if wanted.distribution else wanted.topk
        passes = self.session.launch(batch.pixels, kept) if len(batch.pixels) else []
        answers = Answers(self.class_names, self.precision, wanted)
        return lambda: answers.rows(batch, [wait() for wait in passes])


def stop_at_error(rows: Generator[Prediction]) -> Generator[Prediction]:
    """Yield rows up to the first error.

    Raises:
        ImageError: after the row of an image that could not be read.
    """
    with closing(rows):
        for row in rows:
            yield row
            if row.error is not None:
                raise ImageError(f"stopped at {row.item.words}: {row.error}")


def network_for(
    runtime: Runtime,
    checkpoint: "Checkpoint | ExportedCheckpoint",
    preprocess: Preprocess,
    compute: RuntimeOptions,
) -> "ResNet | Graph":
    """Return what a runtime loads: the network of a checkpoint, or a network file made of it."""
    network = checkpoint.network()
    if runtime.suffix is None or isinstance(checkpoint, ExportedCheckpoint):
        return network
    from resnet_cli.conversion import convert_for

    return convert_for(runtime.suffix, checkpoint, preprocess, cache=compute.cache)


def choose_preprocess(
    preprocess: Preprocess | Adjust | None, checkpoint: "Checkpoint | ExportedCheckpoint"
) -> tuple[Preprocess, str]:
    """Return the preprocessing of a run, and where it comes from.

    Raises:
        OptionError: it has not one mean for each input channel of the network.
    """
    recorded, source = checkpoint.preprocess, checkpoint.preprocess_source
    if preprocess is None or isinstance(preprocess, Preprocess):
        wanted = preprocess or recorded
    else:
        wanted = preprocess(recorded)
    if (wanted.mean, wanted.std) in ((recorded.mean, recorded.std), IMAGENET_COLOURS):
        wanted = wanted.with_channels(checkpoint.in_channels)  # not chosen for this network
    if wanted.channels != checkpoint.in_channels:
        raise OptionError(
            f"cannot normalise {checkpoint.in_channels} channels with mean {wanted.mean} and std "
            f"{wanted.std}: one number a channel"
        )
    if isinstance(checkpoint, ExportedCheckpoint):
        checkpoint.check_preprocess(wanted)
    return wanted, source if wanted == recorded else "as given"


def outcome_names(checkpoint: "Checkpoint | ExportedCheckpoint") -> tuple[str, ...]:
    """Return a name for each index that a prediction can have.

    The single output of a sigmoid tells index 1 from index 0; one name is that of index 1.
    """
    names = checkpoint.classes.names
    return (f"not {names[0]}", names[0]) if len(names) == 1 else names
