"""Heads in the place of torchvision's, and networks with more behind the backbone."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from systems import cut, headless, resnet

Make = Callable[[int, int], nn.Module]  # makes a head from the numbers of features and classes

HEADS: dict[str, Make] = {
    "linear": lambda f, n: nn.Linear(f, n),
    "linear without bias": lambda f, n: nn.Linear(f, n, bias=False),
    "dropout": lambda f, n: nn.Sequential(nn.Dropout(0.5), nn.Linear(f, n)),
    "linear in a sequential": lambda f, n: nn.Sequential(nn.Linear(f, n)),
    "flatten first": lambda f, n: nn.Sequential(nn.Flatten(), nn.Linear(f, n)),
    "two layers": lambda f, n: nn.Sequential(nn.Linear(f, 32), nn.ReLU(), nn.Linear(32, n)),
    "three layers": lambda f, n: nn.Sequential(
        nn.Linear(f, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, n)
    ),
    "dropout behind the activation": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.ReLU(inplace=True), nn.Dropout(0.4), nn.Linear(32, n)
    ),
    "dropout everywhere": lambda f, n: nn.Sequential(
        nn.Dropout(), nn.Linear(f, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, n)
    ),
    "without bias": lambda f, n: nn.Sequential(
        nn.Linear(f, 32, bias=False), nn.ReLU(), nn.Linear(32, n, bias=False)
    ),
    "norm before the activation": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, n)
    ),
    "norm behind the activation": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Dropout(), nn.Linear(32, n)
    ),
    "norm first": lambda f, n: nn.Sequential(
        nn.BatchNorm1d(f), nn.Dropout(), nn.Linear(f, 32), nn.ReLU(), nn.Linear(32, n)
    ),
    "norm first and alone": lambda f, n: nn.Sequential(nn.BatchNorm1d(f), nn.Linear(f, n)),
    "norm without weights": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.BatchNorm1d(32, affine=False), nn.ReLU(), nn.Linear(32, n)
    ),
    "layer norm": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, n)
    ),
    "no activation": lambda f, n: nn.Sequential(nn.Linear(f, 32), nn.Linear(32, n)),
    "two layers with names": lambda f, n: nn.Sequential(
        OrderedDict(fc1=nn.Linear(f, 32), relu=nn.ReLU(), fc2=nn.Linear(32, n))
    ),
    "names, norm and dropout": lambda f, n: nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(f, 32),
            bn1=nn.BatchNorm1d(32),
            relu=nn.ReLU(),
            drop=nn.Dropout(),
            fc2=nn.Linear(32, n),
        )
    ),
    "names, and probabilities at the end": lambda f, n: nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(f, 32), relu=nn.ReLU(), fc2=nn.Linear(32, n), output=nn.LogSoftmax(dim=1)
        )
    ),
    "probabilities at the end": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.ReLU(), nn.Linear(32, n), nn.LogSoftmax(dim=1)
    ),
    "nested": lambda f, n: nn.Sequential(
        nn.Sequential(nn.Linear(f, 32), nn.BatchNorm1d(32), nn.ReLU()), nn.Linear(32, n)
    ),
}
"""Heads whose state dict is enough: between their layers is ReLU, or nothing."""


def between(activation: type[nn.Module]) -> Make:
    """Two layers with an activation between them."""
    return lambda f, n: nn.Sequential(nn.Linear(f, 32), activation(), nn.Linear(32, n))


ACTIVATIONS = (nn.Tanh, nn.GELU, nn.LeakyReLU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.SELU)

ACTIVE: dict[str, Make] = {
    **{activation.__name__: between(activation) for activation in ACTIVATIONS},
    "dropout, no activation": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.Dropout(), nn.Linear(32, n)
    ),
    "norm with an epsilon": lambda f, n: nn.Sequential(
        nn.Linear(f, 32), nn.BatchNorm1d(32, eps=0.1), nn.Tanh(), nn.Linear(32, n)
    ),
}
"""Heads that only a whole pickled module tells."""


class Joined(nn.Module):
    """A backbone, and layers that only the forward pass joins to it."""

    def __init__(
        self, resnet: nn.Module, join: Callable[[Any, Tensor], Tensor], **layers: nn.Module
    ) -> None:
        super().__init__()
        self.resnet, self.join = resnet, join
        for name, layer in layers.items():
            self.add_module(name, layer)

    def __getstate__(self) -> dict[str, Any]:
        """All but the forward pass, which no file holds."""
        return {key: value for key, value in vars(self).items() if key != "join"}

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self, x)


class Pointwise(nn.Conv2d):
    """A linear layer that is written as a convolution of one pixel."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes, 1)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input[:, :, None, None]).flatten(1)


JOINED: dict[str, Callable[[], nn.Module]] = {
    "two layers": lambda: Joined(
        headless(resnet()),
        lambda net, x: net.fc2(net.fc1(net.resnet(x)).relu()),
        fc1=nn.Linear(512, 64),
        fc2=nn.Linear(64, 4),
    ),
    "two layers and a norm": lambda: Joined(
        headless(resnet()),
        lambda net, x: net.fc2(net.bn(net.fc1(net.resnet(x))).relu()),
        fc1=nn.Linear(512, 64),
        bn=nn.BatchNorm1d(64),
        fc2=nn.Linear(64, 4),
    ),
    "two layers behind what was cut": lambda: Joined(
        cut(resnet()),
        lambda net, x: net.fc2(net.fc1(net.resnet(x).flatten(1)).relu()),
        fc1=nn.Linear(512, 64),
        fc2=nn.Linear(64, 4),
    ),
    "a norm first": lambda: Joined(
        headless(resnet()),
        lambda net, x: net.fc(net.norm(net.resnet(x))),
        norm=nn.LayerNorm(512),
        fc=nn.Linear(512, 4),
    ),
    "behind the last layer": lambda: Joined(
        resnet(fc=nn.Linear(512, 10)),
        lambda net, x: net.fc(net.resnet(x)),
        fc=nn.Linear(10, 4),
    ),
    "behind the last layer and an activation": lambda: Joined(
        resnet(fc=nn.Linear(512, 64)),
        lambda net, x: net.out(net.resnet(x).relu()),
        out=nn.Linear(64, 4),
    ),
    "behind the last layer in a sequential": lambda: nn.Sequential(
        resnet(fc=nn.Linear(512, 64)), nn.ReLU(), nn.Dropout(), nn.Linear(64, 4)
    ),
    "beside the last layer": lambda: Joined(
        resnet(fc=nn.Linear(512, 10)),
        lambda net, x: net.head(nn.Sequential(*list(net.resnet.children())[:-1])(x).flatten(1)),
        head=nn.Linear(512, 4),
    ),
}
"""Networks with more behind the backbone than one module: an answer without all of it is wrong."""
