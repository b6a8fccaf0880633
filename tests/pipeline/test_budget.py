import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

import numpy as np
import pytest
from PIL import Image

from conftest import picture
from items import items_of
from resnet_cli.errors import ImageError
from resnet_cli.images import Decoder
from resnet_cli.images.files import Room
from resnet_cli.pipeline import memory_budget as budget
from resnet_cli.pipeline.batches import Loader
from resnet_cli.pipeline.memory_budget import LARGE_FILE, MemoryBudget, Reservation
from resnet_cli.preprocess import Preprocess

MIB = 1 << 20


class Watch:
    """Notes the most that is held at once."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.now = self.most = self.together = self.crowd = 0

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        with self.lock:
            self.now, self.together = self.now + size, self.together + 1
            self.most, self.crowd = max(self.most, self.now), max(self.crowd, self.together)
        yield
        with self.lock:
            self.now, self.together = self.now - size, self.together - 1


def test_no_more_than_the_total_is_held_at_once() -> None:
    shared, watch = MemoryBudget(100), Watch()

    def take(size: int) -> int:
        with shared.claim(size), watch.holding(size):
            time.sleep(0.001)
        return size

    sizes = [1 + 37 * number % 60 for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(take, sizes)) == sizes
    assert watch.most <= 100
    assert watch.crowd > 1  # and it is no mere lock
    assert shared.held == 0


def test_what_is_over_the_total_is_held_alone() -> None:
    shared, watch = MemoryBudget(100), Watch()

    def take(size: int) -> None:
        with shared.claim(size), watch.holding(size):
            time.sleep(0.001)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, [500, 30, 700, 10, 900] * 6))
    assert watch.most <= 900  # never one of those and another


def test_a_large_claim_is_not_passed_by_small_ones_for_ever() -> None:
    shared = MemoryBudget(100)
    got, inside, leave = [], Event(), Event()

    def small_first() -> None:
        with shared.claim(60):
            inside.set()
            leave.wait(10)

    def take(size: int) -> None:
        with shared.claim(size):
            got.append(size)

    threads = [Thread(target=small_first)]
    threads[0].start()
    inside.wait(10)
    for size in (90, 10):  # the second would fit at once
        threads.append(Thread(target=take, args=(size,)))
        threads[-1].start()
        while len(shared.waiting) < len(threads) - 1:
            time.sleep(0.001)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert got == [90, 10]


def test_what_was_claimed_is_given_back_after_an_error() -> None:
    shared = MemoryBudget(100)
    with pytest.raises(KeyError), shared.claim(80):
        raise KeyError
    assert shared.held == 0


def loader(total: int) -> Loader:
    load = Loader(Decoder(), Preprocess(32, 32), channels=3)
    load.budget = MemoryBudget(total)
    return load


@pytest.mark.parametrize("large", [LARGE_FILE, 0])
def test_pictures_over_the_budget_are_decoded_one_at_a_time_and_the_same(
    tmp_path: Path, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "LARGE_FILE", large)
    paths = [str(picture(tmp_path / f"{n}.png", (90 + n, 70), seed=n)) for n in range(12)]
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths.insert(5, str(tmp_path / "bad.png"))
    expected = loader(1 << 40)(items_of(paths))

    tight = loader(1)
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(tight, [items_of(paths)] * 8))
    for batch in batches:
        assert np.array_equal(batch.pixels, expected.pixels)
        assert [sample.item.path for sample in batch.samples] == paths
        assert [sample.error is None for sample in batch.samples] == [n != 5 for n in range(13)]
    assert isinstance(tight.budget, MemoryBudget)
    assert tight.budget.held == 0


def test_waiting_for_memory_is_not_counted_as_decoding(tmp_path: Path) -> None:
    load, path = loader(1), picture(tmp_path / "one.png")
    load(items_of([path]))
    with ThreadPoolExecutor(1) as pool:
        with load.budget.claim(1):
            loading = pool.submit(load, items_of([path]))
            time.sleep(0.5)
        (sample,) = loading.result().samples

    assert sample.decode_ms is not None
    assert 0 < sample.decode_ms < 450


class Asked(Room):
    """Grants everything and notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def enter(self, size: int) -> None:
        self.asked.append(("enter", size))

    def claim(self, size: int) -> None:
        self.asked.append(("claim", size))

    def warn(self, message: str) -> None:
        raise AssertionError(message)


@pytest.mark.parametrize(("name", "each"), [
    ("a.jpg", 14), ("a.png", 28), ("a.tif", 28), ("a.webp", 38), ("a.jp2", 34),
])  # fmt: skip
def test_a_picture_claims_what_its_header_says(tmp_path: Path, name: str, each: int) -> None:
    path, room = tmp_path / name, Asked()
    Image.new("RGB", (300, 200)).save(path)
    Decoder()(path, room)

    size = path.stat().st_size
    assert room.asked == [("enter", size), ("claim", size + each * 300 * 200)]


@pytest.mark.parametrize(("name", "share"), [
    ("a.jpg", 0.5), ("a.jpg", 0.99), ("a.png", 0.5), ("a.webp", 0.5),
])  # fmt: skip
def test_a_file_that_is_cut_off_while_it_waits_has_no_pixels(
    tmp_path: Path, name: str, share: float
) -> None:
    path = picture(tmp_path / name)

    class Slow(Asked):
        def claim(self, size: int) -> None:
            super().claim(size)
            os.truncate(path, int(share * path.stat().st_size))

    with pytest.raises(ImageError):
        Decoder()(path, Slow())


def test_a_picture_that_is_refused_claims_nothing(tmp_path: Path) -> None:
    path, room = picture(tmp_path / "one.png"), Asked()
    with pytest.raises(ImageError):
        Decoder(max_pixels=100)(path, room)

    assert room.asked == [("enter", path.stat().st_size)]


def test_one_large_file_at_a_time_is_open_that_has_not_claimed() -> None:
    shared, passed = MemoryBudget(100), Event()
    first, second, small = Reservation(shared), Reservation(shared), Reservation(shared)
    first.enter(LARGE_FILE + 1)
    small.enter(LARGE_FILE)  # need not wait

    def wait() -> None:
        second.enter(LARGE_FILE + 1)
        passed.set()

    thread = Thread(target=wait)
    thread.start()
    assert not passed.wait(0.1)
    first.claim(80)
    assert passed.wait(10)
    thread.join(10)
    assert second.waited >= 0.1
    assert small.waited == 0
    for turn in (first, second, small):
        turn.close()
    assert shared.held == 0
    assert shared.large_file.acquire(blocking=False)


def test_a_large_file_that_is_refused_gives_the_door_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "LARGE_FILE", 0)
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [str(tmp_path / "bad.png"), str(picture(tmp_path / "good.png"))]

    assert [sample.error is None for sample in loader(1)(items_of(paths)).samples] == [False, True]


def test_waiting_at_the_door_is_not_counted_as_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "LARGE_FILE", 0)
    load, path = loader(1), picture(tmp_path / "one.png")
    load(items_of([path]))
    with ThreadPoolExecutor(1) as pool:
        with load.budget.large_file:
            loading = pool.submit(load, items_of([path]))
            time.sleep(0.5)
        (sample,) = loading.result().samples

    assert sample.decode_ms is not None
    assert 0 < sample.decode_ms < 450
