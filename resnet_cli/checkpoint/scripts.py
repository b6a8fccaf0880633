"""What TorchScript says of its modules: their settings stand in its code, and are read off it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

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
