"""Checkpoints without a network: optimizers, and objects of other libraries."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from resnet_cli.checkpoint.network.identify import identify_network
from shapes import RESNET18, Shapes

pytestmark = pytest.mark.usefixtures("no_first_values")


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "ASGD": torch.optim.ASGD,
    "Rprop": torch.optim.Rprop,
    "RMSprop": lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimizer_is_named(name: str) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name]([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    state = optimizer.state_dict()
    kept = {key: tuple(v.shape) for key, v in state["state"][0].items() if isinstance(v, Tensor)}

    assert kept
    assert identify_network(kept, keys=state.keys()) == "only the state of an optimizer"
    assert identify_network(kept, keys=["epoch", "optimizer"]) == "only the state of an optimizer"


def test_an_optimizer_without_a_step_is_named() -> None:
    state = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1).state_dict()

    assert identify_network({}, keys=state) == "only the state of an optimizer"
    assert identify_network({}, ["torch.optim.sgd.SGD"]) == "only the state of an optimizer"


@pytest.mark.parametrize("names", [{}, {"sum": ()}, {"step": (), "loss": ()}, {"mu": (3,)}])
def test_a_few_numbers_are_not_an_optimizer(names: Shapes) -> None:
    assert identify_network(names, keys=["epoch", "optimizer"]) is None


def test_a_network_beside_an_optimizer_is_not_an_optimizer() -> None:
    names: Shapes = {"weight": (3, 3), "step": ()}

    assert identify_network(names, ["torch.optim.sgd.SGD"]) is None
    assert identify_network(names, keys=["state", "epoch"]) is None


LEARNER = "a fastai export of a whole learner: save learn.model.state_dict() instead"


@pytest.mark.parametrize(("kind", "clause"), [
    ("fastai.learner.Learner", LEARNER),
    ("fastai.text.learner.TextLearner", LEARNER),
    ("fastai.basic_train.Learner", LEARNER),
    ("ultralytics.nn.tasks.DetectionModel", "a network of Ultralytics (YOLO)"),
    ("models.yolo.Model", "a network of Ultralytics (YOLO)"),
    ("sklearn.ensemble._forest.RandomForestClassifier", "an object of scikit-learn, not a network"),
    ("xgboost.sklearn.XGBClassifier", "boosted trees, not a network"),
    ("lightgbm.sklearn.LGBMClassifier", "boosted trees, not a network"),
    ("catboost.core.CatBoost", "boosted trees, not a network"),
    ("tensorflow.python.trackable.data_structures.ListWrapper",
     "a network of Keras or TensorFlow"),
    ("torch.utils.data.dataset.Subset", "a data set, not a network"),
    ("pandas.core.frame.DataFrame", "a table of pandas, not a network"),
    ("keras.src.engine.sequential.Sequential", "a network of Keras or TensorFlow"),
    ("torchvision.datasets.folder.ImageFolder", "a data set, not a network"),
    ("transformers.training_args.TrainingArguments",
     "the arguments of a training: name the weights beside it"),
    ("my.sklearn.Thing", None),
    ("fastai.layers.AdaptiveConcatPool2d", None),
    ("torchvision.models.resnet.ResNet", None),
])  # fmt: skip
def test_objects_of_other_libraries_are_named(kind: str, clause: str | None) -> None:
    assert identify_network({}, ["collections.OrderedDict", kind]) == clause


def test_classes_of_objects_beside_tensors_name_no_library() -> None:
    unknown = {"a.weight": (3, 3)}

    assert identify_network(unknown, ["sklearn.preprocessing._label.LabelEncoder"]) is None
    assert identify_network(unknown, ["fastai.learner.Learner"]) == LEARNER
    assert identify_network(RESNET18, ["fastai.learner.Learner"]) is None
