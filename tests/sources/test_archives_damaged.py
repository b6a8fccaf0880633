"""Archives that are damaged or made to harm: rows with a reason, one sentence, and no more."""

import gzip
import io
import os
import re
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from packing import add, items_in, outcome, pack, png
from resnet_cli.errors import InputError
from resnet_cli.records import Item
from resnet_cli.sources import find_inputs, tars

DAMAGED = "its data in the archive are damaged"
CUT_OFF = "the archive is cut off within it"


def outcomes(*inputs: str) -> list[str]:
    return [outcome(item) for item in items_in(*inputs)]


def write_tar(*members: tuple[str, bytes, dict[str, object]], name: str = "x.tar") -> Path:
    mode = "w:gz" if name.endswith("gz") else "w"
    with tarfile.open(name, mode) as tarred:  # type: ignore[call-overload]
        for member, data, facts in members:
            add(tarred, member, data, **facts)
    return Path(name)


def zip_with(name: str, **facts: object) -> Path:
    """A zip whose first member has other facts in the directory than it should."""
    with zipfile.ZipFile("x.zip", "w") as zipped:
        zipped.writestr(name, png())
        zipped.writestr("good.png", png(1))
        for key, value in facts.items():
            setattr(zipped.filelist[0], key, value)
    return Path("x.zip")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>" + b" " * 900, "archive: it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1" + b" " * 900, "run 'git lfs pull'"),
        (b"\x01\x02\x03\x04" * 300, "is not a (zip|tar) archive$"),
        (b"short", "is not a (zip|tar) archive: it is a text"),
    ],
)
def test_what_is_no_archive_is_one_sentence(name: str, data: bytes, reason: str) -> None:
    Path(name).write_bytes(data)

    with pytest.raises(InputError, match=f"^cannot read {name}: .*{reason}"):
        find_inputs([name])


def test_an_archive_that_cannot_be_read_is_a_row_among_others() -> None:
    Path("bad.zip").write_bytes(b"short")
    Path("bad.tar").write_bytes(b"short")
    pack("good.zip", {"a.png": png()})

    assert outcomes("bad.zip", "good.zip", "bad.tar") == [
        "is not a zip archive: it is a text, not an image",
        "a.png",
        "is not a tar archive: it is a text, not an image",
    ]


@pytest.mark.parametrize("name", ["d.zip", "d.tar"])
def test_an_archive_that_is_no_file_is_no_archive(name: str) -> None:
    Path(name).mkdir()
    Path(name, "a.png").write_bytes(png())

    assert [item.path for item in items_in(name)] == [f"{name}/a.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_names_lead_nowhere_outside(suffix: str) -> None:
    names = ["/etc/a.png", "../a.png", "a/../../b.png", "C:\\a.png", "\\\\server\\a.png"]
    pack(f"x{suffix}", {**{name: png() for name in names}, "a..b.png": png(), "c:d.png": png()})

    reason = "its name leads out of the archive, and is not followed"
    assert outcomes(f"x{suffix}") == [reason] * len(names) + ["a..b.png", "c:d.png"]


def test_links_devices_and_sparse_files_of_a_tar_are_not_read() -> None:
    Path("secret.png").write_bytes(png())
    link, device = "is a link, which is not followed", "is a device or a pipe, not an image"
    write_tar(
        ("first.png", png(), {}),
        ("soft.png", b"", {"type": tarfile.SYMTYPE, "linkname": "../secret.png"}),
        ("hard.png", b"", {"type": tarfile.LNKTYPE, "linkname": "first.png"}),
        ("tty.png", b"", {"type": tarfile.CHRTYPE}),
        ("disk.png", b"", {"type": tarfile.BLKTYPE}),
        ("pipe.png", b"", {"type": tarfile.FIFOTYPE}),
        ("folder.png", b"", {"type": tarfile.DIRTYPE}),
        ("sparse.png", png(), {"type": tarfile.GNUTYPE_SPARSE}),
        ("pax.png", png(), {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}}),
        ("odd.png", png(), {"type": b"Q"}),
        ("last.png", png(), {}),
    )  # fmt: skip

    sparse = "is stored as a sparse file, which is not read"
    assert outcomes("x.tar") == [
        "first.png", link, link, device, device, device, sparse, sparse, "odd.png", "last.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "reason"), [(0o120777, "is a link"), (0o020666, "is a device"), (0o010666, "a pipe")]
)
def test_links_and_devices_of_a_zip_are_not_read(mode: int, reason: str) -> None:
    zip_with("a.png", external_attr=mode << 16, create_system=3)

    first, second = outcomes("x.zip")

    assert reason in first
    assert second == "good.png"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"flag_bits": 1}, "is encrypted in the archive"),
        ({"compress_type": 9}, "is compressed by Deflate64: pack the archive again with deflate"),
        ({"compress_type": 77}, "is compressed by method 77: pack the archive again with deflate"),
        ({"compress_type": 8}, DAMAGED),
        ({"CRC": 1}, DAMAGED),
        ({"file_size": 10}, DAMAGED),
        ({"file_size": 5000}, DAMAGED),
        ({"file_size": 2 << 30}, "has 2,147,483,648 bytes, too many for an image"),
        ({"file_size": 100 << 20}, "unpacks to .* times its size, as no image does"),
        ({"compress_size": 3 << 30}, "has 3,221,225,472 bytes, too many for an image"),
        ({"compress_size": 5000}, CUT_OFF),
        ({"header_offset": 10}, DAMAGED),
        ({"header_offset": 1 << 40}, CUT_OFF),
    ],
)
def test_a_member_of_a_zip_that_cannot_be_read_has_a_reason(
    facts: dict[str, object], reason: str
) -> None:
    zip_with("a.png", **facts)

    first, second = outcomes("x.zip")

    assert re.fullmatch(reason, first), first
    assert second == "good.png"


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_members_with_one_name_the_first_is_read(name: str) -> None:
    if name == "x.zip":
        with zipfile.ZipFile(name, "w") as zipped:
            for seed in range(3):
                zipped.writestr("a.png", png(seed))
    else:
        write_tar(*(("a.png", png(seed), {}) for seed in range(3)), name=name)

    repeated = "another member has its name: only the first of them is read"
    assert outcomes(name) == ["a.png", repeated, repeated]


def test_archives_in_archives_are_passed_over() -> None:
    pack("inner.zip", {"b.png": png()})
    pack("x.tar", {"inner.zip": Path("inner.zip").read_bytes(), "inner.tar": b"", "a.png": png()})

    inputs = find_inputs(["x.tar"])

    assert [item.path for item in inputs.items if isinstance(item, Item)] == ["tar://a.png::x.tar"]
    assert inputs.notes == ["skipped 2 files without an image extension"]


def cut(name: str, size: int) -> list[str]:
    """What is found in an archive of which only some bytes are left, beside a good one."""
    whole = Path(name).read_bytes()
    Path(f"cut-{name}").write_bytes(whole[:size])
    return outcomes(f"cut-{name}", "good.zip")[:-1]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_of_a_tar_that_is_cut_off_what_is_there_is_read(name: str) -> None:
    pack("good.zip", {"good.png": png()})
    names = [f"{number}.png" for number in range(4)]
    data = {name: os.urandom(700) for name in names}
    size = len(pack(name, data).read_bytes())
    part = size if name == "x.tar.gz" else 4 * 3 * 512

    for left in range(1, part, 97):
        *members, last = cut(name, left)
        kept = [member for member in members if member != CUT_OFF]
        assert kept == names[: len(kept)], left
        assert len(members) <= len(kept) + 1
        assert re.search("cut off|is not a tar archive|ends within", last), (left, last)
    assert cut(name, part // 2)[:1] == ["0.png"]
    assert cut(name, size) == names


def test_of_a_zip_that_is_cut_off_what_is_there_is_read() -> None:
    pack("good.zip", {"good.png": png()})
    names = [f"{number}.png" for number in range(4)]
    size = len(pack("deflated.zip", {name: os.urandom(700) for name in names}).read_bytes())

    for left in range(4, size, 97):
        *members, last = cut("deflated.zip", left)
        kept = [member for member in members if member != CUT_OFF]
        assert kept == names[: len(kept)], left
        assert len(members) <= len(kept) + 1
        assert last.startswith("its directory is missing or damaged, as if it were cut off"), last
    assert cut("deflated.zip", size // 2)[0] == "0.png"
    assert cut("deflated.zip", size) == names


def test_labels_are_read_without_the_directory_of_a_zip() -> None:
    data = pack("x.zip", {"1.png": png(), "1.cls": b"bees", "2.png": png()}).read_bytes()
    Path("y.zip").write_bytes(data[: data.index(b"PK\1\2")])

    assert [item.label for item in items_in("y.zip")] == ["bees", None, None]


def test_a_zip_written_as_a_stream_is_read_by_its_directory() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a.png", png())
        zipped.writestr("b.png", png(1))
    Path("x.zip").write_bytes(pipe.data)
    Path("cut.zip").write_bytes(pipe.data[:-30])

    assert outcomes("x.zip") == ["a.png", "b.png"]
    with pytest.raises(InputError, match="0 files found without it"):
        find_inputs(["cut.zip"])


def test_members_of_a_zip_behind_a_program_are_found() -> None:
    Path("x.zip").write_bytes(b"#!/bin/sh\n" * 50 + pack("y.zip", {"a.png": png()}).read_bytes())

    assert outcomes("x.zip") == ["a.png"]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_a_tar_with_a_damaged_header_says_from_where_it_is_not_read(name: str) -> None:
    data = bytearray(
        pack("y.tar", {f"{number}.png": b"x" * 600 for number in range(3)}).read_bytes()
    )
    data[1536 + 5] ^= 1
    Path(name).write_bytes(gzip.compress(bytes(data)) if name.endswith("gz") else data)

    assert outcomes(name) == [
        "0.png", "is damaged at byte 1,536: what follows it was not read"
    ]  # fmt: skip


def test_a_tar_without_the_mark_of_its_end_may_be_cut_off() -> None:
    data = pack("y.tar", {"0.png": b"x" * 600}).read_bytes()
    Path("x.tar").write_bytes(data[:1536])

    assert outcomes("x.tar") == ["0.png", "ends without the mark of an end: it may be cut off"]


def test_what_follows_the_mark_of_the_end_of_a_tar_is_not_lost_without_a_word() -> None:
    data = pack("y.tar", {"0.png": b"x" * 600, "1.png": b"y", "2.png": b"z"}).read_bytes()
    Path("blank.tar").write_bytes(data[:1536] + bytes(512) + data[2048:])
    Path("two.tar").write_bytes(data + data)

    assert outcomes("blank.tar") == [
        "0.png",
        "has more after the mark of its end at byte 2,048, which was not read",
    ]
    assert outcomes("two.tar")[:-1] == ["0.png", "1.png", "2.png"]
    assert "after the mark of its end" in outcomes("two.tar")[-1]


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    """A header of a tar, with whatever size."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("kind", "size", "reason"),
    [
        (b"x", 1 << 33, "is damaged at byte 1,024"),
        (b"g", 1 << 33, "is damaged at byte 1,024"),
        (b"L", 1 << 33, "is damaged at byte 1,024"),
        (b"0", -512, "is damaged at byte 1,024"),
        (b"0", 1 << 60, "is cut off"),
        (b"x", 1 << 19, "is cut off"),
    ],
)
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_sizes_that_cannot_be_take_no_memory(
    name: str, kind: bytes, size: int, reason: str
) -> None:
    first = pack("y.tar", {"0.png": b"x"}).read_bytes()[:1024]
    data = first + header(kind, size) + b"9" * 1024
    Path(name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    *members, last = outcomes(name)

    assert members[0] == "0.png"
    assert reason in last


def pax(records: bytes) -> bytes:
    return header(b"x", len(records)) + records.ljust(-(-len(records) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (b"16 path=new.png\n", "new.png"),
        (b"0 path=new.png\n", "a.png"),
        (b"5 path=new.png\n", "a.png"),
        (b"999999999 path=new.png\n", None),
        (b"9" * 400 + b" path=x\n", "a.png"),
        (b"12 size=1x\n", None),
        (b"11 size=-5\n", None),
    ],
)
def test_facts_in_front_of_a_member_do_no_harm(records: bytes, expected: str | None) -> None:
    data = png()
    member = header(b"0", len(data), "a.png") + data.ljust(512, b"\0")
    Path("x.tar").write_bytes(pax(records) + member + bytes(1024))

    try:
        found = outcomes("x.tar")
    except InputError as error:
        found = [str(error)]

    assert len(found) == 1
    assert expected is None or found == [expected]


def test_a_stream_that_unpacks_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "SUSPECT", 4 << 20)
    write_tar(
        ("a.png", os.urandom(900), {}),
        ("zeros.bin", bytes(16 << 20), {}),
        ("b.png", png(), {}),
        name="x.tar.gz",
    )

    assert outcomes("x.tar.gz") == ["a.png", "unpacks to over 200 times its size, as no image does"]


def test_a_stream_with_damaged_data_says_so() -> None:
    data = bytearray(
        pack("x.tar.gz", {f"{n}.png": os.urandom(90_000) for n in range(3)}).read_bytes()
    )
    data[150_000:150_100] = bytes(100)
    Path("y.tar.gz").write_bytes(data)

    first, *others = outcomes("y.tar.gz")

    assert first == "0.png"
    assert re.search("damaged$|is damaged: its checksum is another", others[-1])


def test_what_follows_the_end_of_a_compressed_tar_does_not_matter() -> None:
    Path("x.tgz").write_bytes(pack("y.tgz", {"a.png": png()}).read_bytes() + b"more")

    assert outcomes("x.tgz") == ["a.png"]


def test_a_checksum_of_a_zip_is_compared() -> None:
    data = pack("x.zip", {"a.png": b"abcdefgh", "b.png": b"x"}).read_bytes()
    assert struct.pack("<L", zlib.crc32(b"abcdefgh")) in data
    Path("y.zip").write_bytes(data.replace(b"abcdefgh", b"abcdefgi"))

    assert outcomes("y.zip") == [DAMAGED, "b.png"]


def test_nothing_is_written_beside_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "in" / "deep")
    for name in ("x.tar.gz", "x.zip"):
        pack(name, {"../../up.png": png(), "a.png": png()})
        outcomes(name)

    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"x.tar.gz", "x.zip"}
