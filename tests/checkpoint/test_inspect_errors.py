"""What ``resnet-cli inspect`` says of other files and folders, of which it runs nothing."""

import argparse
import hashlib
import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from conftest import Run, trained
from inspecting import (
    KEYS,
    PUBLISHED,
    State,
    describe_headless,
    inspected,
    prefixed,
    refused,
    save_legacy,
    save_safetensors,
    saved,
    sentence,
    tiny,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# what predicts nothing


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_of_a_backbone_all_else_is_shown(run: Run, name: str) -> None:
    path = saved({"state_dict": prefixed(describe_headless(tiny(name)), "backbone.")})
    found, complaint = refused(run, path)
    features = models.get_model(name).fc.in_features

    assert "backbone" in complaint
    assert "no head" in complaint
    assert (found["model"], found["in_channels"], found["dtype"]) == (name, 3, "float32")
    assert (found["state_key"], found["stripped_prefix"]) == ("state_dict", "backbone.")
    assert found["parameters"] == PUBLISHED[name]["num_params"] - 1000 * (features + 1)
    assert (found["num_classes"], found["classes"]) == (None, None)
    table = run("inspect", path)
    assert table.exit_code == 1
    assert re.search(rf"^model +{name}$", table.stdout, re.MULTILINE)


def test_a_network_that_learned_without_labels_is_shown_with_a_warning(run: Run) -> None:
    twins = {
        **prefixed(tiny(num_classes=128), "module.encoder_q."),
        **prefixed(tiny(num_classes=128), "module.encoder_k."),
        "module.queue": torch.ones(128, 4),
    }
    result = run("inspect", saved({"arch": "resnet18", "state_dict": twins}), "--format", "json")
    found = json.loads(result.stdout)

    assert found["model"] == "resnet18"
    assert [w for w in found["warnings"] if "without labels" in w]


def write_cut_off(path: Path) -> None:
    torch.save(trained().state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])


def save_other(path: Path) -> None:
    torch.save({"weight": torch.ones(3), "bias": torch.ones(3)}, path)


LFS = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69\nsize 9\n"
)

NO_RESNET: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "pointer": (lambda path: path.write_text(LFS), "git-lfs pointer"),
    "page": (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "web page"),
    "text": (lambda path: path.write_text("ants\nbees\n"), "text"),
    "cut off": (write_cut_off, "cut off"),
    "other tensors": (save_other, "no ResNet"),
}


@pytest.mark.parametrize("kind", NO_RESNET)
def test_a_file_without_a_resnet_is_identified(run: Run, kind: str) -> None:
    write, name = NO_RESNET[kind]
    path = Path("model.pth")
    write(path)
    found, complaint = refused(run, path)
    table = run("inspect", path)

    assert f"cannot load {path}" in complaint
    assert name in complaint
    assert set(KEYS) <= found.keys()
    assert (found["model"], found["parameters"]) == (None, None)
    assert sentence(table) == complaint
    assert re.search(rf"^bytes +{path.stat().st_size:,}$", table.stdout, re.MULTILINE)


@pytest.mark.parametrize("shape", ["table", "json"])
def test_a_missing_file_is_named(run: Run, shape: str) -> None:
    result = run("inspect", "missing.pth", "--format", shape)

    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert "missing.pth" in result.stderr.splitlines()[-1]


METADATA: dict[str, dict[str, Any]] = {
    "head of words": {"head": "classification"},
    "unknown layer": {"head": [{"kind": "attention"}]},
    "no kind": {"head": [{"kind": ["linear"]}]},
    "epsilon": {"head": [{"kind": "linear", "eps": "small"}]},
    "variant of words": {"variant": "d"},
    "dilation": {"variant": {"dilated": 5}},
    "two dilations": {"variant": {"dilated": [True, True]}},
    "dilated basic blocks": {"variant": {"dilated": [False, True, True]}},
}


@pytest.mark.parametrize("kind", METADATA)
def test_invalid_metadata_is_reported_in_a_sentence(run: Run, kind: str) -> None:
    path = Path("model.safetensors")
    metadata = {key: json.dumps(value) for key, value in METADATA[kind].items()}
    metadata["written_by"] = "resnet-cli"
    save_file({name: t.contiguous() for name, t in tiny().items()}, path, metadata)

    assert str(path) in refused(run, path)[1]


# folders


def test_of_a_folder_the_weights_are_shown(run: Run) -> None:
    folder = Path("run")
    folder.mkdir()
    save_safetensors(tiny())
    weights = Path("file").rename(folder / "model.safetensors")
    (folder / "optimizer.pt").write_bytes(b"state of an optimizer")
    found = inspected(run, folder)

    assert found["path"] == str(weights)
    assert found["bytes"] == weights.stat().st_size
    assert found["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_of_a_sharded_folder_all_files_count(run: Run) -> None:
    folder = Path("run")
    folder.mkdir()
    shards: dict[str, State] = {"one.safetensors": {}, "two.safetensors": {}}
    for name, tensor in tiny().items():
        shards["one.safetensors" if "layer4" in name else "two.safetensors"][name] = (
            tensor.contiguous()
        )
    for shard, tensors in shards.items():
        save_file(tensors, folder / shard)
    table = {name: shard for shard, tensors in shards.items() for name in tensors}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    found = inspected(run, folder)
    files = [index, *(folder / shard for shard in dict.fromkeys(table.values()))]

    assert (found["format"], found["parameters"]) == ("safetensors", 11_178_051)
    assert found["bytes"] == sum(file.stat().st_size for file in files)
    assert found["sha256"] == hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def test_a_folder_without_weights_is_refused(run: Run) -> None:
    Path("run").mkdir()

    assert "run: it is a folder without weights" in sentence(run("inspect", "run"))


# nothing in a file is run

TRAP = """
from pathlib import Path
Path("sprung").touch()
class Trap:
    def __init__(self, *args): Path("sprung").touch()
    def __setstate__(self, state): Path("sprung").touch()
    def __call__(self, *args): Path("sprung").touch()
"""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A pickle of an object whose module leaves a file behind when it is imported."""
    (tmp_path / "trap_module.py").write_text(TRAP)
    monkeypatch.syspath_prepend(tmp_path)
    call = b"ctrap_module\nTrap\n(S'x'\ntR}b"  # GLOBAL, REDUCE, BUILD
    return b"\x80\x02}X\x04\x00\x00\x00trap" + call + b"s."


class Trapped:
    """Pickled as a call of what is named."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self.name,)


def saved_legacy(content: Any) -> Path:
    save_legacy(content)
    return Path("file")


@pytest.mark.parametrize("save", [saved, saved_legacy])
def test_what_a_pickle_would_import_is_listed_and_not_imported(
    run: Run, save: Callable[[Any], Path]
) -> None:
    content = {
        "state_dict": tiny(),
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.5),
        "trap": Trapped("__import__('pathlib').Path('sprung').touch()"),
    }
    found = inspected(run, save(content))

    assert {"argparse.Namespace", "builtins.eval"} <= {
        name.replace("__builtin__", "builtins") for name in found["unsafe_globals"]
    }
    assert not [name for name in found["unsafe_globals"] if name.startswith("torch._utils")]
    assert not Path("sprung").exists()
    assert found["model"] == "resnet18"


def test_a_module_that_a_pickle_names_is_not_imported(run: Run, trap: bytes) -> None:
    Path("trap.pkl").write_bytes(trap)
    found, _ = refused(run, Path("trap.pkl"))

    assert found["unsafe_globals"] == ["trap_module.Trap"]
    assert "trap_module" not in sys.modules
    assert not Path("sprung").exists()


def test_the_trap_would_have_sprung(trap: bytes) -> None:
    pickle.loads(trap)
    del sys.modules["trap_module"]

    assert Path("sprung").exists()


def test_the_file_is_left_as_it_was(run: Run) -> None:
    path = saved(tiny())
    before, files = path.read_bytes(), sorted(Path().iterdir())
    run("inspect", path)

    assert path.read_bytes() == before
    assert sorted(Path().iterdir()) == files


def test_a_folder_without_weights_is_a_record_as_well(run: Run) -> None:
    Path("empty").mkdir()
    result = run("inspect", "empty", "--format", "json")
    found = json.loads(result.stdout)

    assert result.exit_code == 1
    assert (found["path"], found["bytes"], found["sha256"]) == ("empty", None, None)
    assert "a folder without weights" in found["error"]
    assert found["error"] in result.stderr
