"""What the layout of the package promises: one place knows devices, and few rooms need torch."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import REPOSITORY, picture, trained
from resnet_cli.graph import Description
from resnet_cli.graph.convert import convert_network
from resnet_cli.preprocess import Preprocess

PACKAGE = REPOSITORY / "resnet_cli"
RUNTIMES = PACKAGE / "runtimes"

DEVICES = {"cpu", "cuda", "mps"}


def nodes(folder: Path, *, but: Path) -> Iterator[tuple[str, ast.AST]]:
    """Every node of the modules of a folder, with the place of its module."""
    for path in sorted(folder.rglob("*.py")):
        if but != path and but not in path.parents:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}", node


def names_a_device(node: ast.AST) -> bool:
    constants = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return any(value in DEVICES for value in constants if isinstance(value, str))


def test_only_runtimes_ask_which_device_it_is() -> None:
    asked = [
        place
        for place, node in nodes(PACKAGE, but=RUNTIMES)
        if isinstance(node, ast.Compare | ast.MatchValue) and names_a_device(node)
    ]
    assert asked == []


def is_private_name_of_torch(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name, value=value) if name.startswith("_"):
            return ast.unparse(value).startswith("torch.")
        case ast.Import(names=names):
            return any(name.name.startswith("torch.") and "._" in name.name for name in names)
        case ast.ImportFrom(module=str(module), names=names):
            private = "._" in module or any(name.name.startswith("_") for name in names)
            return module.startswith("torch") and private
    return False


def test_one_module_of_the_runtimes_has_private_names_of_torch() -> None:
    known = RUNTIMES / "private.py"
    found = [place for place, node in nodes(RUNTIMES, but=known) if is_private_name_of_torch(node)]
    assert found == []
    assert any(is_private_name_of_torch(node) for _, node in nodes(RUNTIMES, but=PACKAGE / "none"))


DECODERS = {"torchcodec", "torchvision.io"}


def names_a_decoder(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            modules = {name.name for name in names}
        case ast.ImportFrom(module=str(module), names=names):
            modules = {module} | {f"{module}.{name.name}" for name in names}
        case _:
            return False
    return any(f"{module}.".startswith(f"{known}.") for module in modules for known in DECODERS)


def test_one_module_of_the_images_has_the_libraries_that_decode() -> None:
    known = PACKAGE / "images" / "jpeg.py"
    assert [place for place, node in nodes(PACKAGE, but=known) if names_a_decoder(node)] == []
    assert sum(names_a_decoder(node) for node in ast.walk(ast.parse(known.read_text()))) == 2


def torch_is_imported(program: str, *arguments: object) -> list[str]:
    """Run a program in a process of its own; return what it was doing when torch was imported.

    Args:
        program: calls ``step`` with its next argument once that is done.
        arguments: of the program.
    """
    beginning = """
import sys
with_torch = []
def step(done):
    if {"torch", "torchvision", "torchcodec"} & sys.modules.keys():
        with_torch.append(done)
"""
    done = subprocess.run(
        [sys.executable, "-c", f"{beginning}{program}\nprint(*with_torch)", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1].split()


ROOMS = (
    "records", "system", "sources", "sources.folders", "sources.lists", "display", "preprocess",
    "images", "images.files", "runtimes", "pipeline", "results",
)  # fmt: skip


def test_rooms_are_imported_without_torch() -> None:
    program = """
from importlib import import_module
for room in sys.argv[1:]:
    import_module(f"resnet_cli.{room}")
    step(room)
"""
    assert torch_is_imported(program, *ROOMS) == []


WRITE = """
from pathlib import Path

from PIL import Image

from resnet_cli.records import Item, Prediction, Score
from resnet_cli.results import open_writer
from resnet_cli.results.options import WriterOptions

small = Image.new("RGB", (40, 30), "orange")
row = Prediction(Item("a.jpg"), (Score("ant", 0, 0.75),), 1.0, 1.0, 1.0, 1, thumbnail=small)
for name in sys.argv[1:]:
    with open_writer(Path(name), WriterOptions(topk=1)) as write:
        write(row)
    step(name)
"""


def test_results_are_written_without_torch() -> None:
    names = ["rows.csv", "rows.jsonl", "rows.json", "rows.html", "rows.png", "rows.pdf"]
    assert torch_is_imported(WRITE, *names) == []
    assert len(list(Path().glob("rows*"))) >= len(names)


HELP = """
from contextlib import suppress
from resnet_cli.cli import cli
for command in ("", *cli.commands):
    with suppress(SystemExit):
        cli([*command.split(), "--help"])
    step(command or "--help")
"""


def test_help_needs_no_torch() -> None:
    assert torch_is_imported(HELP) == []


DECODE = """
from pathlib import Path

from resnet_cli.images import Decoder
from resnet_cli.preprocess import Preprocess

for name in sys.argv[1:]:
    assert Preprocess()(Decoder(exact=True)(Path(name))).shape == (224, 224, 3)
    step(name)
"""


def test_the_exact_way_from_a_file_to_pixels_needs_no_torch() -> None:
    assert torch_is_imported(DECODE, picture(Path("a.jpg")), picture(Path("b.png"))) == []


PREDICT = """
from resnet_cli.cli import cli
for arguments in (["predict"], ["predict", "--precision", "int8"], ["evaluate"], ["inspect"]):
    command, *options = arguments
    given = [*options, "-c", sys.argv[1]] if command != "inspect" else []
    folder = sys.argv[1] if command == "inspect" else sys.argv[2]
    cli([command, folder, *given], standalone_mode=False)
step("done")
"""


@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
def test_a_network_file_needs_no_torch(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(f"network{suffix}")
    preprocess = Preprocess(resize_size=40, crop_size=32)
    description = Description(
        model="resnet18",
        class_names=("a", "b"),
        classes_source="given",
        preprocess=preprocess.record(),
        preprocess_source="given",
    )
    convert_network(trained(num_classes=2), path, description=description)
    for seed in range(6):
        picture(Path("images") / "ab"[seed % 2] / f"{seed}.jpg", (50, 60), seed=seed)
    for name in ("torch", "torchvision"):  # in front of the installed ones
        package = Path("front") / name / "__init__.py"
        package.parent.mkdir(parents=True)
        package.write_text("raise ImportError('it is not needed')")
    monkeypatch.syspath_prepend("front")
    assert torch_is_imported(PREDICT, path, "images") == []


FAST = """
from pathlib import Path

from resnet_cli.images import Decoder

for name in sys.argv[1:]:
    Decoder("L" if name == "grey.jpg" else "RGB")(Path(name))
    step(name)
"""


def test_a_jpeg_is_what_needs_torch() -> None:
    names = ["b.png", "b.webp", "b.tif", "grey.jpg", "a.jpg"]
    for name in names:
        picture(Path(name))
    assert torch_is_imported(FAST, *names) == ["a.jpg"]


def test_an_import_of_torch_would_be_seen() -> None:
    assert torch_is_imported("step('before')\nimport torch\nstep('after')") == ["after"]
