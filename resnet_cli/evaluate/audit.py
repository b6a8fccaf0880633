"""Audit of the preprocessing: would another preprocessing score far better?

A network that receives other pixels than in training loses accuracy without any error. So a sample
of the images is classified with preprocessings that people train with, one change at a time. The
right change makes more images correct, and images that were correct already more confident; on few
images only the second can be told from chance.

A change that is plainly worse on the first images is not tried on the others. Looking early does
not find false improvements: each p is corrected for all changes, including those that were dropped.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_cli.classifier import Classifier
from resnet_cli.errors import OptionError
from resnet_cli.evaluate.dataset import Dataset, open_dataset, sample_places, true_class
from resnet_cli.evaluate.metrics import SMALLEST, Share, mcnemar_test, wilson_share
from resnet_cli.evaluate.order import deal_halves, find_order
from resnet_cli.preprocess import CAFFE, IMAGE_CHANNELS, Preprocess
from resnet_cli.records import Progress
from resnet_cli.runtimes import RuntimeOptions

log = logging.getLogger("resnet_cli")

SURE_OF_GAIN = 0.01  # p above which a gain may be chance
SURE_OF_LOSS = 0.05  # p above which a lower loss may be chance
SURE_OF_HARM = 0.01  # p, for one change at one look, above which a decline may be chance
LOOKS = (20, 40, 60, 100)  # images after which a change that is plainly worse is dropped
LOWER = 0.75  # required ratio of the losses, where the gain alone is not significant

CHANNEL_SCALES = {
    "0 to 1, not normalised": (0.0, 1.0),
    "-1 to 1": (0.5, 0.5),
    "0 to 255, not normalised": (0.0, 1 / 255),
}
"""Common scales of pixels: mean and standard deviation of every channel."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The effect of one change on the sample, compared with the current preprocessing.

    Each p is multiplied by the number of changes tried (Bonferroni).
    """

    name: str
    flags: str  # options that apply the change; empty for the current preprocessing
    top1: Share
    loss: float | None  # mean negative log likelihood; None without images
    flips: int  # images whose predicted class changes
    gained: int  # images that only the change gets right
    lost: int  # images that only the current preprocessing gets right
    gain_p: float  # McNemar's test of the two
    surer: int  # images whose true class becomes more probable
    less_sure: int
    loss_p: float  # sign test of the two
    better: bool  # by a large and significant amount
    dropped: bool = False  # plainly worse on these images, and not tried on the others

    @property
    def plainly_worse(self) -> bool:
        """True if it loses significantly more images than it gains.

        Lower confidence alone proves nothing: on pixels scaled far too large, every prediction is
        confident.
        """
        if self.lost <= self.gained:
            return False
        less_sure = mcnemar_test(self.surer, self.less_sure) if self.surer < self.less_sure else 1.0
        return min(mcnemar_test(self.gained, self.lost), less_sure) < SURE_OF_HARM


@dataclass(frozen=True, slots=True)
class SamplePredictions:
    """Predictions for the readable images of a sample, each field [N]."""

    truths: NDArray[np.int64]
    labels: NDArray[np.int64]
    right: NDArray[np.bool_]
    truth_probs: NDArray[np.float32]  # of the true class

    @property
    def loss(self) -> float | None:
        """Mean negative log likelihood; None without images."""
        if not len(self.truth_probs):
            return None
        return -float(np.log(np.maximum(self.truth_probs, SMALLEST)).mean())


def join_predictions(parts: Sequence[SamplePredictions]) -> SamplePredictions:
    """Concatenate the predictions for several parts of a sample."""
    names = (field.name for field in fields(SamplePredictions))
    return SamplePredictions(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """One change of the preprocessing."""

    name: str
    flags: str  # options of ``predict`` that apply it
    preprocess: Preprocess
    upright: bool


def audit_preprocessing(
    classifier: Classifier,
    data: Dataset | str | Path,
    *,
    images: int = 200,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """Score a sample with the current preprocessing and with common alternatives.

    Args:
        classifier: ready to run, its weights not yet released.
        data: labelled images, or a folder with a folder for each class.
        images: size of the sample, with the same number from each class as far as possible.
        batch_size: images in one pass; None chooses for the device.
        workers: CPU threads; None takes all cores.
        progress: called with the images done so far and their number, over all alternatives.

    Returns:
        One finding per preprocessing, the current one first. Unreadable images are left out.

    Raises:
        InputError: no images, or labels that match no class.
        OptionError: a value that is not possible.
    """
    if images < 1:
        raise OptionError(f"images must be at least 1, got {images}")
    dataset, names = open_dataset(data, classifier.class_names), classifier.class_names
    sample = dataset.select(sample_places(dataset.truths, images))
    tried = list_trials(classifier)
    counter = StepCounter((1 + len(tried)) * len(sample.items), progress)
    runner = TrialRunner(
        classifier, sample, plan_looks(sample.truths), counter, batch_size, workers
    )
    now = runner.classify_all(classifier)
    whole = join_predictions(now)
    order = find_order(deal_halves(whole.truths.tolist(), whole.labels.tolist(), len(names)), names)
    if order is not None:  # else changes that ruin a network that is always wrong look like a fix
        log.warning("the class names seem to be in the wrong order: the audit takes the better one")
        counter.total += len(sample.items)
        truths = [order.classes.index(names[truth]) for truth in sample.truths]
        runner = replace(runner, sample=sample.relabel(truths))
        now = runner.classify_all(classifier)
    current = Trial("as it is", "", classifier.preprocess, classifier.decoder.upright)
    base = join_predictions(now)
    baseline = compare_trial(current, base, base, tried=len(tried))
    return [baseline, *(runner.run(trial, now, tried=len(tried)) for trial in tried)]


@dataclass(slots=True)
class StepCounter:
    """Counts images over several passes, for a progress callback."""

    total: int
    progress: Progress | None
    done: int = 0

    def add(self, count: int = 1) -> None:
        """Count images."""
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """A sample on which changes are tried part by part, until they are plainly worse."""

    classifier: Classifier
    sample: Dataset
    parts: Sequence[Sequence[int]]  # places in the sample
    counter: StepCounter
    batch_size: int | None
    workers: int | None

    def run(self, trial: Trial, now: Sequence[SamplePredictions], *, tried: int) -> Finding:
        """Try one change.

        Args:
            trial: the change.
            now: predictions with the current preprocessing, one entry per part.
            tried: number of changes that are tried in all.
        """
        classifier = with_trial(self.classifier, trial)
        then: list[SamplePredictions] = []
        for part in self.parts:
            then.append(self.classify(classifier, part))
            found = compare_trial(
                trial, join_predictions(now[: len(then)]), join_predictions(then), tried=tried
            )
            left = sum(map(len, self.parts[len(then) :]))
            if left and found.plainly_worse:
                self.counter.add(left)
                return replace(found, dropped=True)
        return found

    def classify_all(self, classifier: Classifier) -> list[SamplePredictions]:
        """Classify the whole sample, part by part."""
        return [self.classify(classifier, part) for part in self.parts]

    def classify(self, classifier: Classifier, places: Sequence[int]) -> SamplePredictions:
        """Classify one part of the sample."""
        part = self.sample.select(places)
        rows = classifier.predict(
            part.inputs,
            topk=1,
            batch_size=self.batch_size,
            workers=self.workers,
            distribution=True,
        )
        answers = []
        for row in rows:
            if row.distribution is not None:
                truth = true_class(row.item)
                answers.append((truth, row.index, float(row.distribution[truth])))
            self.counter.add()
        return collect_predictions(answers)


def collect_predictions(answers: Sequence[tuple[int, int | None, float]]) -> SamplePredictions:
    """Turn the true class, predicted class and true class's probability of images into arrays."""
    truths = np.array([truth for truth, _, _ in answers], np.int64)
    labels = np.array([label for _, label, _ in answers], np.int64)
    probs = np.array([prob for _, _, prob in answers], np.float32)
    return SamplePredictions(truths, labels, truths == labels, probs)


def plan_looks(truths: Sequence[int]) -> list[list[int]]:
    """Divide a sample into the images up to each look, balanced over classes, and the rest."""
    parts: list[list[int]] = []
    for size in (*LOOKS, len(truths)):
        earlier = set(chain.from_iterable(parts))
        parts.append([place for place in sample_places(truths, size) if place not in earlier])
    return [part for part in parts if part] or [[]]


def list_trials(classifier: Classifier) -> list[Trial]:
    """List the changes that differ from the current preprocessing."""
    now, upright = classifier.preprocess, classifier.decoder.upright
    other = "bicubic" if now.interpolation == "bilinear" else "bilinear"
    exif = "ignore" if upright else "apply"
    tried = [
        *size_trials(now, upright=upright),
        Trial(other, f"--interpolation {other}", replace(now, interpolation=other), upright),
        *scale_trials(now, upright=upright),
        *(color_trials(now, upright=upright) if now.channels == 3 else []),
        Trial(
            f"EXIF orientation {'ignored' if upright else 'applied'}",
            f"--exif {exif}",
            now,
            not upright,
        ),
    ]
    return [trial for trial in tried if (trial.preprocess, trial.upright) != (now, upright)]


def size_trials(now: Preprocess, *, upright: bool) -> Iterator[Trial]:
    """Yield other sizes, and resizing that ignores the aspect ratio."""
    crop = now.crop_size
    sizes = {
        "v1: resize 256, crop 224": (256, 224),
        "v2: resize 232, crop 224": (232, 224),
        f"resize {crop}, no crop": (crop, crop),
    }
    for name, (resize, size) in sizes.items():
        yield Trial(name, size_flags(resize, size), with_sizes(now, resize, size), upright)
    squashed = replace(now, squash=True, resize_size=crop)
    yield Trial(f"squash to {crop}", f"--squash {size_flags(crop, crop)}", squashed, upright)


def size_flags(resize: int, crop: int) -> str:
    """Return the options that set a size."""
    return f"--resize-size {resize} --img-size {crop}"


def with_sizes(now: Preprocess, resize: int, crop: int) -> Preprocess:
    """Return a preprocessing with another size, keeping the aspect ratio."""
    return replace(now, resize_size=resize, crop_size=crop, squash=False)


def scale_trials(now: Preprocess, *, upright: bool) -> Iterator[Trial]:
    """Yield changes of mean and standard deviation."""
    if now.channels in IMAGE_CHANNELS:
        usual = Preprocess().with_channels(now.channels)
        yield scale_trial("ImageNet's mean and std", now, usual.mean, usual.std, upright=upright)
    for name, (mean, std) in CHANNEL_SCALES.items():
        yield scale_trial(name, now, (mean,) * now.channels, (std,) * now.channels, upright=upright)


def scale_trial(
    name: str, now: Preprocess, mean: tuple[float, ...], std: tuple[float, ...], *, upright: bool
) -> Trial:
    """Return a change of mean and standard deviation."""
    return Trial(name, normalisation_flags(mean, std), replace(now, mean=mean, std=std), upright)


def normalisation_flags(mean: Sequence[float], std: Sequence[float]) -> str:
    """Return the options that set a mean and a standard deviation."""
    means, stds = (",".join(f"{value:.6g}" for value in values) for values in (mean, std))
    return f"--mean {means} --std {stds}"


def color_trials(now: Preprocess, *, upright: bool) -> Iterator[Trial]:
    """Yield the other channel order: alone, with mean and std reversed, and as in Caffe."""
    color = "bgr" if now.color == "rgb" else "rgb"
    turned = replace(now, color=color)
    yield Trial(color.upper(), f"--color {color}", turned, upright)
    both = replace(turned, mean=now.mean[::-1], std=now.std[::-1])
    flags = f"--color {color} {normalisation_flags(both.mean, both.std)}"
    yield Trial(f"{color.upper()}, mean and std too", flags, both, upright)
    caffe = replace(now, mean=CAFFE.mean, std=CAFFE.std, color="bgr")
    yield Trial(
        "Caffe: BGR less its means",
        f"--color bgr {normalisation_flags(caffe.mean, caffe.std)}",
        caffe,
        upright,
    )


def with_trial(classifier: Classifier, trial: Trial) -> Classifier:
    """Return the same network with another preprocessing."""
    now, then = classifier.preprocess, trial.preprocess
    session = classifier.session
    if (now.mean, now.std) != (then.mean, then.std):
        session = Classifier.of(
            classifier.checkpoint,
            reason=classifier.reason,
            compute=RuntimeOptions(
                device=classifier.runtime.device, precision=classifier.precision
            ),
            preprocess=then,
        ).session
    return replace(
        classifier,
        preprocess=then,
        session=session,
        decoder=replace(classifier.decoder, upright=trial.upright),
    )


def compare_trial(
    trial: Trial, now: SamplePredictions, then: SamplePredictions, *, tried: int
) -> Finding:
    """Compare the predictions under a change with those under the current preprocessing."""
    gained, lost = int((then.right & ~now.right).sum()), int((now.right & ~then.right).sum())
    surer = int((then.truth_probs > now.truth_probs).sum())
    less_sure = int((then.truth_probs < now.truth_probs).sum())
    gain_p = min(1.0, tried * mcnemar_test(gained, lost))
    loss_p = min(1.0, tried * mcnemar_test(surer, less_sure))
    more_right = gained > lost and gain_p < SURE_OF_GAIN
    lower = (then.loss or 0.0) <= LOWER * (now.loss or 0.0)
    surely_lower = lower and surer > less_sure and loss_p < SURE_OF_LOSS
    return Finding(
        name=trial.name,
        flags=trial.flags,
        top1=wilson_share(int(then.right.sum()), len(then.right)),
        loss=then.loss,
        flips=int((now.labels != then.labels).sum()),
        gained=gained,
        lost=lost,
        gain_p=gain_p,
        surer=surer,
        less_sure=less_sure,
        loss_p=loss_p,
        better=more_right or (surely_lower and gained > lost),
    )
