"""What ``torch.export`` says of a network: its graph names every convolution with its settings."""

from collections.abc import Iterator, Mapping
from typing import Any

from resnet_cli.checkpoint.tree import Part

WANTED = {
    "torch.ops.aten.conv2d.default": ("Conv2d", ("stride", "padding", "dilation")),
    "torch.ops.aten.batch_norm.default": ("BatchNorm2d", ("eps",)),
    "torch.ops.aten.max_pool2d.default": (
        "MaxPool2d",
        ("kernel_size", "stride", "padding", "ceil_mode"),
    ),
}
"""Operators whose settings matter: the module that they were, and their arguments."""

DEFAULTS: Mapping[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False}
"""Of torch's operators; the graph leaves out what was not given."""


PASSED_ON = frozenset({"dropout", "flatten", "view", "reshape", "squeeze", "alias", "contiguous"})
"""Operators that hand on the values they are given."""


def parts_of(model: Mapping[str, Any]) -> dict[str, Part]:
    """The modules of an exported network by name; a pool without weights under its node's name.

    The network itself, under no name, has the operators of all, and the last one.

    Args:
        model: the description in the archive.
    """
    module = model["graph_module"]
    names = dict(parameters(module["signature"]["input_specs"]))
    nodes = module["graph"]["nodes"]
    calls = [operator(node) for node in nodes]
    last = next((name for name in reversed(calls) if name not in PASSED_ON), "")
    whole = Part("ExportedProgram", {"calls": tuple(dict.fromkeys(calls)), "returns": last})
    return {"": whole} | {
        name: part
        for node in nodes
        if node["target"] in WANTED
        for name, part in [described(node, names)]
    }


def operator(node: Mapping[str, Any]) -> str:
    """The bare name of what a node computes: ``relu`` of ``torch.ops.aten.relu_.default``."""
    return str(node["target"]).removeprefix("torch.ops.aten.").partition(".")[0].strip("_")


def parameters(specs: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Names of weights in the graph, and in the network."""
    for spec in specs:
        parameter = spec.get("parameter")
        if parameter is not None:
            yield parameter["arg"]["name"], parameter["parameter_name"]


def described(node: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, Part]:
    """Name and settings of one module."""
    kind, wanted = WANTED[node["target"]]
    given = {entry["name"]: entry["arg"] for entry in node["inputs"]}
    weight = given.get("weight", {}).get("as_tensor", {}).get("name")
    name = names.get(weight, "")
    settings = {key: plain(given[key]) for key in wanted if key in given}
    settings = {key: DEFAULTS[key] for key in wanted if key in DEFAULTS} | settings
    own = name.removesuffix(".weight") or node["outputs"][0]["as_tensor"]["name"]
    return own, Part(kind, settings)


def plain(argument: Mapping[str, Any]) -> Any:
    """The value of an argument: a number, or one for each side."""
    value = next(iter(argument.values()))
    return tuple(value) if isinstance(value, list) else value
