"""What TorchScript says of its modules: their settings stand in its code, and are read off it."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from resnet_cli.checkpoint.tree import Part

SIDES = r"\[(\d+), \d+\]"

CONVOLUTION = re.compile(rf"(?:conv2d|_convolution)\(\w+, \w+, \w+, {SIDES}, {SIDES}, {SIDES}")
POOL = re.compile(rf"\(\w+, {SIDES}, {SIDES}, {SIDES}, {SIDES}(?:, (True|False))?")
NORM = re.compile(r"batch_norm\([^()]*?, ([\d.]+(?:e-\d+)?)(?:, (?:True|False))?,? ?\)")


CALL = re.compile(r"\b(?:torch|ops\.\w+)\.([a-z]\w*)\(")
RETURN = re.compile(r"\n\s+return ([^\n]*)")


def code_file(path: str) -> str:
    """The file in an archive that defines a class, ``__torch__.torch.nn.modules.conv.Conv2d``."""
    return "code/" + path.rpartition(".")[0].replace(".", "/") + ".py"


def settings_in(code: str, kind: str) -> dict[str, Any]:
    """Settings of a module of a class, where its code states them."""
    body = code.partition(f"class {kind}(")[2].partition("\nclass ")[0]
    for ending, (pattern, read) in READERS.items():
        match = pattern.search(body) if kind.startswith(ending) else None
        if match:
            return read(match)
    return of_calls(body.partition("def forward(")[2].partition("\n  def ")[0])


def of_calls(forward: str) -> dict[str, Any]:
    """Operators that the code of a module calls itself, and the one whose value it returns."""
    calls = tuple(dict.fromkeys(name.rstrip("_") for name in CALL.findall(forward)))
    if not calls:
        return {}
    returned = RETURN.findall(forward)
    value = returned[-1] if returned else ""
    assigned = re.findall(rf"\n\s+{re.escape(value)} = ([^\n]*)", forward) if value else []
    last = CALL.match(assigned[-1] if assigned else value)
    return {"calls": calls, "returns": last[1].rstrip("_") if last else ""}


def of_convolution(match: re.Match[str]) -> dict[str, Any]:
    """Stride, padding, dilation."""
    stride, padding, dilation = map(int, match.groups())
    return {"stride": stride, "padding": padding, "dilation": dilation}


def of_pool(match: re.Match[str]) -> dict[str, Any]:
    """Kernel, stride, padding, and whether sizes are rounded up."""
    kernel, stride, padding, _ = map(int, match.groups()[:4])
    return {
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "ceil_mode": match[5] == "True",
    }


def of_norm(match: re.Match[str]) -> dict[str, Any]:
    """Epsilon."""
    return {"eps": float(f"{float(match[1]):.12g}")}  # 1.0000000000000001e-05


READERS: Mapping[str, tuple[re.Pattern[str], Callable[[re.Match[str]], dict[str, Any]]]] = {
    "Conv2d": (CONVOLUTION, of_convolution),
    "MaxPool2d": (POOL, of_pool),
    "BatchNorm": (NORM, of_norm),
}
"""Classes whose settings matter, by how their names begin."""


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


def exported_parts(model: Mapping[str, Any]) -> dict[str, Part]:
    """The modules of an exported network by name; a pool without weights under its node's name.

    The network itself, under no name, has the operators of all, and the last one.

    Args:
        model: the description in the archive.
    """
    module = model["graph_module"]
    names = dict(weight_names(module["signature"]["input_specs"]))
    nodes = module["graph"]["nodes"]
    calls = [operator_name(node) for node in nodes]
    last = next((name for name in reversed(calls) if name not in PASSED_ON), "")
    whole = Part("ExportedProgram", {"calls": tuple(dict.fromkeys(calls)), "returns": last})
    return {"": whole} | {
        name: part
        for node in nodes
        if node["target"] in WANTED
        for name, part in [describe_node(node, names)]
    }


def operator_name(node: Mapping[str, Any]) -> str:
    """The bare name of what a node computes: ``relu`` of ``torch.ops.aten.relu_.default``."""
    return str(node["target"]).removeprefix("torch.ops.aten.").partition(".")[0].strip("_")


def weight_names(specs: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Names of weights in the graph, and in the network."""
    for spec in specs:
        parameter = spec.get("parameter")
        if parameter is not None:
            yield parameter["arg"]["name"], parameter["parameter_name"]


def describe_node(node: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, Part]:
    """Name and settings of one module."""
    kind, wanted = WANTED[node["target"]]
    given = {entry["name"]: entry["arg"] for entry in node["inputs"]}
    weight = given.get("weight", {}).get("as_tensor", {}).get("name")
    name = names.get(weight, "")
    settings = {key: argument_value(given[key]) for key in wanted if key in given}
    settings = {key: DEFAULTS[key] for key in wanted if key in DEFAULTS} | settings
    own = name.removesuffix(".weight") or node["outputs"][0]["as_tensor"]["name"]
    return own, Part(kind, settings)


def argument_value(argument: Mapping[str, Any]) -> Any:
    """The value of an argument: a number, or one for each side."""
    value = next(iter(argument.values()))
    return tuple(value) if isinstance(value, list) else value
