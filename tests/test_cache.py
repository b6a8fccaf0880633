"""The cache of network files: made once, whole, checked when used, and bounded."""

import json
import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import room_for
from resnet_cli.cache import (
    CONTENTS,
    Cache,
    read_facts,
    user_cache,
    versions_of,
    write_facts,
)
from resnet_cli.errors import CheckpointError, OutputError

KEY = {"weights": "abc", "precision": "fp32", "preprocess": {"mean": [0.1, 0.2]}}
ROOT = Path("cache")


def counting(content: str = "network", made: list[Path] | None = None) -> Callable[[Path], None]:
    """Write an .xml and its .bin, and note each time."""

    def make(path: Path) -> None:
        path.write_text(content)
        path.with_suffix(".bin").write_bytes(bytes(1000))
        if made is not None:
            made.append(path)

    return make


def fetch(cache: Cache, made: list[Path], key: dict[str, Any] | None = None) -> Path:
    return cache.fetch(key or KEY, counting(made=made), name="model.xml")


def test_an_entry_is_made_once_and_holds_all_that_was_written() -> None:
    made: list[Path] = []
    path = fetch(Cache(ROOT), made)
    assert fetch(Cache(ROOT), made) == path
    assert len(made) == 1
    assert (path.read_text(), path.with_suffix(".bin").stat().st_size) == ("network", 1000)
    assert [entry.name for entry in ROOT.iterdir()] == [path.parent.name]
    assert json.loads((path.parent / CONTENTS).read_text())["key"] == KEY


@pytest.mark.parametrize(
    "other",
    [
        KEY | {"weights": "abd"},
        KEY | {"versions": {"openvino": "2026.5"}},
        KEY | {"preprocess": {"mean": [0.1, 0.3]}},
    ],
)
def test_another_fact_is_another_entry(other: dict[str, Any]) -> None:
    made: list[Path] = []
    assert fetch(Cache(ROOT), made) != fetch(Cache(ROOT), made, other)
    assert len(made) == 2


def test_the_order_of_the_facts_does_not_matter() -> None:
    made: list[Path] = []
    assert fetch(Cache(ROOT), made) == fetch(Cache(ROOT), made, dict(reversed(KEY.items())))
    assert len(made) == 1


def cut_off(entry: Path) -> None:
    os.truncate(entry / "model.bin", 999)


def change_a_byte(entry: Path) -> None:
    (entry / "model.bin").write_bytes(bytes(999) + b"\1")


def remove_weights(entry: Path) -> None:
    (entry / "model.bin").unlink()


def remove_contents(entry: Path) -> None:
    (entry / CONTENTS).unlink()


def cut_contents(entry: Path) -> None:
    os.truncate(entry / CONTENTS, 20)


def replace_contents(entry: Path) -> None:
    (entry / CONTENTS).write_text("[]")


def empty_files(entry: Path) -> None:
    (entry / CONTENTS).write_text('{"files": {}}')


@pytest.mark.parametrize(
    "damage",
    [
        cut_off,
        change_a_byte,
        remove_weights,
        remove_contents,
        cut_contents,
        replace_contents,
        empty_files,
    ],
)
def test_a_damaged_entry_is_made_again(damage: Callable[[Path], None]) -> None:
    made: list[Path] = []
    path = fetch(Cache(ROOT), made)
    damage(path.parent)
    again = fetch(Cache(ROOT), made)
    assert (again, len(made)) == (path, 2)
    assert path.with_suffix(".bin").read_bytes() == bytes(1000)
    fetch(Cache(ROOT), made)
    assert len(made) == 2
    assert list(ROOT.iterdir()) == [path.parent]


def test_what_fails_leaves_nothing_and_is_raised() -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise CheckpointError("it cannot be converted")

    with pytest.raises(CheckpointError, match="it cannot be converted"):
        Cache(ROOT).fetch(KEY, fail, name="model.xml")
    assert list(ROOT.iterdir()) == []


def meet_and_make(path: Path, barrier: Any) -> None:
    barrier.wait()  # both are making it now
    counting(f"of process {os.getpid()}")(path)
    barrier.wait()


def fetch_at_once(barrier: Any, answers: Any) -> None:
    path = Cache(ROOT).fetch(KEY, lambda path: meet_and_make(path, barrier), name="model.xml")
    answers.put((str(path), path.read_text()))


def test_two_processes_make_the_same_entry_at_once() -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(2, timeout=60), context.Queue()
    both = [context.Process(target=fetch_at_once, args=(barrier, answers)) for _ in range(2)]
    for process in both:
        process.start()
    told = {answers.get(timeout=60) for _ in both}
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    [(path, text)] = told
    assert text in {f"of process {process.pid}" for process in both}
    assert list(ROOT.iterdir()) == [Path(path).parent]


def test_a_full_disk_makes_it_in_a_temporary_folder(caplog: pytest.LogCaptureFixture) -> None:
    def make(path: Path) -> None:
        room = room_for(100) if ROOT in path.parents else room_for(10_000)
        with room, path.open("wb") as file:
            file.write(bytes(1000))

    cache = Cache(ROOT)
    path = cache.fetch(KEY, make, name="model.xml")
    assert path.stat().st_size == 1000
    assert ROOT not in path.parents
    assert list(ROOT.iterdir()) == []
    assert cache.fetch(KEY, make, name="model.xml") == path
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("the cache in cache cannot be used, so that nothing is kept in it")


def test_an_output_error_of_the_cache_is_no_reason_to_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def make(path: Path) -> None:
        if ROOT in path.parents:
            raise OutputError("cannot write model.xml: its disk is full")
        path.write_text("network")

    assert Cache(ROOT).fetch(KEY, make, name="model.xml").read_text() == "network"
    assert caplog.messages[0].endswith("kept in it: cannot write model.xml: its disk is full")


def test_where_no_folder_can_be_made_a_temporary_one_is_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Path("file").touch()
    made: list[Path] = []
    with caplog.at_level(logging.WARNING):
        path = fetch(Cache(Path("file/cache")), made)
    assert path.read_text() == "network"
    assert len(caplog.messages) == 1


def test_without_a_cache_each_run_makes_it_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[Path] = []
    cache = Cache(None)
    assert fetch(cache, made) == fetch(cache, made)
    assert len(made) == 1
    assert fetch(Cache(None), made) != made[0]
    assert len(made) == 2
    assert caplog.messages == []


def test_a_temporary_folder_lives_as_long_as_the_process() -> None:
    code = (
        "import gc; from pathlib import Path; from resnet_cli.cache import Cache;"
        "path = Cache(None).fetch({}, lambda path: path.write_text('x') and None, name='m.xml');"
        "gc.collect(); print(path, path.exists())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path, existed = done.stdout.split()
    assert existed == "True"
    assert not Path(path).exists()


def age(path: Path, seconds: float) -> None:
    """Let the last use of an entry have been so long ago."""
    stamp = path.parent / CONTENTS
    then = stamp.stat().st_mtime - seconds
    os.utime(stamp, (then, then))


def test_what_was_not_used_for_longest_makes_room() -> None:
    cache = Cache(ROOT, largest=4000)  # three entries of 1000 bytes and a little
    made: list[Path] = []
    paths = [fetch(cache, made, {"number": number}) for number in range(3)]
    for path, days in zip(paths, (2, 3, 1), strict=True):
        age(path, days * 86400)
    fetch(cache, made, {"number": 1})  # which is a use
    (ROOT / "other").mkdir()
    (ROOT / "other" / "file").write_bytes(bytes(10_000))
    last = fetch(cache, made, {"number": 3})
    left = {entry.name for entry in ROOT.iterdir()}
    assert left == {paths[1].parent.name, paths[2].parent.name, last.parent.name, "other"}


def test_what_was_used_within_the_hour_stays() -> None:
    cache = Cache(ROOT, largest=0)
    paths = [fetch(cache, [], {"number": number}) for number in range(2)]
    assert all(path.exists() for path in paths)
    age(paths[0], 2 * 3600)
    fetch(cache, [], {"number": 2})
    assert [path.exists() for path in paths] == [False, True]


def test_what_a_killed_process_left_is_removed_after_a_day() -> None:
    left, making = (ROOT / f".new-{letter * 16}" for letter in "ab")
    for folder in (left, making):
        folder.mkdir(parents=True)
        (folder / "model.bin").write_bytes(bytes(100))
    os.utime(left, (0, 0))
    fetch(Cache(ROOT), [])
    assert (left.exists(), making.exists()) == (False, True)


def test_facts_are_kept_with_an_entry() -> None:
    made: list[Path] = []
    path = fetch(Cache(ROOT), made)
    assert read_facts(path) is None
    write_facts(path, {"agreement": [198, 200]})
    assert read_facts(fetch(Cache(ROOT), made)) == {"agreement": [198, 200]}
    assert len(made) == 1
    path.with_name("facts.json").write_text('{"agree')
    assert read_facts(path) is None


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"RESNET_CLI_CACHE": "here", "XDG_CACHE_HOME": "/x"}, Path.cwd),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, Path("/x/resnet-cli")),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, Path("/h/.cache/resnet-cli")),
    ],
)
def test_the_environment_says_where_it_is(
    environment: dict[str, str], folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESNET_CLI_CACHE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert user_cache().folder == (folder() / "here" if callable(folder) else folder)


def test_versions_name_this_program_and_the_libraries() -> None:
    import onnx

    assert versions_of("onnx")["onnx"] == onnx.__version__
    assert "resnet-cli" in versions_of()
