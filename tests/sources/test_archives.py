"""Images in archives: which of them are found, under which paths, with which bytes and labels."""

import os
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from packing import KINDS, add, data_of, found, items_in, pack, png
from resnet_cli.errors import ImageError, InputError
from resnet_cli.records import Item, Pause
from resnet_cli.sources import ahead, find_inputs
from resnet_cli.sources.ahead import run_ahead
from resnet_cli.sources.archives import stored_member

NAMES = (
    "b/2.png",
    "b/10.png",
    "a.PNG",
    "with blank.png",
    "what?.png",
    "x#1.png",
    "Größe ß/日本.png",
    "50%.png",
    "[1]*.png",
    "./dot.png",
    f"{'long' * 40}/name.png",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_is_found_in_the_order_of_the_archive(kind: str) -> None:
    files = {name: png(seed) for seed, name in enumerate(NAMES)}
    pack(kind, {**files, "notes.txt": b"x", "inner.zip": b"PK\3\4"})

    inputs = found(f"./{kind}")
    items = [item for item in inputs.items if isinstance(item, Item)]

    scheme = "zip" if kind.endswith(".zip") else "tar"
    assert [item.path for item in items] == [f"{scheme}://{name}::./{kind}" for name in NAMES]
    assert list(map(data_of, items)) == list(files.values())
    assert [item.size for item in items] == list(map(len, files.values()))
    assert inputs.total == (len(NAMES) if scheme == "zip" else None)
    assert inputs.notes == ["skipped 2 files without an image extension"]
    assert sorted(path.name for path in Path().iterdir()) == [kind]  # nothing was unpacked


# fsspec does not know that .tgz is compressed
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "short.tgz"])
def test_fsspec_opens_the_path_of_each_item(kind: str) -> None:
    pack(kind, {name: png(seed) for seed, name in enumerate(NAMES)})

    for item in items_in(kind):
        with fsspec.open(item.path) as file:
            assert file.read() == data_of(item)


def test_fsspec_opens_names_that_are_not_utf8() -> None:
    with tarfile.open("x.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tarred:
        add(tarred, "Größe.png", png(1))
    Path("x.zip").write_bytes(
        pack("utf8.zip", {"Gr__e.png": png(2)}).read_bytes().replace(b"Gr__e", b"Gr\xf6\xdfe")
    )

    tarred_item, zipped_item = items_in("x.tar", "x.zip")

    assert os.fsencode(tarred_item.path) == b"tar://Gr\xf6\xdfe.png::x.tar"
    for item, data in ((tarred_item, png(1)), (zipped_item, png(2))):
        with fsspec.open(item.path) as file:
            assert file.read() == data == data_of(item)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_read_again_by_its_path(kind: str) -> None:
    pack(kind, {name: png(seed) for seed, name in enumerate(NAMES)} | {"a::b.png": png(99)})

    for item in items_in(kind):
        assert stored_member(item.path).read() == data_of(item)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("zip://none.png::x.zip", "the archive has no such file"),
        ("zip://a.png::none.zip", "there is no such file"),
        ("tar://none.png::x.tar", "the archive has no such file"),
        ("tar://a.png::x.zip", "is not a tar archive: it is an archive \\(zip\\)"),
        ("zip://a.png::zip://x.zip::y.zip", "archive within an archive"),
        ("zip://a.png", "is not the path of a file in an archive"),
        ("s3://a.png::x.zip", "is not the path of a file in an archive"),
        ("zip://../a.png::x.zip", "leads out of the archive"),
    ],
)
def test_a_path_that_leads_to_no_image_is_an_error(path: str, reason: str) -> None:
    pack("x.zip", {"a.png": png(), "../a.png": png()})
    pack("x.tar", {"a.png": png()})

    with pytest.raises(ImageError, match=reason):
        stored_member(path).read()


def test_an_archive_that_is_replaced_is_read_anew() -> None:
    pack("x.zip", {"a.png": png(1)})
    assert stored_member("zip://a.png::x.zip").read() == png(1)
    os.utime(pack("x.zip", {"b.png": b"", "a.png": png(2)}), (1, 1))

    assert stored_member("zip://a.png::x.zip").read() == png(2)


@pytest.mark.parametrize("kind", ["stored.zip", "plain.tar"])
def test_members_are_read_by_several_threads_at_a_time(kind: str) -> None:
    files = {f"{number}.png": png(number) * 50 for number in range(300)}
    pack(kind, files)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(data_of, items_in(kind))) == list(files.values())


@pytest.mark.parametrize("kind", ["stored.zip", "plain.tar", "packed.tar.gz"])
def test_hidden_and_excluded_files_are_left_out_and_counted(kind: str) -> None:
    names = ("a.png", "__MACOSX/._a.png", "._b.png", ".git/c.png", "raw/d.png", "raw/e.png")
    pack(kind, {name: png() for name in (*names, "f_mask.png", "Thumbs.db")})

    inputs = found(kind, exclude=["raw", "*_mask.png", "none"])

    paths = [item.path for item in inputs.items if isinstance(item, Item)]
    assert [path.partition("://")[2].partition("::")[0] for path in paths] == ["a.png"]
    assert inputs.notes == [
        "skipped 4 hidden or system files (--hidden to include them)",
        "excluded 1 file and 1 folder (--exclude)",
        "--exclude 'none' matched no file or folder below an INPUT",
    ]
    assert len(items_in(kind, hidden=True)) == 7


def test_archives_in_folders_are_passed_over_and_those_of_a_glob_are_read() -> None:
    Path("d").mkdir()
    for number in (10, 2):
        pack(f"d/{number}.tar", {f"{number}.png": png()})
    pack("d/a.zip", {"a.png": png()})
    Path("d/b.png").write_bytes(png())

    inputs = found("d")

    assert [item.path for item in inputs.known] == ["d/b.png"]
    assert inputs.notes == [
        "skipped 3 files without an image extension",
        "some of them hold images: to read them, name them: 'd/*.tar' 'd/*.zip'",
    ]
    assert [item.path for item in items_in("d/*.tar")] == [
        "tar://2.png::d/2.tar",
        "tar://10.png::d/10.tar",
    ]
    assert [item.path for item in items_in("d/b.png", "d/a.zip")] == [
        "d/b.png",
        "zip://a.png::d/a.zip",
    ]


LABELLED = {
    "1.cls": b"2\n",  # before and behind the image
    "1.png": png(1),
    "d/2.png": png(2),
    "d/2.seg.png": png(3),
    "d/2.cls": "Größe ".encode(),
    "3.json": b'{"caption": "x", "label": "bees"}',
    "3.png": png(4),
    "4.png": png(5),
    "4.json": b'{"cls": 1}',
    "5.png": png(6),
    "5.json": b'{"caption": "no class"}',
    "6.png": png(7),
    "6.txt": b"1",
    "7.json": b'{"label": "json"}',
    "7.png": png(8),
    "7.cls": b"cls",
    "8.png": png(9),
    "8.cls": b"\xff\xfe",
    "9.png": png(10),
    "9.json": b"[" * 100_000,
}
LABELS = [2, "Größe", "Größe", "bees", 1, None, None, "cls", None, None]


@pytest.mark.parametrize("kind", ["stored.zip", "plain.tar", "packed.tar.gz"])
def test_the_files_of_a_sample_state_its_class(kind: str) -> None:
    pack(kind, LABELLED)

    inputs = found(kind)
    items = [item for item in inputs.items if isinstance(item, Item)]

    assert [item.label for item in items] == LABELS
    assert list(map(data_of, items)) == [png(seed) for seed in range(1, 11)]
    assert inputs.notes == ["skipped 4 files without an image extension"]


def test_in_a_zip_the_files_of_a_sample_may_be_apart() -> None:
    pack("x.zip", {"1.png": png(), "2.png": png(), "2.cls": b"b", "0.cls": b"x", "1.cls": b"a"})

    assert [item.label for item in items_in("x.zip")] == ["a", "b"]


def test_an_archive_without_an_image_is_an_error() -> None:
    pack("x.zip", {"a.txt": b"x"})

    with pytest.raises(InputError, match=r"no images found: x.zip \(skipped 1 file without"):
        find_inputs(["x.zip"])


def test_a_tar_takes_no_more_memory_for_more_members() -> None:
    with tarfile.open("x.tar", "w") as tarred:
        for number in range(6000):
            add(tarred, f"{number}.png", b"x" * 700)

    def peak(count: int) -> int:
        items = iter(found("x.tar").items)
        for _ in range(count):
            next(items)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    few = peak(1000)
    many = peak(5900)
    tracemalloc.stop()

    assert many - few < 200 * 4900  # for hashes of names; members would take six times that


def test_a_stream_pauses_while_it_is_slow_and_before_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from threading import Event

    more = Event()
    monkeypatch.setattr(ahead, "IN_FLIGHT", 25)

    def slow() -> object:
        for number in range(4):
            yield Item(f"{number}", content=b"x" * 10)
        more.wait(10)
        yield Item("last", content=b"")

    taken: list[Item | Pause] = []
    for item in run_ahead(slow()):  # type: ignore[arg-type]
        taken.append(item)
        if len(taken) == 6:
            more.set()

    assert [getattr(item, "path", "pause") for item in taken[:6]] == [
        "0", "1", "2", "pause", "3", "pause",
    ]  # fmt: skip
    assert taken[-1] == Item("last")


def test_what_stops_a_stream_is_raised_where_it_is_taken() -> None:
    def broken() -> object:
        yield Item("a")
        raise KeyError("a fault of this program")

    taken = run_ahead(broken())  # type: ignore[arg-type]

    assert next(taken) == Item("a")
    with pytest.raises(KeyError):
        list(taken)


def test_a_stream_that_is_left_reads_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "READ_AHEAD", 10)
    read: list[int] = []

    def endless() -> object:
        for number in range(1000):
            read.append(number)
            yield Item(f"{number}", content=b"x" * 6)

    taken = run_ahead(endless())  # type: ignore[arg-type]
    assert [next(taken) for _ in range(3)] == [Item("0"), Item("1"), Item("2")]
    taken.close()

    assert len(read) <= 3 + 3
