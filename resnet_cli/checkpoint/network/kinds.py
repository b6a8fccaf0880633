"""Tables of the tensors beside a network, known by name and shape; beside.py applies them."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Fits = Callable[[Tensor], bool]


def is_single_number(tensor: Tensor) -> bool:
    """Return whether a tensor is a single number."""
    return tensor.numel() == 1


def is_list(tensor: Tensor) -> bool:
    """Return whether a tensor is a number, or a list of numbers."""
    return tensor.ndim <= 1


@dataclass(frozen=True, slots=True)
class Kind:
    """Tensors that are recognised by name and shape."""

    what: str  # in words
    pattern: str  # of the end of a name, from a dot on
    fits: Fits

    def holds(self, name: str, tensor: Tensor) -> bool:
        """Return whether a tensor is of this kind."""
        found = re.fullmatch(rf"(?:.*\.)?(?:{self.pattern})", name)
        return found is not None and not tensor.is_meta and self.fits(tensor)


LOSS = r"\w*(?:criterion|loss)\w*"

HARMLESS = (
    Kind("a counter of batches", r"num_batches_tracked", is_single_number),
    Kind("a count of a profiler", r"total_ops|total_params", is_single_number),
    Kind(
        "a counter of a training",
        r"n_averaged|num_averaged|num_updates|(?:global_)?steps?|iterations?|epochs?|initted",
        is_single_number,
    ),
    Kind(
        "weights of a loss",
        rf"(?:{LOSS}\.(?:\w+\.)*)?(?:class_weights?|pos_weights?|loss_weights?)"
        rf"|{LOSS}\.(?:\w+\.)*(?:weights?|alpha|gamma|temperature)",
        is_list,
    ),
    Kind(
        "the state of an optimizer",
        r"(?:\w+\.)*(?:exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|acc_delta)",
        lambda _: True,
    ),
    Kind(
        "a count of a metric",
        r"\w*(?:acc|accuracy|f1|auroc|precision|recall|metrics?)\w*\.(?:\w+\.)*"
        r"(?:tp|fp|tn|fn|correct|total|confmat)",
        lambda _: True,
    ),
)
"""Tensors that change no prediction."""

INDIRECT = r"(?:\w*_)?(?:ln|log|inv(?:erse)?|raw|unconstrained)_?temp(?:erature)?"
"""Names of values from which a temperature is computed in an unknown way."""

DECISIVE = (
    Kind(
        "scales or shifts its outputs",
        rf"{INDIRECT}|tau|logit_\w+|\w*logits?_scale|(?:output_)?scale|gain",
        is_list,
    ),
    Kind("is a temperature for each output", r"temperatures?|temp|T", is_list),
)
"""Tensors that change predictions in a way that the file does not state."""

TEMPERATURE = Kind(
    "a temperature", rf"(?!{INDIRECT}$)(?:\w*_)?temperature|temp|T", is_single_number
)

INNER = re.compile(r"attn|attention|criterion|loss|contrast|distil|moco|simclr|gumbel|gate")
"""Words in the names of modules with a temperature of their own, which divides no outputs."""

EXPONENT = Kind(
    "the exponent of a pool",
    r"(?:\w+\.)*(?!max)\w*(?:pool|gem)\w*[._](?:\w+\.)?p(?:ower)?",
    lambda tensor: tensor.is_floating_point() and tensor.ndim <= 4,
)

GENERALISED = re.compile(r"GeM|GeneralizedMean|GeneralisedMean", re.IGNORECASE)
"""Classes of pools that compute a generalised mean."""

BRANCHES = re.compile(
    r"(?:^|[._])(?:aux\w*|decoder|decode_head|seg\w*|proj\w*|predictor|rotation|recon\w*"
    r"|domain\w*|discriminator|cent(?:er|re)s?\w*|bbox\w*|boxes|memory|queue\w*|bank|prototypes?)"
    r"(?:[._]|$)",
    re.IGNORECASE,
)
"""Words in the names of a second branch, which takes features and does not change the first."""

BOOKKEEPING = re.compile(
    r"(?:.*[._])?(?:cent(?:er|re)s?|cent(?:er|re)_?loss|conf_?mat(?:rix)?|confusion(?:_?matrix)?"
    r"|(?:memory|feature|feat)s?_?(?:bank|queue)?|bank|queues?(?:_ptr|_labels)?|metrics?"
    r"|loss(?:es)?|criterion)(?:[._].*)?",
    re.IGNORECASE,
)
"""Names of the centres and weights of losses, of metrics, and of banks of features."""

ON_THE_WAY = re.compile(
    r"(?:^|[._])(?:se|senet|\w*attn\w*|\w*attention\w*|cbam|bam|eca|gem|stn|locali[sz]ation"
    r"|neck|bnneck|adapter\w*|gates?|\w*pool(?:ing)?|stem)(?:[._]|$)",
    re.IGNORECASE,
)
"""Words in the names of modules that compute between the layers of a network."""
