from pathlib import Path
from unicodedata import normalize

import pytest

from resnet_cli.errors import InputError
from resnet_cli.records import Item
from resnet_cli.sources.truth import Labelled, Lookup, folder_truth, read_labels

NAMES = ("house finch", "Great_Grey.Owl", "10", "1.0", "-1", "1", "C", "c", "crane", "crane")


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("house finch", "house finch"),
        ("House_Finch", "house finch"),
        ("HOUSE--FINCH ", "house finch"),
        ("great grey owl", "Great_Grey.Owl"),
        ("housefinch", None),
        ("10", "10"),
        ("1_0", "1.0"),
        ("-1", "-1"),
        ("1", "1"),
        ("c", "c"),
        ("C", "C"),
        ("crane", "crane"),
        ("finch", None),
        ("", None),
    ],
)
def test_a_folder_is_matched_by_name(folder: str, label: str | None) -> None:
    assert folder_truth(NAMES)(Item(f"photos/{folder}/1.jpg")) == label


def test_what_could_be_two_classes_is_none() -> None:
    assert folder_truth(["red ant", "Red-Ant"])(Item("red_ant/1.jpg")) is None
    assert folder_truth(["red ant", "Red-Ant"])(Item("Red-Ant/1.jpg")) == "Red-Ant"


def test_a_name_of_two_classes_has_two_indices() -> None:
    lookup = Lookup(NAMES)
    assert list(lookup.indices("crane")) == [8, 9]
    assert list(lookup.indices("Crane")) == [8, 9]
    assert list(lookup.indices("heron")) == []


def test_accents_written_in_two_ways_are_one() -> None:
    decomposed = normalize("NFD", "Bébé")
    assert decomposed != "Bébé"
    assert folder_truth(["Bébé"])(Item(f"{decomposed}/1.jpg")) == "Bébé"


def test_the_folder_of_a_picture_here_is_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bees").mkdir()
    monkeypatch.chdir(tmp_path / "bees")
    assert folder_truth(["ants", "bees"])(Item("1.jpg")) == "bees"


def test_only_the_folder_itself_counts() -> None:
    assert folder_truth(["ants", "bees"])(Item("ants/of 2020/1.jpg")) is None


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("path,label\na,ant\nb/c.jpg, bee \n", [("a", "ant", None), ("b/c.jpg", "bee", None)]),
        ("path,index\na.jpg,0\nb.jpg,12\n", [("a.jpg", None, 0), ("b.jpg", None, 12)]),
        ("\ufeffPath, Label\r\na.jpg,ant\r\n", [("a.jpg", "ant", None)]),
        ('prob,index,label,path\n.5,1,"a, b",x.jpg\n', [("x.jpg", "a, b", None)]),
        ("path,label\n", []),
    ],
)  # fmt: skip
def test_a_table_of_labels(
    tmp_path: Path, text: str, rows: list[tuple[str, str | None, int | None]]
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text, encoding="utf-8", newline="")
    assert read_labels(table) == [Labelled(line, *row) for line, row in enumerate(rows, start=2)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "its columns are none"),
        (
            "a.jpg,ant\n",
            "its columns are 'a.jpg', 'ant': name them path and label, or path and index",
        ),
        ("path,truth\na.jpg,ant\n", "path and label, or path and index"),
        ("path,label\na.jpg\n", "line 2: a path and a label"),
        ("path,label\n,ant\n", "line 2: a path and a label"),
        ("path,label\na.jpg,ant\nb.jpg,bee\na.jpg,bee\n", "line 4: a.jpg stands in line 2"),
        ("path,index\na.jpg,1.5\n", "line 2: '1.5' is not an index"),
        ("path,index\na.jpg,-1\n", "line 2: '-1' is not an index"),
        ("path,label\n" + "x" * 200_000 + ",ant\n", "field larger than field limit"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(InputError, match="cannot read labels from") as caught:
        read_labels(table)
    assert complaint in str(caught.value)


def test_names_of_files_keep_their_bytes(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(b"path,label\nb\xe9b\xe9.jpg,ant\n")
    assert read_labels(table)[0].path == "b\udce9b\udce9.jpg"
