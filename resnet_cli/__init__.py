"""Classify images with a ResNet checkpoint.

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

    from resnet_cli.benchmark import BenchmarkOptions, BenchmarkResult
    from resnet_cli.benchmark.rows import BenchmarkRow
    from resnet_cli.benchmark.sweep import run_benchmark
    from resnet_cli.checkpoint.convert import Conversion, convert_checkpoint
    from resnet_cli.checkpoint.inspect import Inspection, inspect_checkpoint
    from resnet_cli.checkpoint.locate import LoadOptions
    from resnet_cli.classifier import Classifier, PredictOptions
    from resnet_cli.errors import UserError
    from resnet_cli.evaluate import EvaluateOptions, evaluate_classifier
    from resnet_cli.evaluate.audit import audit_preprocessing
    from resnet_cli.evaluate.compare import compare_classifiers
    from resnet_cli.evaluate.outputs import RowFiles
    from resnet_cli.evaluate.saved import evaluate_predictions
    from resnet_cli.export import Export, export_checkpoint
    from resnet_cli.export.options import ExportOptions
    from resnet_cli.preprocess import Preprocess
    from resnet_cli.records import Item, Prediction, Score
    from resnet_cli.run import OutputOptions, RunResult, predict_to_files
    from resnet_cli.run.calibrate import calibrate_classifier
    from resnet_cli.summary import Summary, list_models, summarize
    from resnet_cli.summary.networks import SummaryOptions

__all__ = [
    "BenchmarkOptions",
    "BenchmarkResult",
    "BenchmarkRow",
    "Classifier",
    "Conversion",
    "EvaluateOptions",
    "Export",
    "ExportOptions",
    "Inspection",
    "Item",
    "LoadOptions",
    "OutputOptions",
    "PredictOptions",
    "Prediction",
    "Preprocess",
    "RowFiles",
    "RunResult",
    "Score",
    "Summary",
    "SummaryOptions",
    "UserError",
    "audit_preprocessing",
    "calibrate_classifier",
    "compare_classifiers",
    "convert_checkpoint",
    "evaluate_classifier",
    "evaluate_predictions",
    "export_checkpoint",
    "inspect_checkpoint",
    "list_models",
    "predict_to_files",
    "run_benchmark",
    "summarize",
]

_HOMES = {
    "BenchmarkOptions": "resnet_cli.benchmark",
    "BenchmarkResult": "resnet_cli.benchmark",
    "BenchmarkRow": "resnet_cli.benchmark.rows",
    "Classifier": "resnet_cli.classifier",
    "Conversion": "resnet_cli.checkpoint.convert",
    "EvaluateOptions": "resnet_cli.evaluate",
    "Export": "resnet_cli.export",
    "ExportOptions": "resnet_cli.export.options",
    "Inspection": "resnet_cli.checkpoint.inspect",
    "Item": "resnet_cli.records",
    "LoadOptions": "resnet_cli.checkpoint.locate",
    "OutputOptions": "resnet_cli.run",
    "PredictOptions": "resnet_cli.classifier",
    "Prediction": "resnet_cli.records",
    "Preprocess": "resnet_cli.preprocess",
    "RowFiles": "resnet_cli.evaluate.outputs",
    "RunResult": "resnet_cli.run",
    "Score": "resnet_cli.records",
    "Summary": "resnet_cli.summary",
    "SummaryOptions": "resnet_cli.summary.networks",
    "UserError": "resnet_cli.errors",
    "audit_preprocessing": "resnet_cli.evaluate.audit",
    "calibrate_classifier": "resnet_cli.run.calibrate",
    "compare_classifiers": "resnet_cli.evaluate.compare",
    "convert_checkpoint": "resnet_cli.checkpoint.convert",
    "evaluate_classifier": "resnet_cli.evaluate",
    "evaluate_predictions": "resnet_cli.evaluate.saved",
    "export_checkpoint": "resnet_cli.export",
    "inspect_checkpoint": "resnet_cli.checkpoint.inspect",
    "list_models": "resnet_cli.summary",
    "predict_to_files": "resnet_cli.run",
    "run_benchmark": "resnet_cli.benchmark.sweep",
    "summarize": "resnet_cli.summary",
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
