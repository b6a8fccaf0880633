"""Parquet tables as INPUT: the rows of the same images as files, and tables that are damaged."""

import io
import json
import pickle
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import error_line, rows_of_csv
from conftest import Run
from range_server import Parts, serving_parts
from resnet_cli.errors import ImageError, InputError
from resnet_cli.records import Item, Stored
from resnet_cli.sources import FindOptions, find_inputs, reopen, without_pauses
from tables import images_below, write_bytes, write_like_datasets

KILLED = """
import os, signal, sys
from dataclasses import replace
from resnet_cli import Classifier, predict_to_files
classifier = Classifier.load(
    sys.argv[1], device="cpu", preprocess=lambda now: replace(now, resize_size=40, crop_size=32)
)
def kill(done, total):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)
predict_to_files(classifier, "x.parquet", "out.csv", progress=kill)
"""

READ = """
from resnet_cli.sources import find_inputs
from resnet_cli.system import peak_memory
for item in find_inputs(["x.parquet"]).known:
    assert len(item.content.read()) == 100_000
print(peak_memory())
"""


def stored(item: Item) -> Stored:
    """Where the bytes of a row lie."""
    content: Any = item.content
    return content


def read_all(path: str) -> list[bytes | str]:
    """The bytes of each row, or why they cannot be read."""
    found: list[bytes | str] = []
    for item in find_inputs([path]).known:
        try:
            found.append(item.content if isinstance(item.content, str) else stored(item).read())
        except ImageError as error:
            found.append(str(error))
    return found


def write_values(path: str, values: list[Any], **options: Any) -> None:
    pq.write_table(pa.table({"image": values}), path, **options)


def answers(text: str) -> list[list[str]]:
    """What each row says of its image."""
    names = ("status", "label", "index", "prob", "error")
    return [[row[name] for name in names] for row in rows_of_csv(text)]


@pytest.mark.parametrize("kind", ["bytes", "large", "struct"])
def test_rows_are_those_of_the_same_images_as_files(predict: Run, photos: Path, kind: str) -> None:
    (photos / "b" / "img11.jpg").write_bytes(b"\xff\xd8\xff broken")
    images = images_below(photos)
    if kind == "struct":
        write_like_datasets("x.parquet", images, ["a", "b"], row_group_size=4)
    else:
        arrow = pa.large_binary() if kind == "large" else pa.binary()
        write_bytes("x.parquet", images, kind=arrow, row_group_size=4)
    files = predict("photos", "--format", "csv")
    table = predict("x.parquet", "--format", "csv")
    assert files.exit_code == table.exit_code == 3
    assert answers(table.stdout) == answers(files.stdout)
    assert [(row["path"], row["part"]) for row in rows_of_csv(table.stdout)] == [
        ("x.parquet", f"row={row}") for row in range(11)
    ]


def test_a_folder_of_shards_is_named_by_a_glob(predict: Run, photos: Path) -> None:
    images = images_below(photos)
    Path("data").mkdir()
    for shard in range(3):
        name = f"data/train-0000{shard}-of-00003.parquet"
        write_like_datasets(name, images[shard::3], ["a", "b"])
    result = predict("data/*.parquet", "--format", "csv")
    assert [(row["path"][11:16], row["part"]) for row in rows_of_csv(result.stdout)] == [
        (f"0000{shard}", f"row={row}")
        for shard, rows in enumerate((4, 3, 3))
        for row in range(rows)
    ]
    Path("above").mkdir()
    Path("data").rename("above/data")
    assert error_line(predict("above")) == (
        "Error: no images found: above (skipped 3 files without an image extension): name the "
        "files that hold images: 'above/data/*.parquet'"
    )


def test_a_list_may_name_tables(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    write_values("x.parquet", [b"one", b"two"])
    shutil.make_archive("y", "zip", "photos", "a")
    Path("l.txt").write_text("photos/a/img1.jpg\nx.parquet\ny.zip\nphotos/b/img6.jpg\n")
    found = find_inputs(["@l.txt"])
    assert found.parts
    assert [(item.path, item.part) for item in found.known][:3] == [
        ("photos/a/img1.jpg", ""), ("x.parquet", "row=0"), ("x.parquet", "row=1"),
    ]  # fmt: skip
    assert found.total == 9
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x.parquet\nz.jpg\n")))
    stream = list(without_pauses(find_inputs(["-"]).items))
    assert [item.path for item in stream] == ["x.parquet", "z.jpg"]
    assert str(stream[0].content).startswith("holds images: name it as INPUT")


def test_a_killed_run_resumes_where_it_was(checkpoint: Path, photos: Path, predict: Run) -> None:
    write_bytes("x.parquet", images_below(photos), row_group_size=3)
    killed = subprocess.run([sys.executable, "-c", KILLED, checkpoint], check=False)
    assert killed.returncode == -9
    assert len(rows_of_csv(Path("out.csv").read_text())) >= 4
    assert predict("x.parquet", "-o", "out.csv", "--resume", "-q").exit_code == 0
    predict("x.parquet", "-o", "whole.csv", "-q")
    whole, again = (answers(Path(name).read_text()) for name in ("whole.csv", "out.csv"))
    assert [row[:3] for row in again] == [row[:3] for row in whole]
    rows = rows_of_csv(Path("out.csv").read_text())
    assert [row["part"] for row in rows] == [f"row={row}" for row in range(10)]


def test_rows_are_read_in_any_order_and_by_many_threads() -> None:
    values = [random.Random(row).randbytes(200_000) for row in range(120)]
    write_values("x.parquet", values, row_group_size=50)
    items = find_inputs(["x.parquet"]).known
    shuffled = random.Random(0).sample(range(120), 120)
    with ThreadPoolExecutor(8) as pool:
        for order in (list(range(120)), list(range(119, -1, -1)), shuffled):
            read = pool.map(lambda row: stored(items[row]).read(), order)
            assert list(read) == [values[row] for row in order]


def test_a_row_of_saved_results_is_found_again() -> None:
    write_values("x.parquet", [b"one", b"two"])
    assert stored(reopen(Item("x.parquet", "row=1"))).read() == b"two"
    with pytest.raises(ImageError, match="only 2 rows by now"):
        stored(reopen(Item("x.parquet", "row=2"))).read()
    write_values("x.parquet", [b"three", b"four"])
    assert stored(reopen(Item("x.parquet", "row=1"))).read() == b"four"
    with pytest.raises(InputError, match=r"cannot read gone\.parquet: "):
        reopen(Item("gone.parquet", "row=1"))


def test_cells_without_bytes_say_so_and_open_nothing(photos: Path) -> None:
    path = str(photos / "a" / "img1.jpg")
    values = [{"bytes": b"x", "path": path}, {"bytes": None, "path": path}, None]
    write_values("x.parquet", [*values, {"bytes": None, "path": None}])
    found = read_all("x.parquet")
    assert found[0] == b"x"
    assert str(found[1]).startswith(f"the table has no bytes of it, only the path {path!r}, which")
    assert found[2:] == ["its cell in the table is empty"] * 2


COLUMNS: dict[str, tuple[dict[str, list[Any]], str]] = {
    "none": (
        {"url": ["http://x"], "n": [1]},
        "cannot find images in x.parquet: no column holds encoded images (bytes, or a struct of "
        "bytes and path): its columns are url (string), n (int64)",
    ),
    "several": (
        {"image": [b"x"], "mask": [b"y"]},
        "cannot choose a column of x.parquet: image, mask may hold images: name one with "
        "--image-column",
    ),
    "results": (
        {"path": ["a"], "status": ["ok"], "label": ["b"], "index": [1], "prob": [0.5]},
        "cannot classify x.parquet: it holds results of predict, not images: to score them: "
        "evaluate --predictions x.parquet",
    ),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_that_is_not_plain_ends_in_a_sentence(predict: Run, case: str) -> None:
    columns, sentence = COLUMNS[case]
    pq.write_table(pa.table(columns), "x.parquet")
    assert error_line(predict("x.parquet")) == f"Error: {sentence}"


def test_a_column_is_chosen_by_name(predict: Run, photos: Path) -> None:
    image = (photos / "a" / "img1.jpg").read_bytes()
    pq.write_table(pa.table({"image": [image], "mask": [b"y"], "n": [1]}), "x.parquet")
    assert predict("x.parquet", "--image-column", "image").exit_code == 0
    result = predict("x.parquet", "--image-column", "mask", "--format", "csv")
    assert "not an image" in rows_of_csv(result.stdout)[0]["error"]
    for name, why in (("n", "it holds no encoded images"), ("x", "there is none")):
        line = error_line(predict("x.parquet", "--image-column", name))
        assert f"the column {name} of x.parquet: {why}: its columns are image (binary)" in line
    column = FindOptions(image_column="mask")
    assert stored(reopen(Item("x.parquet", "row=0"), column)).read() == b"y"


LABELS: dict[str, tuple[Any, list[Any] | None, list[Any]]] = {
    "names": (["b", None, ""], None, ["b", None, None]),
    "numbers": ([2, -1, None], None, [2, None, None]),
    "class labels": ([1, 7, -1], ["x", "y"], ["y", None, None]),
    "damaged names": ([1, 0, 1], ["x", 3], [1, 0, 1]),
    "dictionary": (pa.array(["b", "a", "b"]).dictionary_encode(), None, ["b", "a", "b"]),
    "other": ([0.5, 1.5, 2.5], None, [None] * 3),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_are_names_or_numbers(case: str) -> None:
    labels, names, expected = LABELS[case]
    table = pa.table({"image": [b"x"] * 3, "label": labels})
    if names:
        stated = {"info": {"features": {"label": {"names": names}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(stated)})
    pq.write_table(table, "x.parquet")
    assert [item.label for item in find_inputs(["x.parquet"]).known] == expected


def test_an_unreadable_table_among_others_is_a_row(predict: Run, photos: Path) -> None:
    write_bytes("a.parquet", images_below(photos)[:2])
    Path("b.parquet").write_bytes(Path("a.parquet").read_bytes()[:-100])
    result = predict("*.parquet", "--format", "csv")
    assert result.exit_code == 3
    rows = rows_of_csv(result.stdout)
    assert [(row["path"], row["part"]) for row in rows] == [
        ("a.parquet", "row=0"), ("a.parquet", "row=1"), ("b.parquet", ""),
    ]  # fmt: skip
    assert rows[2]["error"].startswith("is not a Parquet table, or is damaged: Parquet magic bytes")


def test_a_file_that_is_no_table_ends_in_a_sentence(predict: Run, photos: Path) -> None:
    Path("x.parquet").write_bytes((photos / "a" / "img1.jpg").read_bytes())
    line = error_line(predict("x.parquet"))
    assert line.startswith(
        "Error: cannot read x.parquet: is not a Parquet table, or is damaged: Parquet magic bytes"
    )


def test_a_damaged_row_group_costs_its_own_rows_only() -> None:
    values = [random.Random(row).randbytes(5000) for row in range(40)]
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    write_values("x.parquet", values, row_group_size=10, **options)
    data = bytearray(Path("x.parquet").read_bytes())
    place = data.index(values[25])
    data[place : place + 10] = bytes(10)
    Path("x.parquet").write_bytes(data)
    found = read_all("x.parquet")
    assert found[:20] + found[30:] == values[:20] + values[30:]
    reasons = set(found[20:30])
    assert len(reasons) == 1
    assert "row group 2 of the table is damaged: " in str(reasons.pop())


def test_numbers_of_rows_that_no_file_holds_are_refused() -> None:
    pq.write_table(pa.table({"image": pa.nulls(10_000, pa.binary())}), "x.parquet")
    with pytest.raises(InputError, match="it states 10,000 rows in"):
        read_all("x.parquet")


def test_memory_stays_flat_however_large_the_row_groups() -> None:
    row = random.Random(0).randbytes(100_000)
    schema = pa.schema({"image": pa.binary()})
    table = pa.table({"image": [row] * 4000}, schema=schema)  # 400 MB in a row group
    options = {"compression": "none", "use_dictionary": False, "write_batch_size": 16}
    pq.write_table(table, "x.parquet", **options)
    read = [sys.executable, "-c", READ]
    peak = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    Path("x.parquet").unlink()
    assert int(peak) < 200 << 20


def test_a_table_by_url_is_read_part_by_part(
    predict: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    write_bytes("x.parquet", images_below(photos), row_group_size=4)
    local = predict("x.parquet", "--format", "csv")
    with serving_parts() as url:
        remote = predict(f"{url}/x.parquet?token=secret", "--format", "csv", "-o", "out.csv")
        assert remote.exit_code == 0
        assert answers(remote.stdout) == answers(local.stdout)
        row = rows_of_csv(remote.stdout)[3]
        assert (row["path"].partition("?")[0], row["part"]) == (f"{url}/x.parquet", "row=3")
        written = Path("out.csv").read_text() + Path("out.csv.run.json").read_text()
        assert "secret" not in written + remote.stdout + remote.stderr
        items = find_inputs([f"{url}/x.parquet"]).known
        monkeypatch.setattr("resnet_cli.sources.fetch.FIRST_PAUSE", 0.001)
        monkeypatch.setattr(Parts, "failing", 2)
        again = [stored(item).read() for item in items]
        assert again == [path.read_bytes() for path in images_below(photos)]
        carried = pickle.loads(pickle.dumps(items[5]))
        assert carried.content == again[5]  # to a worker process, which need not know the network
        Path("x.parquet").rename("y.parquet")
        items = find_inputs([f"{url}/y.parquet"]).known
        monkeypatch.setattr(Parts, "failing", 10**6)
        with pytest.raises(ImageError, match="the server answers 503"):
            stored(items[0]).read()


FUZZED = 300

FUZZ = """
import os, random, sys
from pathlib import Path
from resnet_cli.errors import ImageError, InputError
from resnet_cli.sources import find_inputs
first, last = map(int, sys.argv[1:])
whole = [path.read_bytes() for path in sorted(Path().glob("whole-*.parquet"))]
for seed in range(first, last):
    chance = random.Random(seed)
    data = bytearray(whole[seed % len(whole)])
    footer = int.from_bytes(data[-8:-4], "little") + 8
    start = len(data) - footer if chance.random() < 0.6 else 0
    for _ in range(chance.choice([1, 1, 2, 20])):
        data[chance.randrange(start, len(data))] = chance.randrange(256)
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :][: chance.randrange(300)]
    Path("x.parquet").write_bytes(data)
    os.utime("x.parquet", ns=(seed, seed))
    try:
        items = find_inputs(["x.parquet"]).known
    except InputError:
        continue
    for item in items:
        try:
            isinstance(item.content, str) or item.content.read()
        except ImageError:
            pass
"""


def test_damaged_tables_neither_crash_nor_raise(photos: Path) -> None:
    values = [random.Random(row).randbytes(300) for row in range(30)]
    structs = [{"bytes": value, "path": "x"} for value in values]
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False}
    write_values("whole-0.parquet", values, row_group_size=10)
    write_values("whole-1.parquet", structs, row_group_size=10, compression="zstd")
    write_values("whole-2.parquet", [None, *values], **plain, data_page_version="2.0")
    encoding = {"image": "DELTA_BYTE_ARRAY"}
    write_values("whole-3.parquet", values, column_encoding=encoding, **plain)
    fuzz = [sys.executable, "-c", FUZZ, "0", str(FUZZED)]
    done = subprocess.run(fuzz, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_manifest_and_the_fingerprint_know_a_table(predict: Run, photos: Path) -> None:
    write_bytes("x.parquet", images_below(photos)[:3])
    predict("x.parquet", "-o", "out.jsonl", "-q")
    record = json.loads(Path("out.jsonl.run.json").read_text())
    assert record["inputs"]["files"] == 3
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["path"], row["part"]) for row in rows] == [
        ("x.parquet", f"row={row}") for row in range(3)
    ]
