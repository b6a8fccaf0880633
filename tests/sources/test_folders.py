"""Folders as cameras, systems and network drives leave them; what ``--exclude`` leaves out."""

from pathlib import Path

import pytest
from click.testing import Result

from commands import SMALL
from conftest import Run, picture
from items import paths_of
from resnet_cli.errors import InputError
from resnet_cli.evaluate.dataset import label_by_folder, label_by_table
from resnet_cli.sources import FindOptions, Inputs, find_inputs
from resnet_cli.sources.folders import Pattern

LEFT_BEHIND = (
    "._1.jpg", ".DS_Store", "Thumbs.db", "thumbs.DB", "Desktop.ini", "a/._2.jpg",
    "__MACOSX/d/._1.jpg", "a/@eaDir/2.jpg/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/S-1-5/$R1.JPG",
    "$Recycle.Bin/2.jpg", "#recycle/3.jpg", "System Volume Information/4.png", ".Trash-1000/5.jpg",
    ".thumbnails/normal/6.png", "a/.ipynb_checkpoints/2-checkpoint.jpg", ".git/7.jpg",
)  # fmt: skip


def touch(*names: str) -> None:
    """Make empty files below ``d``; finding them does not open them."""
    for name in names:
        path = Path("d", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(*inputs: str, hidden: bool = False, exclude: tuple[str, ...] = ()) -> list[str]:
    return list(paths_of(search(*inputs, hidden=hidden, exclude=exclude)))


def search(*inputs: str, hidden: bool = False, exclude: tuple[str, ...] = ()) -> Inputs:
    return find_inputs(inputs or ["d"], FindOptions(hidden=hidden, exclude=exclude))


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_a_system_leaves_behind_is_skipped_and_counted(name: str) -> None:
    touch("1.jpg", "a/2.jpg", name)
    inputs = search()
    assert list(paths_of(inputs)) == ["d/1.jpg", "d/a/2.jpg"]
    assert inputs.notes == ["skipped 1 hidden or system file (--hidden to include them)"]


def test_all_of_them_are_taken_if_asked() -> None:
    touch("1.jpg", *LEFT_BEHIND)
    images = [name for name in LEFT_BEHIND if name.lower().endswith(("jpg", "png"))]
    assert sorted(found(hidden=True)) == sorted(f"d/{name}" for name in ["1.jpg", *images])


@pytest.mark.parametrize("name", [
    ".photo.jpg", "_.jpg", ".a.b.jpg", "@eaDir.jpg", "x__MACOSX/1.jpg", "Thumbs.db.jpg",
    "a.git/1.jpg", "DS_Store.jpg",
])  # fmt: skip
def test_names_that_only_look_alike_are_taken(name: str) -> None:
    touch(name)
    inputs = search()
    assert (list(paths_of(inputs)), inputs.notes) == ([f"d/{name}"], [])


@pytest.mark.parametrize("place", [".git", "@eaDir", "._1.jpg", "__MACOSX/._1.jpg"])
def test_what_is_named_outright_is_tried(place: str) -> None:
    touch(".git/1.jpg", "@eaDir/1.jpg", "._1.jpg", "__MACOSX/._1.jpg")
    name = place if place.endswith("jpg") else f"{place}/1.jpg"
    assert found(f"d/{place}", exclude=("._1.jpg",)) == [f"d/{name}"]


def test_a_pattern_skips_them_below_its_fixed_part_alone() -> None:
    touch("a/1.jpg", "@eaDir/2.jpg", "@eaDir/3.txt", "__MACOSX/4.jpg")
    inputs = search("d/**/*.jpg")
    assert list(paths_of(inputs)) == ["d/a/1.jpg"]
    assert inputs.notes[0].startswith("skipped 3 hidden or system files")
    assert found("d/@eaDir/*.jpg") == ["d/@eaDir/2.jpg"]
    assert found("d/**") == found("d/*") == ["d/a/1.jpg"]
    assert len(found("d/**/*.jpg", hidden=True)) == 3


def test_a_folder_of_nothing_else_is_an_error_that_says_so() -> None:
    touch("._1.jpg", "__MACOSX/._2.jpg", "x.png")
    with pytest.raises(InputError, match=r"no images found: d \(skipped 2 hidden or system files"):
        search(exclude=("*.png",))


TREE = ("1.jpg", "1.png", "old/1.jpg", "old/b/2.jpg", "new/old.jpg", "new/b/2.jpg", "new/b/3.jpg")


@pytest.mark.parametrize(
    ("pattern", "gone", "words"),
    [
        ("*.png", ["1.png"], "1 file"),
        ("1.*", ["1.jpg", "1.png", "old/1.jpg"], "3 files"),
        ("/1.*", ["1.jpg", "1.png"], "2 files"),
        ("./1.*", ["1.jpg", "1.png", "old/1.jpg"], "3 files"),
        ("old", ["old/1.jpg", "old/b/2.jpg"], "1 folder"),
        ("old*", ["old/1.jpg", "old/b/2.jpg", "new/old.jpg"], "1 folder and 1 file"),
        ("old*/", ["old/1.jpg", "old/b/2.jpg"], "1 folder"),
        ("b", ["old/b/2.jpg", "new/b/2.jpg", "new/b/3.jpg"], "2 folders"),
        ("new/b", ["new/b/2.jpg", "new/b/3.jpg"], "1 folder"),
        ("*/b/2.jpg", ["old/b/2.jpg", "new/b/2.jpg"], "2 files"),
        ("*/2.jpg", [], ""),
        ("**/2.jpg", ["old/b/2.jpg", "new/b/2.jpg"], "2 files"),
        ("new/**/2.jpg", ["new/b/2.jpg"], "1 file"),
        ("new/**", ["new/old.jpg", "new/b/2.jpg", "new/b/3.jpg"], "1 folder"),
        ("[12].jpg", ["1.jpg", "old/1.jpg", "old/b/2.jpg", "new/b/2.jpg"], "4 files"),
        ("d/old", [], ""),
        ("B", [], ""),
        ("", [], ""),
    ],
)
def test_a_pattern_leaves_files_and_folders_out(pattern: str, gone: list[str], words: str) -> None:
    touch(*TREE)
    inputs = search(exclude=(pattern,))
    assert sorted(paths_of(inputs)) == sorted(f"d/{name}" for name in TREE if name not in gone)
    if not gone:
        assert inputs.notes == [f"--exclude {pattern!r} matched no file or folder below an INPUT"]
    else:
        (note,) = inputs.notes
        assert sorted(
            note.removeprefix("excluded ").removesuffix(" (--exclude)").split(" and ")
        ) == (sorted(words.split(" and ")))


@pytest.mark.parametrize("pattern", ["**/" * 12 + "x", "**/*/" * 12 + "x"])
def test_stars_for_folders_take_no_time_together(pattern: str) -> None:
    assert not Pattern.parse(pattern).matches(["a"] * 40, is_folder=False)
    assert Pattern.parse(pattern).matches(["a"] * 40 + ["x"], is_folder=False)


def test_patterns_apply_to_globs_and_lists_as_to_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*TREE)
    Path("l.txt").write_text("".join(f"d/{name}\n" for name in TREE))
    assert found("d/**/*.jpg", exclude=("b", "1.*")) == ["d/new/old.jpg"]
    assert found("d/*", exclude=("new/b", "1.*")) == ["d/new/old.jpg", "d/old/b/2.jpg"]
    inputs = search("@l.txt", exclude=("b", "d/1.*"))
    assert list(paths_of(inputs)) == ["d/old/1.jpg", "d/new/old.jpg"]
    assert inputs.notes == ["excluded 5 files (--exclude)"]


@pytest.fixture
def photos_with_copies(photos: Path) -> Path:
    """Ten images of classes a and b, and what a notebook and a Mac add to them."""
    picture(photos / "a" / ".ipynb_checkpoints" / "img1-checkpoint.jpg")
    picture(photos / ".ipynb_checkpoints" / "img2-checkpoint.jpg")
    (photos / "b" / "._img6.jpg").write_bytes(b"\0\5\x16\7")
    return photos


def test_evaluate_scores_no_copies_and_counts_them(photos_with_copies: Path) -> None:
    names = ["a", "b"]
    folder = label_by_folder(str(photos_with_copies), names)
    assert len(folder.paths) == 10
    assert "skipped 3 hidden or system files (--hidden to include them)" in folder.notes
    picked = label_by_folder(
        str(photos_with_copies), names, FindOptions(exclude=("img1*", "b/*2.png"))
    )
    assert len(picked.paths) == 8  # without img1 and img10
    assert "excluded 2 files (--exclude)" in picked.notes
    (photos_with_copies / ".ipynb_checkpoints").rename(photos_with_copies / "b" / ".x")
    assert (
        len(label_by_folder(str(photos_with_copies), names, FindOptions(hidden=True)).paths) == 13
    )


def test_lines_of_a_table_are_left_out_by_patterns_alone(photos_with_copies: Path) -> None:
    table = Path("l.csv")
    table.write_text("path,label\na/img1.jpg,a\nb/._img6.jpg,b\nb/img6.jpg,b\n")
    found = label_by_table(table, str(photos_with_copies), ["a", "b"], FindOptions(exclude=("a",)))
    assert [Path(path).name for path in found.paths] == ["._img6.jpg", "img6.jpg"]
    with pytest.raises(InputError, match=r"l\.csv lists none \(excluded 3 files"):
        label_by_table(table, str(photos_with_copies), ["a", "b"], FindOptions(exclude=("*.jpg",)))


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_both_commands_say_what_they_left_out(
    run: Run, photos_with_copies: Path, checkpoint: Path, command: str
) -> None:
    def notes(*options: str) -> Result:
        return run(
            command, photos_with_copies, "-c", checkpoint, "--classes", "a,b,c", *SMALL, *options
        )

    plain = notes("--exclude", "*.png", "--exclude", "x*")
    assert plain.exit_code == 0
    assert "Note: skipped 3 hidden or system files (--hidden to include them)\n" in plain.stderr
    assert "Note: excluded 2 files (--exclude)\n" in plain.stderr
    assert "Note: --exclude 'x*' matched no file or folder below an INPUT\n" in plain.stderr
    everything = notes("--hidden", "--exclude", ".ipynb_checkpoints")
    assert everything.exit_code == 3  # ._img6.jpg is not an image
    assert "hidden" not in everything.stderr


def test_what_stdin_leaves_out_is_said_at_the_end(run: Run, photos: Path, checkpoint: Path) -> None:
    paths = "".join(f"{path}\n" for path in sorted(photos.rglob("*.*")))
    result = run("predict", "-", "-c", checkpoint, "--exclude", "b/", *SMALL, stdin=paths)
    assert len(result.stdout.splitlines()) == 5
    assert "Note: excluded 5 files (--exclude)\n" in result.stderr


def test_the_field_card_and_network_drive(run: Run, checkpoint: Path, data: Path) -> None:
    for name, images, files in (("card", 2, "3 hidden or system files"), ("nas", 1, "1 hidden or")):
        result = run("predict", data / "field" / "images" / name, "-c", checkpoint, *SMALL)
        assert (result.exit_code, len(result.stdout.splitlines())) == (0, images)
        assert f"Note: skipped {files}" in result.stderr
