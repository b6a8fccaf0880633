import argparse
import hashlib
import json
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from conftest import DEMO, Run, trained

State = dict[str, Tensor]

KEYS = (
    "path", "bytes", "sha256", "format", "layout", "state_key", "stripped_prefix", "model",
    "num_classes", "in_channels", "classes", "classes_source", "preprocess", "parameters",
    "dtype", "unsafe_globals", "warnings",
)  # fmt: skip

IMAGENET: Any = models.ResNet18_Weights.IMAGENET1K_V1.transforms()

PUBLISHED = {
    name: models.get_model_weights(name).DEFAULT.meta
    for name in (
        "resnet18", "resnet34", "resnet50", "resnet152", "resnext50_32x4d", "wide_resnet50_2",
    )
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small pictures are done sooner by one thread than by several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(
    name: str = "resnet18", *, num_classes: int = 3, in_channels: int = 3, dtype: Any = torch.float
) -> State:
    """All names and shapes of a network; each tensor is one number, which takes no room."""
    random = torch.Generator().manual_seed(num_classes)
    with torch.device("meta"):
        network = models.get_model(name, num_classes=num_classes)
        network.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    return {
        key: torch.rand((), generator=random)
        .to(dtype if tensor.is_floating_point() else tensor.dtype)
        .expand(tensor.shape)
        for key, tensor in network.state_dict().items()
    }


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def describe_headless(state: Mapping[str, Tensor]) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def saved(content: Any, name: str = "model.pth") -> Path:
    path = Path(name)
    torch.save(content, path)
    return path


def inspected(run: Run, path: Path, *options: object) -> dict[str, Any]:
    """What inspect says of a file that it can say all of."""
    result = run("inspect", path, "--format", "json", *options)
    assert result.exit_code == 0
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(run: Run, path: Path, *options: object) -> tuple[dict[str, Any], str]:
    """What inspect can say all the same of a file that it refuses, and the sentence."""
    result = run("inspect", path, "--format", "json", *options)
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["path"] == str(path)
    assert found["bytes"] == path.stat().st_size
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    return found, sentence(result)


def sentence(result: Result) -> str:
    """The one line on stderr."""
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()
    return line


# every fact


def test_the_json_has_all_that_is_known_of_a_checkpoint(run: Run) -> None:
    path = saved(tiny())
    found = inspected(run, path)

    assert list(found)[: len(KEYS)] == list(KEYS)
    assert {key: found[key] for key in KEYS} == {
        "path": "model.pth",
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": "pickle-zip",
        "layout": "torchvision",
        "state_key": "",
        "stripped_prefix": "",
        "model": "resnet18",
        "num_classes": 3,
        "in_channels": 3,
        "classes": ["class_0", "class_1", "class_2"],
        "classes_source": "none found: give --classes",
        "preprocess": found["preprocess"],
        "parameters": sum(p.numel() for p in models.resnet18(num_classes=3).parameters()),
        "dtype": "float32",
        "unsafe_globals": [],
        "warnings": [],
    }
    assert (
        found["preprocess"]
        | {
            "resize_size": IMAGENET.resize_size[0],
            "crop_size": IMAGENET.crop_size[0],
            "interpolation": IMAGENET.interpolation.value,
            "mean": IMAGENET.mean,
            "std": IMAGENET.std,
            "color": "rgb",
        }
        == found["preprocess"]
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_published(run: Run, name: str) -> None:
    found = inspected(run, saved(tiny(name, num_classes=1000)))

    assert found["model"] == name
    assert found["parameters"] == PUBLISHED[name]["num_params"]
    assert found["classes"] == PUBLISHED[name]["categories"]
    assert "ImageNet" in found["classes_source"]


def save_legacy(state: State) -> None:
    torch.save(state, "file", _use_new_zipfile_serialization=False)


def save_safetensors(state: State) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, "file")


def save_arrays(state: State) -> None:
    arrays = {name: tensor.contiguous().numpy() for name, tensor in state.items()}
    Path("file").write_bytes(pickle.dumps(arrays))


def save_script(state: State) -> None:
    network = models.resnet18(num_classes=3)
    network.load_state_dict(state)
    torch.jit.save(torch.jit.trace(network.eval(), torch.zeros(1, 3, 32, 32)), "file")


FORMATS: dict[str, Callable[[State], None]] = {
    "pickle-legacy": save_legacy,
    "safetensors": save_safetensors,
    "pickle": save_arrays,
    "torchscript": save_script,
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.filterwarnings("ignore:.torch.jit")  # deprecated, and still in use
def test_the_format_is_reported(run: Run, kind: str) -> None:
    FORMATS[kind](tiny())
    found = inspected(run, Path("file"))

    assert found["format"] == kind
    assert (found["model"], found["num_classes"], found["dtype"]) == ("resnet18", 3, "float32")


def seconds(run: Run, path: Path) -> float:
    start = perf_counter()
    inspected(run, path)
    return perf_counter() - start


def test_arrays_of_numpy_are_not_looked_at_number_by_number(run: Run) -> None:
    save_arrays(tiny())

    assert seconds(run, Path("file")) < 1 + 10 * seconds(run, saved(tiny()))


@pytest.mark.parametrize(("wrap", "key", "prefix"), [
    (lambda s: {"epoch": 1, "state_dict": prefixed(s, "module.")}, "state_dict", "module."),
    (lambda s: {"a": {"b": [prefixed(s, "_orig_mod.net.")]}}, "a.b.0", "_orig_mod.net."),
    (lambda s: {"model_state_dict": s}, "model_state_dict", ""),
    (lambda s: prefixed(s, "model."), "", "model."),
])  # fmt: skip
def test_the_place_of_the_weights_is_reported(
    run: Run, wrap: Callable[[State], Any], key: str, prefix: str
) -> None:
    found = inspected(run, saved(wrap(tiny())))

    assert (found["state_key"], found["stripped_prefix"]) == (key, prefix)


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_other_numbers_of_channels_are_shown(run: Run, channels: int) -> None:
    path = saved(tiny(in_channels=channels))
    found = inspected(run, path)
    shown = run("inspect", path).stdout

    assert found["in_channels"] == channels
    assert re.search(rf"^in channels +{channels}$", shown, re.MULTILINE)
    assert found["parameters"] == 11_178_051 + (channels - 3) * 64 * 7 * 7


def test_greys_are_normalised_as_one_channel(run: Run) -> None:
    settings = inspected(run, saved(tiny(in_channels=1)))["preprocess"]

    assert (settings["mean"], settings["std"]) == ([0.449], [0.226])


def test_no_normalisation_is_claimed_for_channels_that_images_do_not_have(run: Run) -> None:
    settings = inspected(run, saved(tiny(in_channels=4)))["preprocess"]

    assert settings is None or len(settings["mean"]) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_reported(run: Run, dtype: torch.dtype) -> None:
    found = inspected(run, saved(tiny(dtype=dtype)))

    assert found["dtype"] == str(dtype).removeprefix("torch.")
    assert found["warnings"] == []


def test_mixed_dtypes_are_reported(run: Run) -> None:
    state = tiny(dtype=torch.float16)
    found = inspected(run, saved({**state, "bn1.running_var": torch.ones(64)}))

    assert found["dtype"] == "float16, float32"


# class names


def test_class_names_of_the_file_come_with_their_place(run: Run) -> None:
    content = {"state_dict": tiny(), "hyper_parameters": {"Class_To_Idx": {"b": 1, "a": 0, "c": 2}}}
    found = inspected(run, saved(content))

    assert found["classes"] == ["a", "b", "c"]
    assert "hyper_parameters.Class_To_Idx" in found["classes_source"]


def test_class_names_beside_the_file_come_with_their_place(run: Run) -> None:
    Path("model.classes.txt").write_text("ants\nbées\n蟻\n", encoding="utf-8")
    found = inspected(run, saved(tiny()))

    assert found["classes"] == ["ants", "bées", "蟻"]
    assert found["classes_source"] == "model.classes.txt"


def test_a_list_of_the_wrong_length_is_warned_of_with_both_numbers(run: Run) -> None:
    found = inspected(run, saved({"state_dict": tiny(), "classes": ["a", "b"]}))

    (warning,) = found["warnings"]
    assert re.search(r"\b2 class names\b.*\b3 outputs\b", warning)
    assert found["classes"] is None
    assert found["num_classes"] == 3


def test_a_list_of_the_wrong_length_hides_nothing_else(run: Run) -> None:
    found = inspected(run, saved({"state_dict": tiny(), "classes": ["a", "b"]}))

    assert found["preprocess"] == inspected(run, saved(tiny(), "plain.pth"))["preprocess"]


def test_the_record_of_a_file_is_reported(run: Run) -> None:
    found = inspected(run, DEMO)

    assert (found["format"], found["model"]) == ("safetensors", "resnet18")
    assert found["classes"] == ["ants", "bees"]
    assert "metadata" in found["classes_source"]


# warnings


@pytest.mark.parametrize(("name", "value"), [
    ("conv1.weight", float("nan")),
    ("layer3.0.bn2.weight", float("inf")),
    ("fc.bias", -float("inf")),
])  # fmt: skip
def test_numbers_that_are_none_are_warned_of(run: Run, name: str, value: float) -> None:
    state = tiny()
    state[name] = state[name].clone()
    state[name][-1] = value
    result = run("inspect", saved(state), "--format", "json")
    found = json.loads(result.stdout)

    assert [w for w in found["warnings"] if name in w and re.search("NaN|infinity", w)]
    assert found["model"] == "resnet18"


def test_statistics_that_were_never_updated_are_warned_of(run: Run) -> None:
    fresh = inspected(run, saved(models.resnet18(num_classes=3).state_dict()))
    used = inspected(run, saved(trained().state_dict()))

    assert [w for w in fresh["warnings"] if "batch-norm statistics were never updated" in w]
    assert used["warnings"] == []


@pytest.mark.parametrize(("part", "value"), [("mean", 0.1), ("var", 0.9)])
def test_one_statistic_that_moved_shows_training(run: Run, part: str, value: float) -> None:
    state = models.resnet18(num_classes=3).state_dict()
    state[f"layer4.1.bn2.running_{part}"][-1] = value

    assert inspected(run, saved(state))["warnings"] == []


def test_statistics_of_a_network_that_saw_one_batch_are_not_warned_of(run: Run) -> None:
    network = models.resnet18(num_classes=3).train()
    network(torch.rand(2, 3, 32, 32))

    assert inspected(run, saved(network.state_dict()))["warnings"] == []


def test_unused_keys_are_warned_of(run: Run) -> None:
    extra = {
        "extra.weight": torch.ones(7),
        "criterion.weight": torch.ones(3),  # of a loss, which no prediction takes
        "model.bn1.total_ops": torch.zeros(1),  # of a profiler, which nobody misses
        "n_averaged": torch.tensor(3),  # of an average
    }
    found = inspected(run, saved({"state_dict": {**prefixed(tiny(), "model."), **extra}}))

    (warning,) = found["warnings"]
    assert warning == "unused: extra.weight"


def test_optimizer_state_causes_no_warning(run: Run) -> None:
    state = tiny()
    momenta = {i: {"momentum_buffer": tensor} for i, tensor in enumerate(state.values())}
    optimizer = {"state": momenta, "param_groups": [{"lr": 0.1, "params": [0, 1, 2]}]}
    content = {"epoch": 3, "state_dict": state, "optimizer": optimizer}

    assert inspected(run, saved(content))["warnings"] == []


# several weights


@pytest.fixture
def twins() -> Path:
    """Plain weights of 3 classes and averaged ones of 4, which so are told apart."""
    return saved({"model": tiny(), "model_ema": tiny(num_classes=4)})


@pytest.mark.parametrize(("options", "key", "classes"), [
    ((), "model_ema", 4),
    (("--ema",), "model_ema", 4),
    (("--no-ema",), "model", 3),
    (("--state-key", "model"), "model", 3),
    (("--state-key", "model_ema", "--no-ema"), "model_ema", 4),
])  # fmt: skip
def test_of_several_weights_the_chosen_are_shown(
    run: Run, twins: Path, options: tuple[str, ...], key: str, classes: int
) -> None:
    found = inspected(run, twins, *options)

    assert (found["state_key"], found["num_classes"]) == (key, classes)
    (warning,) = found["warnings"]
    assert re.search(rf"several weights.*\bmodel\b.*\bmodel_ema\b.*these are {key}$", warning)


def test_a_state_key_that_is_not_there_is_refused_with_those_that_are(
    run: Run, twins: Path
) -> None:
    found, complaint = refused(run, twins, "--state-key", "teacher")

    assert re.search(r"'teacher'.*\bmodel\b.*\bmodel_ema\b", complaint)
    assert found["model"] is None


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


# the table

HOSTILE = "\x1b[31mred\x1b]0;title\x07\u202e\n" + "x" * 200


def hostile_classes() -> Path:
    return saved({"state_dict": tiny(), "classes": [HOSTILE, "b\r\nc", "d"]})


def hostile_key() -> Path:
    return saved({HOSTILE: prefixed(tiny(), HOSTILE.replace("x", "module") + ".")})


def hostile_extras() -> Path:
    return saved({**prefixed(tiny(), "net."), **{HOSTILE + str(i): torch.ones(1) for i in "abc"}})


def hostile_import() -> Path:
    path = Path("model.pkl")
    name = HOSTILE.replace("\n", "").encode("ascii", "ignore")
    path.write_bytes(b"\x80\x02}X\x01\x00\x00\x00ac" + name + b"\nname with spaces\n)Rs.")
    return path


def hostile_name() -> Path:
    return saved(tiny(), f"{HOSTILE[:-80]}.pth")


def several_warnings() -> Path:
    state = describe_headless(tiny()) | {"fc.weight": torch.full((3, 512), float("nan"))}
    return saved({"classes": ["a"], "one": state, "two": prefixed(tiny(), "model." * 20)})


TABLES: dict[str, Callable[[], Path]] = {
    "plain": lambda: saved(tiny()),
    "thousand classes": lambda: saved(tiny(num_classes=1000)),
    "hostile classes": hostile_classes,
    "hostile key": hostile_key,
    "hostile extras": hostile_extras,
    "hostile import": hostile_import,
    "hostile name": hostile_name,
    "several warnings": several_warnings,
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_table_fits_its_terminal(run: Run, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("inspect", TABLES[kind]())

    assert result.stdout
    assert [line for line in result.stdout.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("kind", [kind for kind in TABLES if "hostile" in kind])
def test_the_table_cannot_take_over_a_terminal(run: Run, kind: str) -> None:
    result = run("inspect", TABLES[kind]())
    lines = (result.stdout + result.stderr).split("\n")

    assert "[31mred" in result.stdout
    assert [line for line in lines if not line.isprintable()] == []


def test_a_hostile_name_breaks_no_json(run: Run) -> None:
    assert inspected(run, hostile_classes())["classes"] == [HOSTILE, "b\r\nc", "d"]


def test_the_table_shows_what_the_json_has(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = saved({"state_dict": prefixed(tiny(), "module."), "classes": ["ant", "bee", "wasp"]})
    found = inspected(run, path)
    table = run("inspect", path).stdout
    names = "|".join(key.replace("_", " ") for key in sorted(KEYS, key=len, reverse=True))
    lines = dict(re.findall(rf"^({names}) +(\S.*)$", table, re.MULTILINE))

    for key in ("path", "sha256", "format", "layout", "state_key", "stripped_prefix", "model",
                "num_classes", "in_channels", "dtype", "classes_source"):  # fmt: skip
        assert lines.pop(key.replace("_", " ")) == str(found[key])
    assert lines.pop("bytes") == f"{found['bytes']:,}"
    assert lines.pop("parameters") == "11,178,051"
    assert lines.pop("classes") == "ant, bee, wasp"
    assert "256" in lines.pop("preprocess")
    assert lines == {}


def test_every_warning_is_in_the_table(run: Run) -> None:
    path = several_warnings()
    shown = "".join(run("inspect", path).stdout.split())  # long words are broken, too

    warnings = json.loads(run("inspect", path, "--format", "json").stdout)["warnings"]
    assert len(warnings) >= 2
    for warning in warnings:
        assert "".join(warning.split()) in shown


def test_a_folder_without_weights_is_a_record_as_well(run: Run) -> None:
    Path("empty").mkdir()
    result = run("inspect", "empty", "--format", "json")
    found = json.loads(result.stdout)

    assert result.exit_code == 1
    assert (found["path"], found["bytes"], found["sha256"]) == ("empty", None, None)
    assert "a folder without weights" in found["error"]
    assert found["error"] in result.stderr
