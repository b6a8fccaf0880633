"""What is on the disk, and when: observed while the program writes."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner

from conftest import picture, room_for
from resnet_cli.cli import cli
from resnet_cli.errors import OutputError
from resnet_cli.records import Item, Prediction
from resnet_cli.results import files as growing
from resnet_cli.results import open_writer
from resnet_cli.results.files.manifest import write_manifest
from resnet_cli.results.options import WriterOptions

ROW = Prediction(Item("a.jpg"), error="none")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The size of each file, by its inode, at its last fsync."""
    sizes: dict[int, int] = {}
    fsync = os.fsync

    def watched(file: int | IO[bytes]) -> None:
        before = os.fstat(file if isinstance(file, int) else file.fileno())
        fsync(file)
        sizes[before.st_ino] = before.st_size

    monkeypatch.setattr(os, "fsync", watched)
    return sizes


def until(holds: Callable[[], bool]) -> bool:
    """Wait up to a minute until a condition holds."""
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


def grown(name: str) -> Path:
    """The file that grows while results are written to ``name``."""
    return Path(f"{name}.part.jsonl" if name.endswith("parquet") else name)


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_the_disk_lacks_fewer_than_a_thousand_rows(name: str, synced: dict[int, int]) -> None:
    assert growing.ROWS <= 1000
    with open_writer(Path(name), WriterOptions(topk=1)) as write:
        file = grown(name).stat().st_ino
        for _ in range(2500):
            write(ROW)
            with grown(name).open("rb") as rows:
                rows.seek(synced.get(file, 0))
                assert rows.read().count(b"\n") <= 1000
    if grown(name).exists():
        assert synced[file] == grown(name).stat().st_size


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_the_disk_has_a_row_soon_when_no_other_comes(name: str, synced: dict[int, int]) -> None:
    assert growing.SECONDS <= 1
    with open_writer(Path(name), WriterOptions(topk=1)) as write:
        write(ROW)
        state = grown(name).stat()
        assert until(lambda: synced.get(state.st_ino, 0) == state.st_size)


def test_the_record_is_there_before_the_first_row(checkpoint: Path) -> None:
    picture(Path("a.jpg"))
    reader, writer = os.pipe()
    records: list[str] = []

    def look() -> None:
        with os.fdopen(writer, "wb") as paths:
            paths.write(b"a.jpg\n")
            paths.flush()
            until(lambda: Path("x.csv").exists() and b"a.jpg" in Path("x.csv").read_bytes())
            records.append(json.loads(Path("x.csv.run.json").read_bytes())["status"])

    person = threading.Thread(target=look)
    person.start()
    with os.fdopen(reader, "rb") as stdin:
        words = ["predict", "-", "-c", str(checkpoint), "--device", "cpu", "-o", "x.csv"]
        assert CliRunner().invoke(cli, words, input=stdin).exit_code == 0
    person.join()
    assert records == ["running"]
    assert json.loads(Path("x.csv.run.json").read_bytes())["status"] == "done"


def test_a_disk_too_full_for_a_record_says_what_to_do() -> None:
    sentence = "cannot write x.csv.run.json: File too large: .*make room, then --resume"
    with room_for(100), pytest.raises(OutputError, match=sentence):
        write_manifest(Path("x.csv"), {"classes": ["a"] * 2000})


def test_a_reader_of_a_record_sees_one_version_of_it() -> None:
    write_manifest(Path("x.csv"), {"status": "running", "classes": ["a"] * 2000})
    before = Path("x.csv.run.json").read_bytes()
    with Path("x.csv.run.json").open("rb", buffering=0) as reader:
        start = reader.read(100)
        write_manifest(Path("x.csv"), {"status": "done"})
        assert start + reader.read() == before


@pytest.mark.parametrize("name", ["x.html", "x.png", "x.json", "x.parquet", "x.csv"])
def test_two_runs_do_not_make_one_file(name: str) -> None:
    pytest.importorskip("fcntl")
    with open_writer(Path(name), WriterOptions(topk=1)):
        second = open_writer(Path(name), WriterOptions(topk=1, overwrite=True))
        with pytest.raises(OutputError, match=f"cannot write {name}.*: another run is writing it"):
            second.__enter__()


@pytest.mark.parametrize("name", ["x.html", "x.png", "x.json", "x.parquet", "x.csv", "x.jsonl"])
def test_a_file_that_appears_meanwhile_is_left_alone(name: str) -> None:
    Path(name).write_text("mine")
    with (
        pytest.raises(OutputError, match=f"cannot write {name}: it already exists: "),
        open_writer(Path(name), WriterOptions(topk=1)) as write,
    ):
        write(ROW)
    assert Path(name).read_text() == "mine"


@pytest.mark.parametrize("name", ["x.html", "x.png", "x.json", "x.parquet", "x.csv", "x.jsonl"])
def test_a_file_that_is_replaced_is_removed_first(name: str) -> None:
    Path(name).write_text("old")
    with open_writer(Path(name), WriterOptions(topk=1, overwrite=True)):
        assert not Path(name).exists() or Path(name).read_bytes() == b""
