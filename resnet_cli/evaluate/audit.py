"""The preprocessing detective: would another preprocessing score far better?

A network that sees other pixels than in training loses accuracy without any error. So a sample of
the images goes through what people really train with, one change at a time. A change that is right
for the network makes more images right, and what is right already surer: on few images only the
second can be told from luck.

A change that is plainly worse on the first images is not tried on the others. So none is found
better by looking often: every p is corrected for all changes, also for those that were dropped.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from resnet_cli.classifier import Classifier
from resnet_cli.evaluate.calibration import SMALLEST
from resnet_cli.evaluate.confusion import Share, mcnemar_test, wilson_share
from resnet_cli.evaluate.order import deal_halves, find_order
from resnet_cli.evaluate.trials import Trial, list_trials
from resnet_cli.records import Item
from resnet_cli.sources import Inputs

log = logging.getLogger("resnet_cli")

SURE_OF_GAIN = 0.01  # p above which more right images may be luck
SURE_OF_LOSS = 0.05  # p above which a lower loss may be luck
SURE_OF_HARM = 0.01  # p, of one change at one look, above which that it loses images may be luck
LOOKS = (20, 40, 60, 100)  # images after which a change that is plainly worse is dropped
LOWER = 0.75  # of the loss that must be left at the most, where the gain alone is not sure


@dataclass(frozen=True, slots=True)
class Finding:
    """How a change fares on the sample, against the preprocessing as it is.

    Each p is that of chance, times the number of changes that were tried (Bonferroni).
    """

    name: str
    flags: str  # none for the preprocessing as it is
    top1: Share
    loss: float | None  # mean negative log likelihood; None of no images
    flips: int  # images whose predicted class is another
    gained: int  # images that only the change has right
    lost: int  # images that only the preprocessing as it is has right
    gain_p: float  # McNemar's test of the two
    surer: int  # images whose true class is more probable by the change
    less_sure: int
    loss_p: float  # sign test of the two
    better: bool  # far, and surely
    dropped: bool = False  # plainly worse on these images, and not tried on the others

    @property
    def plainly_worse(self) -> bool:
        """Whether it loses more images than it gains, and chance alone hardly does so.

        A lower probability alone proves nothing: scales that are far too large are the surest.
        """
        if self.lost <= self.gained:
            return False
        less_sure = mcnemar_test(self.surer, self.less_sure) if self.surer < self.less_sure else 1.0
        return min(mcnemar_test(self.gained, self.lost), less_sure) < SURE_OF_HARM


@dataclass(frozen=True, slots=True)
class AuditAnswers:
    """What a network says of the images that can be read."""

    truths: NDArray[np.int64]
    labels: NDArray[np.int64]
    right: NDArray[np.bool_]
    truth_probs: NDArray[np.float32]  # of the true class

    @property
    def loss(self) -> float | None:
        """Mean negative log likelihood."""
        if not len(self.truth_probs):
            return None
        return -float(np.log(np.maximum(self.truth_probs, SMALLEST)).mean())


def join_answers(parts: Sequence[AuditAnswers]) -> AuditAnswers:
    """Join what a network says of several parts of the sample."""
    names = (field.name for field in fields(AuditAnswers))
    return AuditAnswers(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


def audit_preprocessing(
    classifier: Classifier,
    paths: Sequence[str],
    truths: Sequence[int],
    *,
    progress: Callable[[], object],
    batch_size: int | None = None,
    workers: int | None = None,
) -> Iterator[Finding]:
    """Score a sample as it is, then with each change as long as it is not plainly worse.

    Args:
        classifier: loaded and ready.
        paths: the sample; images that cannot be read are left out.
        truths: index of the true class of each.
        progress: called for each image of each trial, also where it is left out.
        batch_size: images in one pass; None chooses for the device.
        workers: CPU threads; None takes all cores.

    Yields:
        What was found, first for the preprocessing as it is.
    """
    tried, names = list_trials(classifier), classifier.class_names
    race = Race(classifier, paths, truths, plan_looks(truths), progress, batch_size, workers)
    now = race.answers(classifier)
    whole = join_answers(now)
    order = find_order(deal_halves(whole.truths.tolist(), whole.labels.tolist(), len(names)), names)
    if order is not None:  # what spoils a network that is always wrong would look like a mend
        log.warning("the class names seem to be in the wrong order: the audit takes the better one")
        race = replace(race, truths=[order.classes.index(names[truth]) for truth in truths])
        now = race.answers(classifier)
    as_it_is = Trial("as it is", "", classifier.preprocess, classifier.decoder.upright)
    yield compare_trial(as_it_is, join_answers(now), join_answers(now), tried=len(tried))
    for trial in tried:
        yield race.run(trial, now, tried=len(tried))


@dataclass(frozen=True, slots=True)
class Race:
    """A sample that changes are tried on, part by part, until they are plainly worse."""

    classifier: Classifier
    paths: Sequence[str]
    truths: Sequence[int]
    parts: Sequence[Sequence[int]]  # places of the images
    progress: Callable[[], object]
    batch_size: int | None
    workers: int | None

    def run(self, trial: Trial, now: Sequence[AuditAnswers], *, tried: int) -> Finding:
        """Try one change, of so many, against the preprocessing as it is."""
        classifier = with_trial(self.classifier, trial)
        then: list[AuditAnswers] = []
        for part in self.parts:
            then.append(self.answers_to(classifier, part))
            found = compare_trial(
                trial, join_answers(now[: len(then)]), join_answers(then), tried=tried
            )
            left = list(chain.from_iterable(self.parts[len(then) :]))
            if left and found.plainly_worse:
                for _ in left:
                    self.progress()
                return replace(found, dropped=True)
        return found

    def answers(self, classifier: Classifier) -> list[AuditAnswers]:
        """Classify the whole sample, part by part."""
        return [self.answers_to(classifier, part) for part in self.parts]

    def answers_to(self, classifier: Classifier, part: Sequence[int]) -> AuditAnswers:
        """Classify one part of the sample."""
        rows = classifier.predict(
            Inputs.of([Item(self.paths[place], truth=self.truths[place]) for place in part]),
            topk=1, batch_size=self.batch_size, workers=self.workers, distribution=True,
        )  # fmt: skip
        found = []
        for row, truth in zip(rows, (self.truths[place] for place in part), strict=True):
            if row.distribution is not None:
                found.append((truth, row.index, row.index == truth, row.distribution[truth]))
            self.progress()
        true, labels, right, probs = zip(*found, strict=True) if found else ((),) * 4
        return AuditAnswers(
            np.array(true, np.int64),
            np.array(labels, np.int64),
            np.array(right, np.bool_),
            np.array(probs, np.float32),
        )


def plan_looks(truths: Sequence[int]) -> list[list[int]]:
    """Places of the images up to each look, of all classes alike, and of the others."""
    parts: list[list[int]] = []
    for size in (*LOOKS, len(truths)):
        earlier = set(chain.from_iterable(parts))
        parts.append([place for place in sample_places(truths, size) if place not in earlier])
    return [part for part in parts if part] or [[]]


def with_trial(classifier: Classifier, trial: Trial) -> Classifier:
    """The same network behind another preprocessing."""
    now, then = classifier.preprocess, trial.preprocess
    backend = classifier.backend
    if (now.mean, now.std) != (then.mean, then.std):
        backend = Classifier.of(
            classifier.checkpoint,
            reason=classifier.reason,
            device=backend.device,
            preprocess=then,
            precision=classifier.precision,
        ).backend
    return replace(
        classifier,
        preprocess=then,
        backend=backend,
        decoder=replace(classifier.decoder, upright=trial.upright),
    )


def compare_trial(trial: Trial, now: AuditAnswers, then: AuditAnswers, *, tried: int) -> Finding:
    """Count what a change gains and loses."""
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


def sample_places(truths: Sequence[int], size: int) -> list[int]:
    """Places of so many images, the same number from each class as far as there are enough.

    They are spread evenly over the images of a class, as neighbours often are alike.
    """
    places: dict[int, list[int]] = {}
    for place, truth in enumerate(truths):
        places.setdefault(truth, []).append(place)
    queues = [spread_evenly(found) for found in places.values()]
    chosen: list[int] = []
    while queues and len(chosen) < size:
        taken = queues[: size - len(chosen)]
        chosen += [queue.pop() for queue in taken]
        queues = [queue for queue in queues if queue]
    return sorted(chosen)


def spread_evenly(places: Sequence[int]) -> list[int]:
    """Places in an order whose every end is spread evenly: halves, then quarters, and so on."""
    bits = max(1, (len(places) - 1).bit_length())
    return [
        places[turned]
        for turned in (int(f"{n:0{bits}b}"[::-1], 2) for n in range(1 << bits))
        if turned < len(places)
    ][::-1]
