"""What a run may get wrong, found before it begins: other labels than plain fp32, other names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from resnet_cli.classifier import Classifier
from resnet_cli.errors import ImageError
from resnet_cli.records import Item
from resnet_cli.runtimes.torch_runtime import to_probabilities
from resnet_cli.sources import Inputs

MOST_SUGGESTED = 20  # class names


@dataclass(frozen=True, slots=True)
class Verification:
    """How far a classifier is from plain fp32 on the CPU."""

    images: int  # compared
    largest_difference: float  # of a probability
    flips: tuple[Path, ...]  # images whose best class differs


def verify_classifier(classifier: Classifier, items: Sequence[Item]) -> Verification:
    """Compare images against plain fp32 on the CPU: Pillow, torchvision's network, one by one.

    Images that cannot be read are left out.
    """
    network = classifier.checkpoint.network()
    decoder = replace(classifier.decoder, exact=True)
    preprocess = classifier.preprocess
    count, largest, flips = 0, 0.0, []
    everything = len(classifier.class_names)
    for row in classifier.predict(Inputs.of(items), topk=everything):
        try:
            pixels = preprocess(decoder(row.item.source))[None]
        except ImageError:
            continue
        if row.error is not None:
            continue
        with torch.inference_mode():
            images = torch.from_numpy(preprocess.normalise(pixels)).permute(0, 3, 1, 2)
            logits = network(images)
            plain = to_probabilities(logits, classifier.checkpoint.activation)[0].tolist()
        count += 1
        largest = max(largest, *(abs(plain[score.index] - score.prob) for score in row.scores))
        if plain[row.scores[0].index] < max(plain):
            flips.append(row.path)
    return Verification(count, largest, tuple(flips))


def folder_class_names(classifier: Classifier, inputs: Inputs) -> list[str]:
    """Return the folders of the images, sorted, where they may be the missing class names.

    None are where the checkpoint has class names, or where the folders are not as many as its
    classes.
    """
    classes = classifier.checkpoint.classes
    if not classes.made_up:
        return []
    folders = {Path(item.path).absolute().parent.name for item in inputs.known}
    fits = len(folders) == len(classes.names) <= MOST_SUGGESTED
    return sorted(folders) if fits and not any("," in name for name in folders) else []
