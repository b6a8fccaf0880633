"""How a network ends: in an activation, which must not be applied twice, or in features."""

from collections.abc import Iterator

from resnet_cli.errors import CheckpointError
from resnet_cli.graph.outline import Operation, Outline

ACTIVATIONS = {"Softmax": "softmax", "SoftMax": "softmax", "Sigmoid": "sigmoid"}

PASSED = ("Cast", "Convert", "DequantizeLinear", "Dropout", "FakeQuantize", "Flatten", "Identity",
          "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze")  # fmt: skip
"""Operations that hand on the values of their first input."""

POOLS = ("GlobalAveragePool", "AveragePool", "AvgPool", "ReduceMean",
         "GlobalMaxPool", "ReduceMax", "AdaptiveAvgPool")  # fmt: skip
BEHIND = ("Relu", "ReLU", "BatchNormalization", "BatchNormInference")  # between block and pool
JOINS = ("Add", "Concat")  # of two branches, which no head that classifies ends in

NO_LOGARITHMS = (
    "it ends in the logarithm of a sigmoid: export it without that, so that it gives logits"
)
NO_FEATURES = (
    "it ends in the pooling of a backbone, so it gives features: export the network with the layer "
    "that classifies"
)


def final_activation(outline: Outline, output: str) -> str | None:
    """Return the activation that an output has behind it, or None.

    Logarithms of probabilities are logits: softmax of them gives the probabilities.

    Raises:
        CheckpointError: the output is the logarithm of a sigmoid.
    """
    logarithm = False
    for made in chain_behind(outline, output, passed=(*PASSED, "Log")):
        logarithm |= made.kind == "Log"
        if activation := ACTIVATIONS.get(made.kind):
            if logarithm and activation == "sigmoid":
                raise CheckpointError(NO_LOGARITHMS)
            return None if logarithm else activation
    return None


def refuse_features(outline: Outline, output: str) -> None:
    """Refuse a backbone: a pool over the sum or the union of two branches.

    Raises:
        CheckpointError: the output is of that kind.
    """
    pooled = False
    for made in chain_behind(outline, output, passed=(*PASSED, *POOLS, *BEHIND)):
        pooled |= made.kind in POOLS
        if (
            pooled
            and made.kind in JOINS
            and not any(is_constant(outline, name) for name in made.inputs)
        ):
            raise CheckpointError(NO_FEATURES)


def is_constant(outline: Outline, name: str) -> bool:
    """Return whether a tensor is stored, as such or in another type or shape."""
    return name in outline.constants or any(
        made.kind in PASSED and made.inputs[0] in outline.constants
        for made in chain_behind(outline, name, passed=PASSED)
        if made.inputs
    )


def chain_behind(outline: Outline, name: str, *, passed: tuple[str, ...]) -> Iterator[Operation]:
    """Yield what computes a tensor, and what is before it, up to the first that is not passed."""
    for _ in range(len(outline.made_by)):  # a damaged file may hold a circle
        made = outline.made_by.get(name)
        if made is None:
            return
        yield made
        if made.kind not in passed or not made.inputs:
            return
        name = made.inputs[0]
