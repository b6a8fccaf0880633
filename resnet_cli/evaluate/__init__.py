"""Labelled images, or saved results, and a checkpoint -> metrics, drawings and reports.

    from resnet_cli import Classifier
    from resnet_cli.evaluate import evaluate_classifier

    result = evaluate_classifier(Classifier.load("model.pth"), "val/")
    print(result.accuracy, result.loss)

``evaluate_classifier`` scores one checkpoint, ``compare_classifiers`` several on the same images,
``evaluate_predictions`` rows that ``predict`` has saved; ``audit_preprocessing`` looks for a better
preprocessing. Each returns a result object that can be saved, and draws nothing.
"""

from resnet_cli.evaluate.audit import Finding, audit_preprocessing
from resnet_cli.evaluate.compare import Comparison, compare_classifiers
from resnet_cli.evaluate.dataset import Dataset
from resnet_cli.evaluate.outputs import RowFiles
from resnet_cli.evaluate.saved import evaluate_predictions
from resnet_cli.evaluate.score import EvaluateOptions, EvaluationResult, evaluate_classifier

__all__ = [
    "Comparison",
    "Dataset",
    "EvaluateOptions",
    "EvaluationResult",
    "Finding",
    "RowFiles",
    "audit_preprocessing",
    "compare_classifiers",
    "evaluate_classifier",
    "evaluate_predictions",
]
