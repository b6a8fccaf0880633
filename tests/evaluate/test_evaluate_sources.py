"""``evaluate`` on other sources than folders: the same images give the same metrics."""

import csv
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from commands import SMALL, error_line
from conftest import Run
from resnet_cli.errors import InputError
from resnet_cli.evaluate.dataset import label_by_folder, label_by_table
from resnet_cli.records import Item
from resnet_cli.sources import FindOptions
from resnet_cli.sources.places import base_of, parts_below, place_of
from scoring import approximately, figures, rows
from tables import images_below, write_bytes, write_like_datasets


def metrics(path: str = "m.json") -> dict[str, Any]:
    """The metrics of a run, without what made them."""
    found = figures(path)
    del found["run"]
    for mistake in found["mistakes"] or ():
        del mistake["path"]
        mistake.pop("part", None)
    return found


@pytest.fixture
def of_folder(evaluate: Run, photos: Path) -> dict[str, Any]:
    """The metrics of ten images and a broken one in folders."""
    (photos / "b" / "img11.jpg").write_bytes(b"\xff\xd8\xff broken")
    evaluate("photos", "-o", "folder.json")
    return metrics("folder.json")


@pytest.mark.parametrize("kind", ["names", "class labels", "numbers"])
def test_a_table_states_the_classes_itself(
    evaluate: Run, photos: Path, of_folder: dict[str, Any], kind: str
) -> None:
    images = images_below(photos)
    if kind == "names":
        write_bytes("x.parquet", images, row_group_size=4)
    elif kind == "class labels":
        write_like_datasets("x.parquet", images, ["b", "a"], row_group_size=4)
    else:
        labels = [0 if path.parent.name == "a" else 1 for path in images]
        columns = {"image": [path.read_bytes() for path in images], "label": labels}
        pq.write_table(pa.table(columns), "x.parquet")
    result = evaluate("x.parquet", "-o", "m.json")
    assert result.exit_code == 3
    assert metrics() == approximately(of_folder)
    assert "2 of 3 classes have images; without images: c" in result.stderr


def test_globs_and_lists_take_the_folders_of_their_images(
    evaluate: Run, photos: Path, of_folder: dict[str, Any]
) -> None:
    Path("l.txt").write_text("".join(f"photos/{p.parent.name}/{p.name}\n" for p in
                                     images_below(photos)))  # fmt: skip
    for number, given in enumerate(("photos/*/*", "photos/*", "@l.txt")):
        evaluate(given, "-o", f"{number}.json")
        assert metrics(f"{number}.json") == approximately(of_folder)


def test_labels_tell_the_rows_of_a_table_apart(evaluate: Run, photos: Path) -> None:
    write_bytes("x.parquet", images_below(photos))
    with Path("l.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "part", "label"])
        table.writerows(["x.parquet", f"row={row}", "ab"[row % 2]] for row in range(8))
    dataset = label_by_table(Path("l.csv"), "x.parquet", ["a", "b", "c"])
    assert [item.part for item in dataset.items] == [f"row={row}" for row in range(8)]
    assert list(dataset.truths) == [0, 1] * 4
    assert "2 images without a class left out" in dataset.notes
    assert evaluate("x.parquet", "--labels", "l.csv").exit_code == 0


def test_a_row_of_labels_without_a_part_is_about_all_parts(photos: Path) -> None:
    write_bytes("x.parquet", images_below(photos)[:3])
    Path("l.csv").write_text("path,part,label\nx.parquet,,a\nx.parquet,row=1,b\nx.parquet,row=9,c")
    dataset = label_by_table(Path("l.csv"), ".", ["a", "b", "c"])
    assert {item.part: item.truth for item in dataset.items} == {"": 0, "row=1": 1, "row=9": 2}
    dataset = label_by_table(Path("l.csv"), "x.parquet", ["a", "b", "c"])
    found = {item.part: item.truth for item in dataset.items}
    assert found == {"row=0": 0, "row=1": 1, "row=2": 0, "row=9": 2}
    missing = next(item for item in dataset.items if item.part == "row=9")
    assert missing.content == "x.parquet has no row=9 among the images"


def test_saved_rows_are_matched_by_path_and_part(
    evaluate: Run, run: Run, photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes("x.parquet", images_below(photos))
    evaluate("x.parquet", "-o", "m.json", "--report", "0.html")
    classify = ("predict", "x.parquet", "-c", checkpoint, "--classes", "a,b,c", *SMALL)
    run(*classify, "-k", 3, "-o", "p.csv")
    with Path("l.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["path", "part", "label"], extrasaction="ignore")
        table.writeheader()
        truths = [path.parent.name for path in images_below(photos)]
        table.writerows(
            row | {"label": label} for row, label in zip(rows("p.csv"), truths, strict=True)
        )
    Path("elsewhere").mkdir()
    shutil.copy("l.csv", "elsewhere")
    for number, truth in enumerate((["x.parquet"], ["--labels", "l.csv"])):
        again = run("evaluate", *truth, "--predictions", "p.csv", "-o", f"{number}.json")
        assert again.exit_code == 0
        assert metrics(f"{number}.json") == approximately(metrics())
    monkeypatch.chdir("elsewhere")
    again = run(
        "evaluate", "../x.parquet", "--predictions", "../p.csv", "-o", "m.json",
        "--report", "r.html",
    )  # fmt: skip
    assert metrics() == approximately(metrics("../m.json"))
    shown = Path("r.html").read_text(encoding="utf-8").count("/9j/")
    assert shown == Path("../0.html").read_text(encoding="utf-8").count("/9j/") == 10


def test_labels_that_are_no_index_are_refused(evaluate: Run) -> None:
    pq.write_table(pa.table({"image": [b"x", b"y"], "label": [0, 3]}), "x.parquet")
    assert error_line(evaluate("x.parquet")) == (
        "Error: cannot evaluate on x.parquet: x.parquet row=1 has the label 3: there are 3 "
        "classes, 0 to 2"
    )
    pq.write_table(pa.table({"image": [b"x"], "label": [None]}), "x.parquet")
    assert "no images to evaluate on: x.parquet" in error_line(evaluate("x.parquet"))


def test_a_list_and_a_comparison_take_a_table(run: Run, photos: Path, checkpoint: Path) -> None:
    write_bytes("x.parquet", images_below(photos))
    both = ("-c", checkpoint, "-c", checkpoint, "--classes", "a,b,c", "--format", "json")
    record = json.loads(run("evaluate", "x.parquet", *both, *SMALL).stdout)
    assert record["pairs"][0]["agree"]["value"] == 1
    assert [each["images"] for each in record["checkpoints"]] == [10, 10]


BELOW = {
    ("d/a/1.jpg", "d"): ["a", "1.jpg"],
    ("d/a/1.jpg", "./d/"): ["a", "1.jpg"],
    ("e/a/1.jpg", "d"): [],
    ("e/a/1.jpg", None): ["a", "1.jpg"],
    ("s3://b/val/a/1.jpg", "s3://b/val/"): ["a", "1.jpg"],
    ("s3://b/other/a/1.jpg", "s3://b/val/"): [],
    ("zip://top/a/1.jpg::d/x.zip", "d"): ["top", "a", "1.jpg"],
    ("tar://a/1.jpg::s3://b/x.tar", "s3://b/"): ["a", "1.jpg"],
}


@pytest.mark.parametrize(("path", "base"), BELOW)
def test_the_folders_below_an_input(path: str, base: str | None) -> None:
    assert list(parts_below(Item(path), base)) == BELOW[path, base]


BASES = {
    "s3://b/val/": "s3://b/val/", "s3://b/val/*/x*.jpg": "s3://b/val/", "s3://b/x.zip": "s3://b/",
    "-": None, "@l.txt": None, "d/*/x": "d", "*.jpg": ".", "gone/x": "gone/x",
}  # fmt: skip


@pytest.mark.parametrize("given", BASES)
def test_where_the_places_of_an_input_start(given: str) -> None:
    assert base_of(given) == BASES[given]


def test_places_do_not_depend_on_the_current_folder() -> None:
    here = Path.cwd()
    assert place_of("d/a.jpg") == f"{here}/d/a.jpg"
    assert place_of("zip://a.jpg::x.zip", "/e") == "zip://a.jpg::/e/x.zip"
    assert place_of("tar://a.jpg::s3://b/x.tar", "/e") == "tar://a.jpg::s3://b/x.tar"


def test_pages_have_the_folder_of_their_image() -> None:
    for name in ("a", "b"):
        Path("d", name).mkdir(parents=True)
        pages = [Image.new("RGB", (40, 40), (90 * page, 0, 0)) for page in range(2)]
        pages[0].save(f"d/{name}/x.tif", save_all=True, append_images=pages[1:])
    found = label_by_folder("d", ["a", "b"], FindOptions(pages="all"))
    assert [(item.part, item.truth) for item in found.items] == [
        ("page=1", 0), ("page=2", 0), ("page=1", 1), ("page=2", 1),
    ]  # fmt: skip
    assert len(label_by_folder("d", ["a", "b"]).items) == 2


def test_a_prefix_of_urls_has_the_folders_of_its_classes(
    evaluate: Run, run: Run, photos: Path, of_folder: dict[str, Any], checkpoint: Path
) -> None:
    store = pytest.importorskip("fsspec").filesystem("memory")
    store.put(str(photos), "/val", recursive=True)
    evaluate("memory://val/", "-o", "m.json", "--mistakes", "w.csv")
    assert metrics() == approximately(of_folder)
    assert all(row["path"].startswith("memory://val/a/") for row in rows("w.csv"))
    classify = ("predict", "memory://val/", "-c", checkpoint, "--classes", "a,b,c", *SMALL)
    run(*classify, "-k", 3, "-o", "p.csv")
    run("evaluate", "memory://val/", "--predictions", "p.csv", "-o", "again.json")
    assert metrics("again.json") == approximately(of_folder)
    Path("l.csv").write_text("path,label\na/img1.jpg,b\nmemory://val/b/img6.jpg,a\n")
    found = label_by_table(Path("l.csv"), "memory://val/", ["a", "b"])
    assert [(item.path, item.truth) for item in found.items] == [
        ("memory://val/a/img1.jpg", 1), ("memory://val/b/img6.jpg", 0),
    ]  # fmt: skip
    store.rm("/val", recursive=True)


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_an_archive_has_the_folders_of_its_classes(
    evaluate: Run, run: Run, photos: Path, of_folder: dict[str, Any], checkpoint: Path, suffix: str
) -> None:
    shutil.make_archive("x", suffix, ".", "photos")
    given = f"x.{suffix}"
    result = evaluate(given, "-o", "m.json", "--mistakes", "w.csv", "--report", "r.html")
    assert result.exit_code == 3
    assert metrics() == approximately(of_folder)
    names = {path.relative_to(photos.parent).as_posix() for path in photos.rglob("*.*")}
    assert {row["path"] for row in rows("w.csv")} <= {
        f"{suffix}://{name}::{given}" for name in names
    }
    classify = ("predict", given, "-c", checkpoint, "--classes", "a,b,c", *SMALL, "-k", 3)
    run(*classify, "-o", "p.csv")
    for number, truth in enumerate(([], [given])):
        run(
            "evaluate", *truth, "--predictions", "p.csv", "-o", f"{number}.json",
            "--report", f"{number}.html",
        )  # fmt: skip
        assert metrics(f"{number}.json") == approximately(of_folder)
        assert Path(f"{number}.html").read_text().count("/9j/") == 10


def test_splits_in_an_archive_are_told_apart(photos: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(photos, f"top/data/{split}")
    shutil.make_archive("x", "zip", "top")
    with pytest.raises(
        InputError, match="are in train, val: leave the others out: --exclude train"
    ):
        label_by_folder("x.zip", ["a", "b"])
    found = label_by_folder("x.zip", ["a", "b"], FindOptions(exclude=("train",)))
    assert len(found.items) == 10
    assert sorted(set(found.truths)) == [0, 1]


def test_webdataset_states_the_classes_beside_the_images(
    evaluate: Run, photos: Path, of_folder: dict[str, Any]
) -> None:
    with tarfile.open("x.tar", "w") as archive:
        for number, path in enumerate(images_below(photos)):
            archive.add(path, f"{number:03}{path.suffix}")
            Path("cls").write_text("01"[path.parent.name == "b"])
            archive.add("cls", f"{number:03}.cls")
    evaluate("x.tar", "-o", "m.json")
    assert metrics() == approximately(of_folder)


def test_a_packed_archive_can_be_read_only_once(
    evaluate: Run, run: Run, photos: Path, of_folder: dict[str, Any], checkpoint: Path
) -> None:
    shutil.make_archive("x", "gztar", ".", "photos")
    assert error_line(evaluate("x.tar.gz")).endswith(
        "use 'predict -o FILE' and then 'evaluate --predictions FILE'"
    )
    classify = ("predict", "x.tar.gz", "-c", checkpoint, "--classes", "a,b,c", *SMALL, "-k", 3)
    run(*classify, "-o", "p.csv")
    run("evaluate", "x.tar.gz", "--predictions", "p.csv", "-o", "m.json")
    assert metrics() == approximately(of_folder)
