"""Classify pictures with a ResNet checkpoint.

    from resnet_cli import Classifier

    classifier = Classifier.load("model.pth", classes=["ants", "bees"])
    for prediction in classifier.predict("photos/"):
        print(prediction.path, prediction.label, prediction.prob)

The names below are imported on first use (PEP 562), so that ``resnet-cli --help`` need not wait
for torch. Here nothing is imported at all: until ``__main__`` runs, an interrupt is a traceback.
"""

TYPE_CHECKING = False  # as of typing
if TYPE_CHECKING:
    from typing import Any

    from resnet_cli.classifier import Classifier
    from resnet_cli.errors import UserError
    from resnet_cli.evaluate import EvaluateOptions, evaluate_classifier
    from resnet_cli.evaluate.audit import audit_preprocessing
    from resnet_cli.evaluate.compare import compare_classifiers
    from resnet_cli.evaluate.outputs import RowFiles
    from resnet_cli.evaluate.saved import evaluate_predictions
    from resnet_cli.preprocess import Preprocess
    from resnet_cli.records import Prediction, Score

__all__ = [
    "Classifier",
    "EvaluateOptions",
    "Prediction",
    "Preprocess",
    "RowFiles",
    "Score",
    "UserError",
    "audit_preprocessing",
    "compare_classifiers",
    "evaluate_classifier",
    "evaluate_predictions",
]

_HOMES = {
    "Classifier": "resnet_cli.classifier",
    "EvaluateOptions": "resnet_cli.evaluate",
    "Prediction": "resnet_cli.records",
    "Preprocess": "resnet_cli.preprocess",
    "RowFiles": "resnet_cli.evaluate.outputs",
    "Score": "resnet_cli.records",
    "UserError": "resnet_cli.errors",
    "audit_preprocessing": "resnet_cli.evaluate.audit",
    "compare_classifiers": "resnet_cli.evaluate.compare",
    "evaluate_classifier": "resnet_cli.evaluate",
    "evaluate_predictions": "resnet_cli.evaluate.saved",
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
