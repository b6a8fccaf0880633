"""The work of an export: a file is written, run, and compared with its checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from resnet_cli.checkpoint.exported import ExportedCheckpoint
from resnet_cli.classifier import outcome_names
from resnet_cli.export.check import (
    Probabilities,
    compare,
    compute_all,
    plain_network,
    random_pixels,
    require_same,
    run_file,
)
from resnet_cli.export.images import MEASURED, Images, find_items, list_items, load_images
from resnet_cli.export.options import ExportOptions
from resnet_cli.export.quantized import Accuracy, Material, measure_accuracy, quantise_file
from resnet_cli.export.source import (
    describe_again,
    describe_source,
    graph_in_fp32,
    preprocess_of_input,
    write_network,
)
from resnet_cli.graph import Description
from resnet_cli.graph.quantize import import_nncf
from resnet_cli.records import Item, Progress
from resnet_cli.run.calibrate import Agreement, split_items
from resnet_cli.text import amount

if TYPE_CHECKING:
    from resnet_cli.checkpoint.loading import Checkpoint


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of a file that was written."""

    description: Description  # what it states of itself
    agreement: Agreement | None = None  # with the checkpoint in fp32
    compared: str = ""  # what images, in words
    accuracy: Accuracy | None = None
    notes: tuple[str, ...] = ()

    def agreement_record(self) -> dict[str, Any]:
        """Return how the file agrees with the checkpoint in fp32, as it states it."""
        what = self.compared.partition(" of ")[0]  # whose folders stay on this machine
        facts = {} if self.agreement is None else {**asdict(self.agreement), "compared": what}
        return facts | ({} if self.accuracy is None else self.accuracy.record())


class Steps:
    """Counts the images that were loaded or computed."""

    def __init__(self, progress: Progress | None) -> None:
        """Report to a callback, if there is one."""
        self.progress = progress
        self.done = self.total = 0

    def __call__(self, count: int) -> None:
        """Count images."""
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(frozen=True, slots=True)
class Work:
    """A file that is being written and checked."""

    loaded: "Checkpoint | ExportedCheckpoint"
    options: ExportOptions
    path: Path  # for messages
    step: Steps

    def write(self, draft: Path) -> Findings:
        """Write a file in fp32 or fp16, and compare it with the checkpoint.

        Raises:
            OutputError: it is of fp32, and computes something else.
        """
        options = self.options
        description = replace(self.describe(), precision=options.precision)
        checkpoint = cast("Checkpoint", self.loaded)  # network files become int8 alone
        write_network(checkpoint, draft, description=description, batch=options.batch)
        stated = self.state(description)
        if not options.verify:
            return Findings(stated)
        images, what = self.images_to_verify()
        plain = compute_all(plain_network(self.loaded), images.pixels, self.step)
        agreement = compare(plain, self.run(draft, images))
        if options.precision == "fp32":
            require_same(agreement, self.path)
        return self.record(draft, Findings(stated, agreement, what))

    def describe(self) -> Description:
        """Return what the file will state of itself, in fp32."""
        described = describe_source(self.loaded)
        if isinstance(self.loaded, ExportedCheckpoint):
            return described
        return replace(described, input=self.options.input)

    def state(self, description: Description) -> Description:
        """Return a description as the file has it: in the order of the colours that it takes."""
        return replace(description, preprocess=preprocess_of_input(self.loaded).record())

    def images_to_verify(self) -> tuple[Images, str]:
        """Return images to run the file on, at least one, and what they are."""
        options, preprocess = self.options, preprocess_of_input(self.loaded)
        if options.calibration is None:
            self.step.total = 2 * options.verify
            return Images(random_pixels(options.verify, preprocess), None), "random images"
        chosen = list_items(options.calibration)[: options.verify]
        self.step.total = 3 * len(chosen)
        return load_images(chosen, preprocess, self.step), f"images of {options.calibration}"

    def quantise(self, draft: Path) -> Findings:
        """Write a file in int8, and measure it on images that did not calibrate it.

        Raises:
            InputError: no images, or labels that match no class.
            SettingError: there are too few images to limit the drop on.
        """
        options, described = self.options, self.describe()
        import_nncf()  # or say that it is missing, before any work
        items, unknown = find_items(
            options.calibration or "", outcome_names(self.loaded), options.labels
        )
        graph = graph_in_fp32(
            self.loaded, draft.with_stem("fp32"), description=described, batch=options.batch
        )
        material = self.load_material(items)
        description = quantise_file(
            graph,
            draft,
            material,
            description=self.state(described),
            max_drop=options.max_drop,
        )
        measured, plain = material.measured, material.plain
        found = self.run(draft, measured)
        count = amount(len(material.calibrating.pixels), "image")
        notes = [f"int8: calibrated on {count} of {options.calibration}"]
        if unknown:
            notes.append(f"int8: no top-1 before and after: {unknown}")
        findings = Findings(
            description,
            compare(plain, found),
            "images that calibrated it" if material.only else "other images",
            measure_accuracy(measured, plain, found),
            tuple(notes),
        )
        return self.record(draft, findings)

    def record(self, draft: Path, found: Findings) -> Findings:
        """Write into a file how it agrees with the checkpoint.

        Raises:
            OutputError: it cannot be written.
        """
        description = replace(found.description, agreement=found.agreement_record())
        describe_again(self.loaded, draft, description)
        return replace(found, description=description)

    def load_material(self, items: Sequence[Item]) -> Material:
        """Load images to quantise with, and compute those that the file is measured on."""
        preprocess = preprocess_of_input(self.loaded)
        chosen, others = split_items(items, self.options.calibration_images, MEASURED)
        self.step.total = len(chosen) + 3 * len(others)
        calibrating = load_images(chosen, preprocess, self.step)
        measured = load_images(others, preprocess, self.step) if others else calibrating
        plain = compute_all(plain_network(self.loaded), measured.pixels, self.step)
        return Material(calibrating, measured, plain, only=not others)

    def run(self, draft: Path, images: Images) -> Probabilities:
        """Run a file by its own runtime."""
        compute = run_file(draft, self.loaded, self.options.input, self.options.batch)
        return compute_all(compute, images.pixels, self.step)
