"""Folders of some classes only, by name or WordNet number, and data sets with splits above them."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import ResNet18_Weights

from commands import SMALL
from conftest import Run, picture, trained
from resnet_cli.errors import InputError
from resnet_cli.evaluate.dataset import Dataset, label_by_folder, label_by_table
from resnet_cli.evaluate.scorecard import Scorecard
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.sources.truth import Lookup, folder_truth

CATEGORIES = ResNet18_Weights.DEFAULT.meta["categories"]

KNOWN = {  # of WordNet, as anybody can look up
    "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player",
    "n03000684": "chain saw", "n03028079": "church", "n03394916": "French horn",
    "n03417042": "garbage truck", "n03425413": "gas pump", "n03445777": "golf ball",
    "n03888257": "parachute", "n15075141": "toilet tissue",
}  # fmt: skip


def labelled(*folders: str) -> None:
    """Make an image that nobody opens in each folder below ``d``."""
    for name in folders:
        Path("d", name).mkdir(parents=True)
        Path("d", name, "1.jpg").touch()


def matched(dataset: Dataset, names: Sequence[str]) -> dict[str, str]:
    return {
        Path(path).parent.name: names[truth]
        for path, truth in zip(dataset.paths, dataset.truths, strict=True)
    }


def test_wordnet_numbers_are_matched_to_the_classes_of_imagenet() -> None:
    labelled(*KNOWN)
    dataset = label_by_folder("d", CATEGORIES)
    assert matched(dataset, CATEGORIES) == KNOWN
    assert any(note.startswith("11 of 1,000 classes have a folder") for note in dataset.notes)
    assert any("n01440764 is tench" in note for note in dataset.notes)


@pytest.mark.parametrize("order", [1, -1])
def test_a_network_of_a_few_of_them_is_matched_by_name(order: int) -> None:
    labelled(*list(KNOWN)[:4])
    names = [*KNOWN.values()][::order]
    assert matched(label_by_folder("d", names), names) == dict(list(KNOWN.items())[:4])


@pytest.mark.parametrize("end", ["", "-golden_retriever", "_dog", " x"])
def test_what_follows_the_number_does_not_matter(end: str) -> None:
    labelled(f"n02099601{end}", "n02085620-Chihuahua")
    assert set(matched(label_by_folder("d", CATEGORIES), CATEGORIES).values()) == {
        "golden retriever", "Chihuahua",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["n0144076", "n014407640", "N01440764", "n99999999", "n01440764a"])
def test_other_numbers_are_no_classes(name: str) -> None:
    labelled(name, "n02102040")
    with pytest.raises(InputError, match=f"cannot match d to the classes by name: {name} is no"):
        label_by_folder("d", CATEGORIES)


def test_imagenet_is_known_by_other_lists_of_its_names() -> None:
    # as others write them: more names each, some of them others
    names = [f"{name}, Latin name {number}" for number, name in enumerate(CATEGORIES)]
    names[0], names[134] = "Tinca tinca", "crane"
    assert Lookup(names).indices("n01440764") == [0]
    labelled("n01440764", "English_springer", "n02012849")  # the last is crane, the bird
    assert sorted(label_by_folder("d", names).truths) == [
        0,
        134,
        CATEGORIES.index("English springer"),
    ]


def test_a_thousand_other_names_have_no_numbers() -> None:
    assert Lookup([f"class_{number}" for number in range(1000)]).indices("n01440764") == []
    shifted = [*CATEGORIES[1:], CATEGORIES[0]]
    assert Lookup(shifted).indices("n01440764") == [999]


@pytest.mark.parametrize(("name", "found"), [("tench", [0]), ("Tinca_tinca", [0]), ("ray", [1, 2]),
                                             ("sting ray", [2]), ("tin", [])])  # fmt: skip
def test_one_of_several_names_will_do(name: str, found: list[int]) -> None:
    lookup = Lookup(["tench, Tinca tinca", "electric ray, ray", "sting ray, ray"])
    assert lookup.indices(name) == found


def test_reports_of_predict_know_the_numbers() -> None:
    truth = folder_truth(CATEGORIES)
    assert truth(Item("d/n02102040/1.jpg")) == "English springer"
    assert truth(Item("d/n99999999/1.jpg")) is None


def test_a_misspelt_folder_of_a_subset_lists_both_sides() -> None:
    labelled("n01440764", "n02102040", "gas pumpp")
    with pytest.raises(
        InputError, match=r"gas pumpp is not a class .* 998 of its 1,000 classes have no label: "
    ):
        label_by_folder("d", CATEGORIES)


def test_labels_of_a_table_may_be_numbers() -> None:
    Path("l.csv").write_text("path,label\na.jpg,n01440764\nb.jpg,tench\nc.jpg,n02102040\n")
    dataset = label_by_table(Path("l.csv"), ".", CATEGORIES)
    assert [CATEGORIES[truth] for truth in dataset.truths] == ["tench"] * 2 + ["English springer"]


def scored(logits: Tensor, truths: Sequence[int], *, kept: int, whole: bool) -> Scorecard:
    """Score images of a random network of ten classes."""
    card = Scorecard([str(index) for index in range(10)], present=set(truths))
    for row, truth in zip(logits.softmax(1), truths, strict=True):
        top = row.topk(kept)
        scores = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        distribution = row.numpy().astype(np.float32) if whole else None
        card.add(
            Prediction(
                Item("x"), tuple(Score(str(i), i, p) for i, p in scores), distribution=distribution
            ),
            truth,
        )
    return card


@pytest.mark.parametrize("present", [[2, 7], [0, 3, 4, 9]])
def test_top1_of_the_subset_is_the_best_of_its_classes(present: list[int]) -> None:
    torch.manual_seed(1)
    logits = torch.randn(60, 10)
    truths = [present[number % len(present)] for number in range(60)]
    masked = torch.full_like(logits, -torch.inf)
    masked[:, present] = logits[:, present]
    expected = int((masked.argmax(1) == torch.tensor(truths)).sum())
    for kept, whole in ((10, False), (5, True), (1, True)):
        found = scored(logits, truths, kept=kept, whole=whole).evaluation()
        assert found.subset is not None
        assert (found.subset.classes, found.subset.outputs) == (len(present), 10)
        assert (found.subset.top1.right, found.subset.top1.images) == (expected, 60)
        assert found.top1.right == int((logits.argmax(1) == torch.tensor(truths)).sum())
    assert scored(logits, truths, kept=1, whole=False).evaluation().subset is None


@pytest.mark.parametrize("truths", [[3], list(range(10))])
def test_one_class_alone_and_all_of_them_are_no_subset(truths: list[int]) -> None:
    card = scored(torch.randn(len(truths), 10), truths, kept=10, whole=True)
    assert card.evaluation().subset is None


def test_text_figures_and_report_say_both(run: Run) -> None:
    torch.save(trained(num_classes=1000).state_dict(), "big.pth")
    for number, name in enumerate(list(KNOWN)[:3] * 2):
        picture(Path("d", name, f"{number}.jpg"), (60, 50), seed=number)
    options = ("-c", "big.pth", *SMALL, "-o", "m.json", "--report", "r.html")
    result = run("evaluate", "d", *options)
    assert result.exit_code == 0
    words = "top-1 among the 3 of 1,000 classes that have images"
    assert words in result.stdout
    figures = json.loads(Path("m.json").read_text())
    run("predict", "d", *options[:-4], "-k", 1000, "-o", "p.csv")
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))
    places = [CATEGORIES.index(KNOWN[name]) for name in list(KNOWN)[:3]]
    right = 0
    for row in rows:
        ranked = [int(row["index"]), *(int(row[f"index_{k}"]) for k in range(2, 1001))]
        best = next(index for index in ranked if index in places)
        right += CATEGORIES[best] == KNOWN[Path(row["path"]).parent.name]
    assert figures["subset"]["top1"]["right"] == right
    assert figures["subset"]["classes"] == 3
    assert "among the 3 of 1,000 classes that have images" in Path("r.html").read_text()
    saved = run("evaluate", "d", "--predictions", "p.csv", "-o", "again.json")
    assert words in saved.stdout
    assert json.loads(Path("again.json").read_text())["subset"] == figures["subset"]


# splits


@pytest.mark.parametrize(
    ("folders", "better"),
    [
        (["train/a", "train/b", "val/a", "val/b"], "d/val"),
        (["Training/a", "Training/b", "Validation/a", "Validation/b"], "d/Validation"),
        (["test/a", "test/b", "train/a"], "d/test"),
        (["fold0/a", "fold0/b", "fold1/a"], "d/fold0"),
        (["train/x", "train/y", "valid/x", "valid/y"], "d/valid"),
        (["Data/train/a", "Data/val/a", "Data/val/b"], "d/Data/val"),
        (["site 1/a", "site 1/b", "site 2/a"], "d/site 1"),
        (["hymenoptera/A ", "hymenoptera/B"], "d/hymenoptera"),
        (["val/n02102040", "train/n02102040"], "d/val"),
    ],
)
def test_a_folder_above_the_classes_names_the_one_to_give(folders: list[str], better: str) -> None:
    labelled(*folders)
    names = CATEGORIES if "val/n02102040" in folders else ["a", "b"]
    with pytest.raises(InputError, match="cannot evaluate on d: ") as caught:
        label_by_folder("d", names)
    assert str(caught.value).endswith(f": evaluate {better}")
    assert "--classes" not in str(caught.value)


@pytest.mark.parametrize(
    ("folders", "complaint"),
    [
        (["cat/2021", "cat/2022", "dog/2021"], "cat, dog are not classes"),
        (["cat", "dog"], "cat, dog are not classes"),
        (["train", "val"], "train, val are not classes"),
        (["a", "train/a", "zebra"], "train, zebra are not classes"),
    ],
)
def test_other_folders_are_held_against_the_classes(folders: list[str], complaint: str) -> None:
    labelled(*folders)
    with pytest.raises(InputError, match=f"cannot match d to the classes by name: {complaint}"):
        label_by_folder("d", ["a", "b"])


def test_classes_may_be_called_like_splits_and_hold_folders() -> None:
    labelled("train/2021", "car/test", "train/val")
    assert sorted(label_by_folder("d", ["car", "train"]).truths) == [0, 1, 1]


def test_the_field_folders(run: Run, data: Path) -> None:
    script = data / "field" / "make_evaluation_folders.py"
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True)
    imagenet = data / "checkpoints" / "resnet18_imagenet.pth"
    assert run("evaluate", "synsets", "-c", imagenet, "--exact", "-o", "m.json").exit_code == 0
    assert json.loads(Path("m.json").read_text())["top1"]["right"] == 9
    ants = data / "checkpoints" / "ants_bees_resnet18_epoch14.pkl"
    for options in ((), ("--classes", "ants,bees")):
        refused = run("evaluate", "splits", "-c", ants, *options)
        assert refused.exit_code == 1
        assert refused.stderr.splitlines()[-1].endswith("evaluate splits/val")
    kept = run("evaluate", "notebook", "-c", ants, "--classes", "ants,bees")
    assert kept.stdout.startswith("2 images")
    assert "Note: skipped 2 hidden or system files" in kept.stderr
