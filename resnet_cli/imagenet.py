"""The thousand classes of ImageNet (ILSVRC 2012): their names, and their numbers in WordNet.

``imagenet.txt`` lists the numbers in the order of the outputs, which is their sorted order. It is
the list of the challenge, as timm too carries it in its ``imagenet_synsets.txt``.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

WORDNET_NUMBER = re.compile(r"n\d{8}(?![^\W_])")  # n02099601, or n02099601-golden_retriever


@cache
def imagenet_categories() -> tuple[str, ...]:
    """The names that torchvision's weights carry."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


@cache
def outputs_by_wordnet() -> Mapping[str, int]:
    """The output of each number in WordNet."""
    numbers = (files("resnet_cli") / "imagenet.txt").read_text("ascii").split()
    return {number: output for output, number in enumerate(numbers)}


def output_of(name: str) -> int | None:
    """Return the output that a folder named by its number in WordNet means, or None."""
    found = WORDNET_NUMBER.match(name)
    return None if found is None else outputs_by_wordnet().get(found.group())
