import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights

from checkpoints import opened, tiny
from resnet_cli import Classifier
from resnet_cli.checkpoint.formats import read_contents
from resnet_cli.checkpoint.metadata.class_names import numbered_lines, read_file
from resnet_cli.checkpoint.metadata.classes import ClassNames, find_classes
from resnet_cli.errors import CheckpointError, SettingError, UserError

NAMES = ("ants", "bees", "crickets")


def saved(extras: dict[str, Any] | None = None) -> Path:
    """Save what stands in a checkpoint beside its weights; only their number of outputs counts."""
    path = Path("model.pth")
    torch.save({"epoch": 3, "state_dict": {}, **(extras or {})}, path)
    return path


def classes(path: Path, given: Any = None, *, num_classes: int = 3) -> ClassNames:
    return find_classes(given, read_contents(path), path, num_classes)


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


LONG = [f"Species number {number} of the long list" for number in range(60)]


@pytest.mark.parametrize(
    "given", [list(NAMES), NAMES, "ants,bees,crickets", "ants, bees , crickets"]
)
def test_names_are_given_as_a_list_or_as_text(given: Any) -> None:
    assert classes(saved(), given).names == NAMES


def test_a_long_list_is_given_as_text() -> None:
    assert classes(saved(), ",".join(LONG), num_classes=60).names == tuple(LONG)


def test_a_given_name_may_hold_a_dot_or_a_slash() -> None:
    assert classes(saved(), "St. Bernard,dog/cat,v1.5").names == ("St. Bernard", "dog/cat", "v1.5")


@pytest.mark.parametrize(("name", "text"), [
    ("c.txt", "ants\nbees\ncrickets\n"),
    ("c.txt", "ants\r\nbees\r\n\r\ncrickets"),
    ("c.TXT", "\ufeffants\nbees \n crickets\n"),
    ("c.json", '["ants", "bees", "crickets"]'),
    ("c.json", '\ufeff["ants", "bees", "crickets"]'),
    ("c.json", '{"bees": 1, "crickets": 2, "ants": 0}'),
    ("c.json", '{"epochs": 9, "Class_Names": ["ants", "bees", "crickets"]}'),
    ("c.json", '{"classes": 3, "names": ["ants", "bees", "crickets"]}'),
    ("c.json", '{"1": "bees", "2": "crickets", "0": "ants"}'),
    ("c.csv", "ants\nbees\ncrickets\n"),
    ("c.csv", "name\nants\nbees\ncrickets\n"),
    ("c.csv", "Class Name\nants\nbees\ncrickets\n"),
    ("c.csv", "ants,bees,crickets\n"),
    ("c.csv", "ants,bees,crickets,\n"),
    ("c.csv", "index,label\n1,bees\n2,crickets\n0,ants\n"),
    ("c.csv", "label,index\r\nbees,1\r\ncrickets,2\r\nants,0\r\n"),
    ("c.csv", "\ufeffClass,ID\nbees,1\ncrickets,2\nants,0\n"),
    ("c.csv", "1,bees\n2,crickets\n0,ants\n"),
    ("c.csv", "bees,1\n\ncrickets,2\nants,0\n"),
])  # fmt: skip
@pytest.mark.parametrize("kind", [str, Path])
def test_names_are_read_from_a_file(name: str, text: str, kind: type[str] | type[Path]) -> None:
    write(name, text)
    found = classes(saved(), kind(name))

    assert found.names == NAMES
    assert name in found.source


def test_names_in_a_csv_may_hold_commas_and_quotes() -> None:
    write("c.csv", 'index,label\n0,"great white shark, white shark"\n1,"so-called ""ant"""\n2,é\n')

    assert classes(saved(), "c.csv").names == (
        "great white shark, white shark", 'so-called "ant"', "é",
    )  # fmt: skip


def test_ten_names_by_index_are_sorted_as_numbers() -> None:
    names = tuple(f"c{number}" for number in range(12))
    write("c.json", json.dumps({str(n): names[n] for n in sorted(range(12), key=str)}))

    assert classes(saved(), "c.json", num_classes=12).names == names


@pytest.mark.parametrize(("name", "data"), [
    ("c.txt", b""), ("c.txt", b"\n\n"), ("c.txt", b"\xff\xfe\x00"), ("c.txt", b"M\xf6we"),
    ("c.json", b"{broken"), ("c.json", b"[]"), ("c.json", b"[1, 2, 3]"), ("c.json", b"3"),
    ("c.json", b'{"ants": 0, "bees": 2, "crickets": 3}'), ("c.json", b'{"ants": "first"}'),
    ("c.json", b'{"ants": 0, "Ants": 0, "bees": 1, "crickets": 2}'),
    ("c.csv", b""), ("c.csv", b"a,b,c\nd,e,f\n"),
    ("c.csv", b"0,ants\n0,Ants\n1,bees\n2,crickets\n"),
    ("c.csv", b"0,ants\n2,bees\n3,crickets\n"), ("c.csv", b"\xff\xfe"),
])  # fmt: skip
def test_a_file_that_holds_no_names_is_refused(name: str, data: bytes) -> None:
    Path(name).write_bytes(data)

    with pytest.raises(SettingError, match=rf"cannot read class names from {name}: "):
        classes(saved(), name)


def test_a_file_of_another_kind_is_refused_with_the_right_kinds() -> None:
    write("c.pbtxt", "item { id: 1 name: 'ants' }\n")

    with pytest.raises(
        SettingError, match=r"from c\.pbtxt: the suffix must be one of \.txt, \.json, \.csv"
    ):
        classes(saved(), "c.pbtxt")


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SettingError, match=r"cannot read class names from gone\.txt: No such"):
        classes(saved(), "gone.txt")


@pytest.mark.parametrize("key", ["classes", "class_names", "names", "labels", "label_names",
                                 "class_to_idx", "idx_to_class", "id2label"])  # fmt: skip
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_names_are_found_under_any_usual_key(key: str, spell: Any) -> None:
    found = classes(saved({spell(key): list(NAMES)}))

    assert found.names == NAMES
    assert spell(key) in found.source


@pytest.mark.parametrize(("key", "value"), [
    ("classes", NAMES),
    ("class_to_idx", {"bees": 1, "crickets": 2, "ants": 0}),
    ("class_to_idx", OrderedDict(ants=0, bees=1, crickets=2)),
    ("idx_to_class", {1: "bees", 2: "crickets", 0: "ants"}),
    ("id2label", {"1": "bees", "2": "crickets", "0": "ants"}),
])  # fmt: skip
def test_names_in_a_checkpoint_have_any_usual_form(key: str, value: Any) -> None:
    assert classes(saved({key: value})).names == NAMES


@pytest.mark.parametrize("extras", [
    {"meta": {"data": {"classes": list(NAMES)}}},
    {"hyper_parameters": {"id2label": dict(enumerate(NAMES))}},
], ids=["dicts", "index to name"])  # fmt: skip
def test_names_are_found_at_any_depth(extras: dict[str, Any]) -> None:
    assert classes(saved(extras)).names == NAMES


@pytest.mark.parametrize("key", ["optimizer", "optimizer_state_dict", "optimizer_states", "optim",
                                 "Optimizer"])  # fmt: skip
def test_the_state_of_an_optimizer_is_not_searched(key: str) -> None:
    path = saved({key: {"param_groups": [], "state": {"names": ["w1", "w2", "w3"]}}})

    assert classes(path).names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize("value", [3, "ants,bees", [0, 1, 2], [], {}, {"a": 0.5}, torch.zeros(3)])
def test_values_that_are_not_names_are_ignored(value: Any) -> None:
    found = classes(saved({"classes": value, "z": {"labels": list(NAMES)}}))

    assert found.names == NAMES


def test_values_without_numbers_are_not_reported_as_misnumbered() -> None:
    assert classes(saved({"labels": {"task": "x", "run": "y"}})).source.startswith("none found")


@pytest.mark.parametrize(
    ("key", "value"),
    [("class_to_idx", {"ants": 1, "bees": 2, "crickets": 3}), ("id2label", {0: "ants", 2: "bees"})],
)
def test_names_with_other_numbers_are_reported(key: str, value: Any) -> None:
    found = classes(saved({"meta": {key: value}}))

    assert found.made_up
    assert found.source == (
        f"meta.{key} in the checkpoint does not number its names from 0 on: give --classes"
    )


@pytest.mark.parametrize(("key", "value"), [
    ("classes", list(NAMES)),
    ("class_to_idx", {"bees": 1, "crickets": 2, "ants": 0}),
    ("CLASSES", list(NAMES)),
    ("id2label", {"1": "bees", "2": "crickets", "0": "ants"}),
])  # fmt: skip
def test_names_are_found_in_safetensors_metadata(key: str, value: Any) -> None:
    state = {name: tensor.contiguous() for name, tensor in tiny().items()}
    save_file(state, "model.safetensors", {key: json.dumps(value), "classes_note": "none"})
    found = classes(Path("model.safetensors"))

    assert found.names == NAMES
    assert f"{key} in the metadata" in found.source


@pytest.mark.parametrize("config", [
    {"id2label": {"0": "ants", "1": "bees", "2": "crickets"}, "label2id": {}},
    {"architecture": "resnet18", "num_classes": 3, "label_names": list(NAMES)},
    {"model": {"id2label": {"0": "ants", "1": "bees", "2": "crickets"}}},
], ids=["transformers", "timm", "deeper"])  # fmt: skip
def test_names_are_found_in_config_json(config: dict[str, Any]) -> None:
    write("config.json", json.dumps(config))
    found = classes(saved())

    assert found.names == NAMES
    assert "config.json" in found.source


@pytest.mark.parametrize("text", ["{broken", "[]", '{"hidden_sizes": [64]}', '{"id2label": {}}'])
def test_a_config_without_names_is_passed_over(text: str) -> None:
    write("config.json", text)
    write("classes.txt", "ants\nbees\ncrickets\n")

    assert classes(saved()).source == "classes.txt"


@pytest.mark.parametrize("name", ["model.classes.txt", "model.json", "classes.txt", "classes.json",
                                  "labels.txt", "labels.json", "class_names.txt",
                                  "class_names.json"])  # fmt: skip
def test_names_are_found_beside_the_checkpoint(name: str) -> None:
    write(name, json.dumps(NAMES) if name.endswith("json") else "\n".join(NAMES))
    found = classes(saved())

    assert found == ClassNames(NAMES, name)


def test_names_beside_a_checkpoint_in_another_folder_are_found() -> None:
    Path("deep/er").mkdir(parents=True)
    path = saved().rename("deep/er/model.pth")
    write("classes.txt", "wrong\nfolder\nhere\n")
    write("deep/er/labels.txt", "ants\nbees\ncrickets\n")

    assert classes(path) == ClassNames(NAMES, "deep/er/labels.txt")


def test_the_files_of_another_checkpoint_are_not_read() -> None:
    write("other.classes.txt", "ants\nbees\ncrickets\n")
    write("other.json", json.dumps(NAMES))

    assert classes(saved()).names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize("log", [{"epoch": 3, "loss": 0.5}, {"labels": ["cat", "dog"]}])
def test_a_log_with_the_name_of_the_checkpoint_is_passed_over(log: dict[str, Any]) -> None:
    write("model.json", json.dumps(log))
    write("labels.txt", "ants\nbees\ncrickets\n")

    assert classes(saved()).source == "labels.txt"


def names_of(place: str) -> list[str]:
    return [f"{place} {number}" for number in range(3)]


def test_the_first_place_that_has_names_is_taken() -> None:
    """From the last place to the first, each is preferred to all that follow it."""
    beside = ["class_names.txt", "labels.txt", "classes.txt", "model.json", "model.classes.txt"]
    assert classes(saved()).names == ("class_0", "class_1", "class_2")
    for place in beside:
        names = names_of(place)
        write(place, json.dumps(names) if place.endswith("json") else "\n".join(names))
        assert classes(saved()).names == tuple(names)

    write("config.json", json.dumps({"id2label": dict(enumerate(names_of("config")))}))
    assert classes(saved()).names == tuple(names_of("config"))
    inside = saved({"classes": names_of("inside")})
    assert classes(inside).names == tuple(names_of("inside"))
    assert classes(inside, names_of("given")).names == tuple(names_of("given"))


def test_a_thousand_outputs_are_those_of_imagenet() -> None:
    found = classes(saved(), num_classes=1000)

    assert list(found.names) == ResNet50_Weights.DEFAULT.meta["categories"]
    assert "ImageNet" in found.source


def test_names_of_ones_own_are_preferred_to_imagenet() -> None:
    names = [f"mine {number}" for number in range(1000)]

    assert list(classes(saved({"classes": names}), num_classes=1000).names) == names


@pytest.mark.parametrize("count", [2, 3, 999, 1001])
def test_without_names_the_classes_are_numbered(count: int) -> None:
    found = classes(saved(), num_classes=count)

    assert found.names == tuple(f"class_{index}" for index in range(count))
    assert "--classes" in found.source


@pytest.mark.parametrize(("given", "names"), [
    ("ants,bees", 2), (["a", "b", "c", "d"], 4), ("ants", 1), ("c.txt", 2), ([], 0),
])  # fmt: skip
def test_a_given_list_of_the_wrong_length_is_an_error_with_both_numbers(
    given: Any, names: int
) -> None:
    write("c.txt", "ants\nbees\n")

    with pytest.raises(SettingError, match=rf"^{names} class name.* for a network of 3 outputs"):
        classes(saved(), given)


def test_names_inside_of_the_wrong_length_are_an_error_with_both_numbers() -> None:
    with pytest.raises(CheckpointError, match=r"^2 class names \(classes.*of 3 outputs.*--classes"):
        classes(saved({"classes": ["ants", "bees"]}))


def test_names_beside_of_the_wrong_length_are_an_error_with_both_numbers() -> None:
    write("classes.txt", "ants\nbees\n")

    with pytest.raises(CheckpointError, match=r"^2 class names \(classes\.txt\).*of 3 outputs"):
        classes(saved())


def test_given_names_mend_those_of_the_wrong_length() -> None:
    assert classes(saved({"classes": ["ants", "bees"]}), NAMES).names == NAMES


def test_a_binary_file_of_names_is_refused_in_a_sentence() -> None:
    Path("labels.txt").write_bytes("Bär\nBiene\nKäfer\n".encode("latin-1"))

    with pytest.raises(UserError, match=r"labels\.txt"):
        classes(saved())


@pytest.mark.parametrize(("given", "names"), [
    (["bee"], ("bee",)), (["ant", "bee"], ("ant", "bee")), ("ant,bee", ("ant", "bee")),
])  # fmt: skip
def test_a_single_output_takes_one_name_or_two(given: Any, names: tuple[str, ...]) -> None:
    assert classes(saved(), given, num_classes=1).names == names


def test_a_single_output_does_not_take_three_names() -> None:
    with pytest.raises(
        SettingError, match=r"^3 class names .* for a network of 1 output: give one name, or two$"
    ):
        classes(saved(), NAMES, num_classes=1)


def test_a_single_output_without_names_has_two_classes() -> None:
    assert classes(saved(), num_classes=1).names == ("class_0", "class_1")


def test_two_outputs_do_not_take_a_single_name() -> None:
    with pytest.raises(SettingError, match=r"^1 class name .* of 2 outputs"):
        classes(saved(), ["bee"], num_classes=2)


def test_names_come_with_the_network_that_they_are_for() -> None:
    torch.save({"model": tiny(num_classes=4), "meta": {"names": list("abcd")}}, "model.pth")
    torch.save({"model": tiny(num_classes=5), "meta": {"names": list("abcd")}}, "wrong.pth")

    assert opened(Path("model.pth")).classes.names == ("a", "b", "c", "d")
    assert opened(Path("model.pth"), classes="w,x,y,z").classes.names == ("w", "x", "y", "z")
    with pytest.raises(CheckpointError, match=r"^4 class names .* of 5 outputs"):
        opened(Path("wrong.pth"))


@pytest.mark.parametrize(("given", "index_1"), [(["bee"], "bee"), (["ant", "bee"], "bee")])
def test_index_1_of_a_single_output_has_the_name(given: list[str], index_1: str) -> None:
    torch.save(tiny(num_classes=1), "model.pth")
    names = Classifier.load("model.pth", classes=given, device="cpu").class_names

    assert len(set(names)) == 2
    assert names[1] == index_1


def test_numbers_that_transformers_writes_do_not_hide_the_names_of_imagenet() -> None:
    path = saved()
    Path("config.json").write_text(json.dumps({"id2label": {n: f"LABEL_{n}" for n in range(1000)}}))

    assert classes(path, num_classes=1000).names[0] == "tench"


@pytest.mark.parametrize(
    "text", ["a" + " " * 10**6 + "b\nc d", "a" * 10**6 + "\nb", "a 1 " * 200_000 + "x\nb"]
)
def test_a_line_without_end_does_not_hang(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.txt").write_text(text)

    assert numbered_lines(text.split("\n")) is None
    with pytest.raises(SettingError, match="cannot read class names"):
        read_file(tmp_path / "classes.txt")
