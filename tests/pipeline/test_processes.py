import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from conftest import picture
from items import items_of
from resnet_cli.classifier import Classifier
from resnet_cli.errors import ProcessError
from resnet_cli.evaluate.shared_decoding import SharedLoader, predict_all
from resnet_cli.images import Decoded, Decoder
from resnet_cli.images.files import ENDLESS, Room
from resnet_cli.pipeline import cut_chunks, stream_results
from resnet_cli.pipeline import workers as processes
from resnet_cli.pipeline.batches import Decode, Loader, allocate_pixels
from resnet_cli.pipeline.memory_budget import MemoryBudget, ProcessBudget
from resnet_cli.pipeline.workers import Processes, pay_off, place_loader
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Batch, Item, Prediction, Source
from resnet_cli.runtimes import Runtime, find_runtime
from resnet_cli.sources import Inputs, find_inputs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such copies")

PATIENCE = 30  # seconds until a test that hangs fails
FAST = cast(Runtime, SimpleNamespace(wants_processes=True, allocate=allocate_pixels))


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def paths(photos: Path) -> list[str]:
    """Real files, and two that cannot be read."""
    names = sorted(str(path) for path in photos.rglob("*.*"))
    (photos / "bad.jpg").write_bytes(b"no image")
    return [*names[:4], str(photos / "bad.jpg"), *names[4:], str(photos / "none.jpg")]


@pytest.fixture
def tiny(tmp_path: Path) -> Classifier:
    """A network of two classes that is soon done."""
    torch.manual_seed(0)
    path = tmp_path / "tiny.pth"
    torch.save(resnet18(num_classes=2).state_dict(), path)
    return Classifier.load(path, preprocess=Preprocess(48, 40), device="cpu")


class Deadly:
    """A decoder that a picture of a certain name takes down."""

    def __init__(self, names: Sequence[str], number: int = signal.SIGSEGV) -> None:
        self.parent = os.getpid()
        self.names = names
        self.number = number

    def __call__(self, source: Source, room: Room = ENDLESS) -> Decoded:
        if isinstance(source, Path) and source.name in self.names:
            assert os.getpid() != self.parent
            faulthandler.disable()  # whose traces of all threads would fill the report
            os.kill(os.getpid(), self.number)
            time.sleep(PATIENCE)
        return Decoder()(source, room)


def loader(decode: Decode | None = None, *, thumbnails: bool = False) -> Loader:
    load = Loader(Decoder(), Preprocess(48, 40), channels=3, thumbnails=thumbnails)
    if decode is not None:
        load.decode = decode
    return load


def apart(load: Loader, workers: int = 2, size: int = 20) -> closing[Processes[Batch]]:
    return closing(Processes(load, workers=workers, size=size))


def facts(batch: Batch) -> list[tuple[Item, str | None, bytes | None]]:
    """What is not a time."""
    return [
        (sample.item, sample.error, sample.thumbnail.tobytes() if sample.thumbnail else None)
        for sample in batch.samples
    ]


def rows(predictions: Sequence[Prediction]) -> list[tuple[object, ...]]:
    return [(row.path, row.scores, row.batch_size, row.error) for row in predictions]


@pytest.mark.parametrize("thumbnails", [False, True])
def test_a_batch_from_a_process_is_the_batch_of_a_thread(
    paths: list[str], *, thumbnails: bool
) -> None:
    items = items_of(paths)
    chunks = [items, items[::-1], items[3:], items[:7]]
    expected = [loader(thumbnails=thumbnails)(chunk) for chunk in chunks]
    assert [sum(one.error is not None for one in each.samples) for each in expected] == [2, 2, 2, 1]

    with apart(loader(thumbnails=thumbnails)) as load:
        batches = [load(chunk) for chunk in chunks]

    for batch, same in zip(batches, expected, strict=True):  # which no later one may overwrite
        assert np.array_equal(batch.pixels, same.pixels)
        assert batch.pixels.strides == same.pixels.strides
        assert facts(batch) == facts(same)
        assert all(sample.decode_ms for sample in batch.samples if sample.error is None)
    assert [batch.warm_up for batch in batches] == [True, True, False, False]  # the first of each


def test_chunks_without_pictures_are_batches_too(tmp_path: Path) -> None:
    with apart(loader()) as load:
        assert load(()).samples == ()
        (sample,) = load(items_of([tmp_path / "none.jpg"])).samples
    assert sample.error == "there is no such file"


def test_one_channel_stays_one_channel(paths: list[str]) -> None:
    def grey() -> Loader:
        return Loader(Decoder("L"), Preprocess(48, 40, mean=(0.4,), std=(0.2,)), channels=1)

    with apart(grey()) as load:
        assert np.array_equal(load(items_of(paths)).pixels, grey()(items_of(paths)).pixels)


def test_the_stream_gives_the_same_rows(
    paths: list[str], tiny: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(tiny.predict(paths[:-1], batch_size=3, workers=2))
    monkeypatch.setattr(processes, "pay_off", lambda *_, **__: True)

    predictions = tiny.predict(paths[:-1], batch_size=3, workers=2)
    first = next(predictions)
    assert len(multiprocessing.active_children()) == 2
    assert rows([first, *predictions]) == rows(expected)


def test_several_networks_get_the_same_rows(
    paths: list[str], tiny: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, found = [tiny, tiny], find_inputs(paths[:4] + paths[5:-1])

    def said() -> list[list[tuple[object, ...]]]:
        both = zip(*predict_all(pair, found, batch_size=3, workers=2), strict=True)
        return [rows(predictions) for predictions in both]

    expected = said()
    monkeypatch.setattr(processes, "pay_off", lambda *_, **__: True)
    assert said() == expected


def test_what_holds_for_a_loader_holds_for_that_of_each_network(
    paths: list[str], tiny: Classifier
) -> None:
    before = SharedLoader([tiny, tiny])
    both = before.shared(2)
    both.refuse(Item(paths[1]), "it is deadly")

    assert both.pixel_bytes(3) == 2 * tiny.loader().pixel_bytes(3)
    assert all(
        isinstance(load.budget, ProcessBudget) and load.allocate is allocate_pixels
        for load in both.loaders
    )
    assert all(isinstance(load.budget, MemoryBudget) for load in before.loaders)
    for batch in both(items_of(paths[:3])):
        assert [sample.error for sample in batch.samples] == [None, "it is deadly", None]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSEGV, "its decoder was killed by SIGSEGV"),
        (signal.SIGKILL, "its decoder was killed by SIGKILL, as when memory runs out"),
    ],
)
def test_a_picture_that_kills_its_decoder_is_a_row(
    paths: list[str], number: int, words: str
) -> None:
    deadly = [paths[1], paths[2], paths[9]]
    expected = loader()(items_of(paths))
    with apart(loader(Deadly([Path(path).name for path in deadly], number))) as load:
        results = list(
            stream_results(
                cut_chunks(items_of(paths), 4),
                load,
                lambda batch: lambda: list(batch.samples),
                workers=2,
                on_workers_cores=False,
            )
        )
        assert [result.item.path for result in results] == paths
        died = [result.item.path for result in results if result.error == words]
        assert died == deadly
        others = [sample.item.path for sample in expected.samples if sample.error is None]
        fine = [result.item.path for result in results if result.error is None]
        assert fine == [path for path in others if path not in deadly]
        pixels = load(items_of(path for path in paths if path not in deadly)).pixels
    assert np.array_equal(pixels, loader()(items_of(p for p in paths if p not in deadly)).pixels)


def test_a_bug_ends_the_run(paths: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    def broken(source: Source, room: Room = ENDLESS) -> Decoded:
        raise ZeroDivisionError(source)

    with apart(loader(broken)) as load, ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(load, items_of(paths[:2])) for _ in range(4)]:
            with pytest.raises(ProcessError, match="ended by status 1"):
                job.result(PATIENCE)
    assert f"ZeroDivisionError: {paths[0]}" in capfd.readouterr().err


def test_a_process_killed_between_two_chunks_is_no_fault_of_a_picture(paths: list[str]) -> None:
    with apart(loader(), workers=1) as load:
        load(items_of(paths))
        (child,) = multiprocessing.active_children()
        child.kill()
        child.join()
        with pytest.raises(ProcessError, match="ended by SIGKILL"):
            load(items_of(paths))


def test_a_process_that_is_told_to_end_is_no_fault_of_a_picture(paths: list[str]) -> None:
    names = [Path(paths[1]).name]
    ended = pytest.raises(ProcessError, match="ended by SIGTERM")
    with apart(loader(Deadly(names, signal.SIGTERM))) as load, ended:
        load(items_of(paths))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_to_the_terminal_leave_it_to_the_run(paths: list[str], number: int) -> None:
    with apart(loader(), workers=1) as load:
        load(items_of(paths))
        (child,) = multiprocessing.active_children()
        os.kill(child.pid or 0, number)
        assert len(load(items_of(paths)).samples) == len(paths)


def test_processes_end_with_a_run_that_is_killed(photos: Path) -> None:
    script = f"""
import multiprocessing, threading, time
from resnet_cli.images import Decoder
from resnet_cli.pipeline.batches import Decode, Loader, allocate_pixels
from resnet_cli.preprocess import Preprocess
from resnet_cli.pipeline.workers import Processes
from resnet_cli.records import Item
loader = Loader(Decoder(), Preprocess(), channels=3)
loader.decode = lambda path, room: time.sleep({2 * PATIENCE})
load = Processes(loader, workers=3, size=4)
threading.Thread(target=load, args=([Item("busy.jpg")],), daemon=True).start()
time.sleep(0.2)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep({PATIENCE})
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        children = [int(word) for word in run.stdout.readline().split()]
        assert len(children) == 3
        run.kill()
    deadline = time.monotonic() + PATIENCE
    while any(map(alive, children)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(number: int) -> bool:
    """Whether a process runs; one that ended may wait for somebody to notice."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_several_runs_at_a_time_end_each_by_itself(
    paths: list[str], tiny: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(list(tiny.predict(paths[:-1], batch_size=3, workers=2)))
    monkeypatch.setattr(processes, "pay_off", lambda *_, **__: True)

    def said(_: int) -> list[tuple[object, ...]]:
        return rows(list(tiny.predict(paths[:-1], batch_size=3, workers=2)))

    pool = ThreadPoolExecutor(3)
    jobs = [pool.submit(said, number) for number in range(9)]
    assert all(job.result(PATIENCE) == expected for job in jobs)
    pool.shutdown()


def test_where_no_process_can_start_threads_do(
    paths: list[str],
    tiny: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = list(tiny.predict(paths[:-1], batch_size=3, workers=2))
    monkeypatch.setattr(processes, "pay_off", lambda *_, **__: True)

    def refuse() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    ours = tiny.loader()
    with place_loader(ours, runtime=find_runtime("cpu"), workers=2, size=3, total=None) as load:
        assert load is ours  # with a bound on the memory of threads
    assert rows(list(tiny.predict(paths[:-1], batch_size=3, workers=2))) == rows(expected)
    assert "decoding in threads, which is slower" in caplog.text


@pytest.mark.parametrize("total", [None, 10])
def test_batches_may_be_larger_than_any_memory(
    paths: list[str], tiny: Classifier, total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = paths[:4] + paths[5:-1]
    assert len(readable) == 10
    expected = [row.label for row in tiny.predict(readable, workers=2)]
    monkeypatch.setattr(processes, "pay_off", lambda *_, **__: True)
    inputs = Inputs(iter(items_of(readable)), total)
    predictions = list(tiny.predict(inputs, batch_size=10**16, workers=2))
    assert [row.label for row in predictions] == expected


def test_processes_are_for_many_pictures_in_front_of_a_gpu() -> None:
    assert pay_off(FAST, workers=16, total=200_000)
    assert pay_off(FAST, workers=16, total=None)  # a stream
    assert not pay_off(find_runtime("cpu"), workers=16, total=200_000)
    assert not pay_off(FAST, workers=2, total=200_000)
    assert not pay_off(FAST, workers=16, total=200)


def test_a_process_that_may_have_no_children_uses_threads() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(os.getpid) != os.getpid()
        assert not pool.apply(pay_off, (FAST,), {"workers": 16, "total": None})


def test_large_pictures_are_taken_one_at_a_time_by_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(picture(tmp_path / f"{n}.png", (300, 300), seed=n)) for n in range(4)]
    diary = tmp_path / "diary"

    def slowly(source: Source, room: Room = ENDLESS) -> Decoded:
        room.claim(1000)
        for word in ("in", "out"):
            with diary.open("a") as file:  # a short line is written at once
                file.write(f"{word}\n")
            time.sleep(0.05)
        return Image.new("RGB", (60, 60))

    def together(each: int) -> list[str]:
        monkeypatch.setattr("resnet_cli.pipeline.batches.default_total", lambda: 4 * each)
        diary.write_text("")
        with apart(loader(slowly), workers=4) as load, ThreadPoolExecutor(4) as pool:
            list(pool.map(load, [items_of([name]) for name in names]))
        return diary.read_text().split()

    assert together(999) == ["in", "out"] * 4
    assert together(1000) != ["in", "out"] * 4


def test_the_turn_of_a_process_that_dies_is_the_next_ones(tmp_path: Path) -> None:
    names = [str(picture(tmp_path / f"{n}.png")) for n in range(2)]

    deadly = Deadly(["0.png"], signal.SIGKILL)

    def claims_and_dies(source: Source, room: Room = ENDLESS) -> Decoded:
        room.enter(1 << 30)
        room.claim(1 << 60)
        time.sleep(0.2)  # the other waits meanwhile
        return deadly(source)

    with apart(loader(claims_and_dies)) as load, ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(load, items_of([name])) for name in names]
        errors = [job.result(PATIENCE).samples[0].error for job in jobs]
    assert errors == ["its decoder was killed by SIGKILL, as when memory runs out", None]
