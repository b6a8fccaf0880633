import io
import os
import random
import re
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from items import arrivals_of, items_of, paths_of
from resnet_cli.errors import InputError
from resnet_cli.records import PAUSE, Item
from resnet_cli.sources import SUFFIXES, Inputs, find_inputs
from resnet_cli.sources.folders import Sieve, natural_key


def touch(*names: str) -> None:
    """Make empty files below the current folder; finding them does not open them."""
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(*inputs: str) -> list[str]:
    return list(paths_of(find_inputs(inputs)))


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put bytes on stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_numbers_are_put_in_natural_order() -> None:
    touch(
        "d/img10.jpg", "d/img2.jpg", "d/img1.jpg", "d/img2b.jpg", "d/a.jpg", "d/9.jpg", "d/10.jpg"
    )

    assert found("d") == [
        "d/9.jpg", "d/10.jpg", "d/a.jpg", "d/img1.jpg", "d/img2.jpg", "d/img2b.jpg", "d/img10.jpg",
    ]  # fmt: skip


def test_names_that_differ_in_zeros_have_one_order() -> None:
    touch("d/1.jpg", "d/01.jpg", "d/001.jpg", "d/2.jpg")

    assert found("d") == ["d/001.jpg", "d/01.jpg", "d/1.jpg", "d/2.jpg"]


def test_digits_of_other_scripts_do_not_stop_the_sorting() -> None:
    touch("d/x².jpg", "d/x٣.jpg", "d/x2.jpg", "d/x10.jpg", "d/①.jpg")

    assert set(found("d")) == {str(path) for path in Path("d").iterdir()}


def test_a_folder_is_searched_at_every_depth() -> None:
    touch("d/b/c/2.jpg", "d/b/1.png", "d/a10/1.jpg", "d/a2/1.jpg", "d/0.jpg")

    assert found("d") == ["d/0.jpg", "d/a2/1.jpg", "d/a10/1.jpg", "d/b/1.png", "d/b/c/2.jpg"]


@pytest.mark.parametrize("place", ["d", "d/", "./d", "."])
def test_paths_open_from_where_the_program_runs(place: str) -> None:
    touch("d/a/1.jpg")

    assert [Path(path).is_file() for path in found(place)] == [True]


def test_links_to_files_are_followed() -> None:
    touch("elsewhere/real.jpg", "d/1.jpg")
    Path("d/2.jpg").symlink_to(Path("elsewhere/real.jpg").absolute())

    assert found("d") == ["d/1.jpg", "d/2.jpg"]


def test_links_to_folders_inside_a_folder_are_not_followed() -> None:
    touch("elsewhere/real.jpg", "d/1.jpg")
    Path("d/link").symlink_to(Path("elsewhere").absolute())
    Path("d/loop").symlink_to(Path("d").absolute())

    assert found("d") == ["d/1.jpg"]


def test_a_link_to_a_folder_that_is_named_outright_is_followed() -> None:
    touch("elsewhere/real.jpg")
    Path("link").symlink_to("elsewhere")

    assert found("link") == ["link/real.jpg"]


def test_files_with_other_suffixes_are_passed_over_and_counted() -> None:
    touch("d/1.jpg", "d/notes.txt", "d/a/labels.csv", "d/a/2.PNG", "d/README", "d/.DS_Store")
    inputs = find_inputs(["d"])

    assert list(paths_of(inputs)) == ["d/1.jpg", "d/a/2.PNG"]
    assert inputs.total == 2
    assert inputs.passed_over == 3
    assert inputs.sieve.skipped == 1


@pytest.mark.parametrize("suffix", ["jpg", "JPG", "jpeg", "JPEG", "png", "bmp", "gif", "webp",
                                    "tif", "tiff", "ppm", "avif", "jfif", "jp2"])  # fmt: skip
def test_every_usual_suffix_is_a_picture(suffix: str) -> None:
    touch(f"d/1.{suffix}")

    assert found("d") == [f"d/1.{suffix}"]


def test_a_suffix_of_pictures_is_one_that_some_library_opens() -> None:
    Image.init()
    opened = {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN}

    # Pillow opens MPO as JPEG; HEIC is an extra's
    assert SUFFIXES - opened == {".mpo", ".heic", ".heif", ".hif"}
    for suffix in (".jpc", ".jpf", ".ras", ".icns", ".hif"):
        assert suffix in SUFFIXES
    for suffix in (".pdf", ".eps", ".ps", ".h5", ".mpg", ".fits", ".xpm"):  # rarely photographs
        assert suffix not in SUFFIXES


@pytest.mark.parametrize("name", ["notes.txt", "image", "archive.7z"])
def test_a_file_named_outright_is_always_tried(name: str) -> None:
    touch(name)
    inputs = find_inputs([name])

    assert list(paths_of(inputs)) == [name]
    assert inputs.passed_over == 0


def test_a_dangling_link_named_outright_is_tried_and_gets_its_row() -> None:
    Path("gone.jpg").symlink_to("nowhere.jpg")

    assert found("gone.jpg") == ["gone.jpg"]


def test_a_glob_gives_its_matches_in_natural_order() -> None:
    touch("d/img10.jpg", "d/img2.jpg", "d/other.png", "d/sub/img3.jpg")

    assert found("d/*.jpg") == ["d/img2.jpg", "d/img10.jpg"]
    assert found("d/img?.jpg") == ["d/img2.jpg"]
    assert found("d/img[12]*.jpg") == ["d/img2.jpg", "d/img10.jpg"]


def test_a_glob_with_two_stars_goes_to_every_depth() -> None:
    touch("d/1.jpg", "d/a/2.jpg", "d/a/b/3.jpg", "d/a/b/notes.txt")

    assert found("d/**/*.jpg") == ["d/1.jpg", "d/a/2.jpg", "d/a/b/3.jpg"]


@pytest.mark.parametrize("pattern", ["d/**", "d/**/*", "*", "**"])
def test_a_glob_that_matches_folders_and_their_files_gives_each_file_once(pattern: str) -> None:
    touch("d/1.jpg", "d/a/2.jpg", "d/a/b/3.jpg")

    assert found(pattern) == ["d/1.jpg", "d/a/2.jpg", "d/a/b/3.jpg"]


def test_several_inputs_keep_their_order() -> None:
    touch("d/1.jpg", "z.jpg", "a.jpg", "l1.jpg", "g2.png", "g1.png")
    Path("list.txt").write_text("l1.jpg\n")

    assert found("z.jpg", "d", "@list.txt", "g*.png", "a.jpg") == [
        "z.jpg", "d/1.jpg", "l1.jpg", "g1.png", "g2.png", "a.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("data", [
    b"a.jpg\nb c.jpg\n",
    b"a.jpg\nb c.jpg",
    b"a.jpg\r\nb c.jpg\r\n",
    b"\xef\xbb\xbfa.jpg\nb c.jpg\n",
    b"\n\na.jpg\n\n\nb c.jpg\n\n",
    b"\xef\xbb\xbf\r\na.jpg\r\n\r\nb c.jpg",
])  # fmt: skip
def test_a_list_holds_a_path_a_line(data: bytes) -> None:
    Path("list.txt").write_bytes(data)
    inputs = find_inputs(["@list.txt"])

    assert list(paths_of(inputs)) == ["a.jpg", "b c.jpg"]
    assert inputs.total == 2


def test_a_list_that_is_a_pipe_is_read_as_the_run_goes() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb", 0) as producer:
        inputs = find_inputs([f"@/dev/fd/{reader}"])
        os.close(reader)
        paths = arrivals_of(inputs)
        producer.write(b"a.jpg\n")
        assert (next(paths), next(paths), inputs.total) == ("a.jpg", PAUSE, None)


@pytest.mark.parametrize("data", [b"a.jpg\0new\nline.jpg\0", b"a.jpg\0new\nline.jpg"])
def test_names_may_end_with_zero_bytes(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    feed(monkeypatch, data)
    assert found("-") == ["a.jpg", "new\nline.jpg"]


def test_a_tail_of_zeros_takes_no_line_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"a.jpg\r\nb.jpg\n" + bytes(64))
    assert found("-")[:2] == ["a.jpg", "b.jpg"]


def test_a_name_that_a_zero_byte_ends_may_end_with_a_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed(monkeypatch, b"a.jpg\r\0b.jpg\0")
    assert found("-") == ["a.jpg\r", "b.jpg"]


def test_zero_bytes_may_come_late() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb", 0) as producer:
        paths = arrivals_of(find_inputs([f"@/dev/fd/{reader}"]))
        os.close(reader)
        producer.write(b"a.jpg")
        assert next(paths) == PAUSE
        producer.write(b"\0b.jpg\0")
        assert [next(paths), next(paths)] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_may_be_utf_16(monkeypatch: pytest.MonkeyPatch, encoding: str, end: str) -> None:
    monkeypatch.setattr("resnet_cli.sources.lists.LINES", 7)  # pieces that cut characters in two
    names = ["a.jpg", "käfer 日 🐝.jpg", "b.jpg"]
    Path("list.txt").write_bytes(f"\ufeff{end.join(names)}{end}".encode(encoding))
    assert found("@list.txt") == names


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tiff"])
def test_a_picture_is_no_list(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    Image.new("RGB", (9, 9)).save(f"a.{suffix}")
    feed(monkeypatch, Path(f"a.{suffix}").read_bytes())
    for given in ("-", f"@a.{suffix}"):
        with pytest.raises(InputError, match="cannot read a list of paths: it is itself an image"):
            found(given)


def test_stdin_is_not_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"a.jpg\n")
    with pytest.raises(InputError, match="cannot read stdin twice: name - once"):
        find_inputs(["-", "-"])


def test_what_a_pattern_matches_is_not_passed_over() -> None:
    touch("d/1.jpg", "d/notes.txt", "d/e/notes.txt")
    inputs = find_inputs(["d/*"])
    assert (list(paths_of(inputs)), inputs.passed_over) == (["d/1.jpg", "d/notes.txt"], 1)
    assert find_inputs(["d/**"]).passed_over == 0


def test_a_list_may_name_what_is_not_there() -> None:
    Path("list.txt").write_text("gone.jpg\nnotes.txt\n")

    assert found("@list.txt") == ["gone.jpg", "notes.txt"]


def test_a_missing_list_is_an_error_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"cannot read the list @list\.txt: there is no file"):
        find_inputs(["@list.txt"])


def test_paths_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"a.jpg\r\n\nd/b.jpg\n")
    inputs = find_inputs(["-"])

    assert inputs.total is None
    assert list(paths_of(inputs)) == ["a.jpg", "d/b.jpg"]


def test_stdin_may_be_any_text_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a.jpg\nb.jpg\n"))

    assert found("-") == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("place", ["gone", "gone.jpg", "d/*.png", "gone/**/*.jpg"])
def test_an_input_that_is_not_there_is_an_error_that_names_it(place: str) -> None:
    touch("d/1.jpg")

    with pytest.raises(InputError) as refused:
        find_inputs(["d", place])
    assert str(refused.value).startswith(f"cannot find {place}: name a file, a folder, a glob")


def test_an_empty_folder_is_an_error() -> None:
    Path("d/e").mkdir(parents=True)

    with pytest.raises(InputError, match="no images found: d: name an image or a folder"):
        find_inputs(["d"])


def test_a_folder_of_other_files_is_an_error_that_counts_them() -> None:
    touch("d/1.txt", "d/2.txt")

    with pytest.raises(InputError, match=r"no images found: d \(skipped 2 files without an image"):
        find_inputs(["d"])


def test_an_empty_folder_beside_a_picture_is_no_error() -> None:
    touch("1.jpg")
    Path("d").mkdir()

    assert found("d", "1.jpg") == ["1.jpg"]


@pytest.mark.parametrize("data", ["", "\n\n", "\r\n"])
def test_an_empty_list_is_an_error(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list.txt").write_text(data)
    feed(monkeypatch, data.encode())

    for given in ("@list.txt", "-"):
        with pytest.raises(InputError, match=f"no images found: {given} is empty: give a path a"):
            found(given)


def test_an_empty_list_beside_a_picture_is_no_error() -> None:
    touch("1.jpg", "list.txt")

    assert found("@list.txt", "1.jpg") == ["1.jpg"]


@pytest.mark.parametrize("name", ["a[1].jpg", "[abc].jpg", "a*b?.jpg", "two words.jpg", " x .jpg",
                                  "new\nline.jpg", "ants,bees.jpg", "é日.jpg",
                                  os.fsdecode(b"\xff\xfe.jpg")])  # fmt: skip
def test_any_name_is_found_in_a_folder_and_outright(name: str) -> None:
    touch(f"d/{name}", "d/a1.jpg", "d/axb2.jpg")

    assert f"d/{name}" in found("d")
    assert found(f"d/{name}") == [f"d/{name}"]


@pytest.mark.parametrize("folder", ["a[1]", "s p", "x*", os.fsdecode(b"\xff")])
def test_any_folder_is_searched(folder: str) -> None:
    touch(f"{folder}/1.jpg")

    assert found(folder) == [f"{folder}/1.jpg"]


@pytest.mark.parametrize(
    "name", [b"two words.jpg", b" x .jpg", b"\xff\xfe.jpg", "é日.jpg".encode()]
)
def test_any_name_without_a_newline_can_stand_in_a_list(
    name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(os.fsdecode(name))
    Path("list.txt").write_bytes(name + b"\n")
    feed(monkeypatch, name + b"\n")

    assert [os.fsencode(path) for path in found("@list.txt", "-")] == [name, name]
    assert all(Path(path).exists() for path in found("@list.txt"))


def test_a_file_whose_name_begins_with_a_sign_is_found_by_its_folder() -> None:
    touch("@1.jpg", "-")

    assert found("./@1.jpg", "./-") == ["./@1.jpg", "./-"]


class Endless(io.RawIOBase):
    """A stream of bytes that never ends."""

    def __init__(self) -> None:
        self.read_so_far = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        line = b"picture.jpg\n"
        size = min(len(buffer), len(line))
        buffer[:size] = line[:size]
        self.read_so_far += size
        return size


def test_an_endless_stdin_is_read_as_the_run_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Endless()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(source, 16)))
    inputs = find_inputs(["-"])

    assert source.read_so_far == 0
    assert inputs.peek(3)[0] == items_of(["picture.jpg"] * 3)
    assert source.read_so_far < 100_000


def numbered() -> Iterator[Item]:
    return (Item(f"{number}.jpg") for number in count())


def test_peek_gives_the_first_paths_and_then_all_of_them_again() -> None:
    first, again = Inputs(numbered(), None, Sieve(passed_over=7)).peek(3)
    remaining = paths_of(again)

    assert first == items_of(["0.jpg", "1.jpg", "2.jpg"])
    assert [next(remaining) for _ in range(5)] == [f"{number}.jpg" for number in range(5)]
    assert (again.total, again.passed_over) == (None, 7)


def test_peek_takes_no_more_than_it_shows() -> None:
    source = numbered()
    Inputs(source, None).peek(2)

    assert next(source) == Item("2.jpg")


def test_peek_of_more_than_there_is_gives_all() -> None:
    touch("d/1.jpg", "d/2.jpg", "d/x.txt")
    first, again = find_inputs(["d"]).peek(9)

    assert first == list(again.items) == items_of(["d/1.jpg", "d/2.jpg"])
    assert (again.total, again.passed_over) == (2, 1)


def test_a_link_that_leads_nowhere_is_owed_a_row(tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "gone.jpg").symlink_to("nowhere.jpg")

    assert list(paths_of(find_inputs([str(folder)]))) == [str(folder / "gone.jpg")]


def test_links_to_folders_and_pipes_are_passed_over_and_counted() -> None:
    touch("d/1.jpg", "elsewhere/2.jpg")
    Path("d/link").symlink_to("../elsewhere")
    Path("d/loop.jpg").symlink_to("loop.jpg")  # leads nowhere, which is owed a row
    os.mkfifo("d/pipe.jpg")
    inputs = find_inputs(["d"])

    assert list(paths_of(inputs)) == ["d/1.jpg", "d/loop.jpg"]
    assert inputs.irregular == {"links to folders": 1, "pipes and devices": 1}


def test_knots_of_links_and_devices_end_no_run() -> None:
    touch("d/1.jpg")
    Path("d/self").symlink_to(".")
    Path("d/up.jpg").symlink_to("..")
    Path("d/loop").symlink_to("loop")
    Path("d/one.jpg").symlink_to("two.jpg")
    Path("d/two.jpg").symlink_to("one.jpg")
    Path("d/null.jpg").symlink_to("/dev/null")
    inputs = find_inputs(["d"])

    assert list(paths_of(inputs)) == ["d/1.jpg", "d/one.jpg", "d/two.jpg"]
    assert inputs.passed_over == 1  # the loop without a suffix
    assert inputs.irregular == {"links to folders": 2, "pipes and devices": 1}


def test_a_list_that_nobody_named_is_not_followed() -> None:
    touch("d/@list.jpg", "secret.jpg")
    Path("list.txt").write_text("@other.txt\n")
    Path("other.txt").write_text("secret.jpg\n")

    assert found("d", "@list.txt", "d/@*.jpg") == ["d/@list.jpg", "@other.txt", "d/@list.jpg"]


def test_a_list_and_a_file_of_the_same_name_are_told_apart() -> None:
    touch("@x.jpg", "x.jpg")

    with pytest.raises(InputError, match=r"cannot tell what @x\.jpg means"):
        find_inputs(["@x.jpg"])


def test_a_slow_stdin_gives_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="utf-8") as stdin, os.fdopen(writer, "wb", 0) as producer:
        monkeypatch.setattr(sys, "stdin", stdin)
        paths = arrivals_of(find_inputs(["-"]))
        producer.write(b"a.jpg\nb.j")
        assert [next(paths), next(paths)] == ["a.jpg", PAUSE]
        producer.write(b"pg\n\nc.jpg")
        producer.close()
        assert [path for path in paths if path != PAUSE] == ["b.jpg", "c.jpg"]


def test_a_closed_stdin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    with pytest.raises(InputError, match="cannot read paths from stdin"):
        find_inputs(["-"])


def old_key(name: str) -> tuple[list[str | int], str]:
    """Text and numbers in turn: what natural order means."""
    parts: list[str | int] = list(re.split(r"(\d+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def test_natural_order_is_that_of_text_and_numbers_in_turn() -> None:
    letters = "ab-.019 _\u0663\udce9"
    names = {"".join(random.Random(n).choices(letters, k=n % 6 + 1)) for n in range(3000)}

    assert sorted(names, key=lambda name: (natural_key(name), name)) == sorted(names, key=old_key)


def test_a_stream_that_comes_to_an_output_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("d/grid.png")
    feed(monkeypatch, b"a.jpg\nd/../d/grid-12.png\n")
    paths = paths_of(find_inputs(["-"]).without(["d/grid.png"]))

    assert next(paths) == "a.jpg"
    with pytest.raises(InputError, match=r"grid-12\.png is one of the images"):
        next(paths)
