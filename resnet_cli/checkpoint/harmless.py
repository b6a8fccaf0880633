"""Tensors that training keeps beside a network, and that are no layer of it."""

import re

BOOKKEEPING = re.compile(
    r"(?:.*[._])?(?:cent(?:er|re)s?|cent(?:er|re)_?loss|conf_?mat(?:rix)?|confusion(?:_?matrix)?"
    r"|(?:memory|feature|feat)s?_?(?:bank|queue)?|bank|queues?(?:_ptr|_labels)?|metrics?"
    r"|loss(?:es)?|criterion)(?:[._].*)?",
    re.IGNORECASE,
)
"""Names of the centres and weights of losses, of metrics, and of banks of features; anywhere."""


def is_bookkeeping(name: str) -> bool:
    """Whether a tensor is beside a network for training or for its figures alone, by its name."""
    return BOOKKEEPING.fullmatch(name) is not None
