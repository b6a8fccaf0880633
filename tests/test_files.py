"""Output files: whole or absent, and refused beforehand if they cannot be written."""

import os
import stat
from pathlib import Path

import pytest

from conftest import room_for
from resnet_cli.errors import OutputError
from resnet_cli.files import check_new, check_new_files, whole_file, whole_path, write_text_file


class StopError(Exception):
    pass


def stop_in_the_middle() -> None:
    with whole_file(Path("x.txt")) as file:
        file.write(b"half")
        file.flush()
        raise StopError


@pytest.mark.parametrize("earlier", [None, "earlier"])
def test_a_file_that_is_not_finished_does_not_appear(earlier: str | None) -> None:
    if earlier is not None:
        Path("x.txt").write_text(earlier)
    with pytest.raises(StopError):
        stop_in_the_middle()
    left = {path.name: path.read_text() for path in Path().iterdir()}
    assert left == ({} if earlier is None else {"x.txt": earlier})


def test_a_link_stays_a_link() -> None:
    Path("real").mkdir()
    Path("real/x.txt").write_text("earlier")
    Path("x.txt").symlink_to("real/x.txt")
    write_text_file(Path("x.txt"), "new")
    assert Path("x.txt").is_symlink()
    assert Path("real/x.txt").read_text() == "new"
    assert len(list(Path("real").iterdir())) == 1


def test_a_library_does_not_decide_who_may_read_a_file() -> None:
    Path("usual").touch()
    with whole_path(Path("x.bin")) as new:
        new.unlink()
        os.close(os.open(new, os.O_CREAT, 0o600))
    assert stat.S_IMODE(Path("x.bin").stat().st_mode) == stat.S_IMODE(Path("usual").stat().st_mode)


def test_a_name_that_is_not_utf8_is_escaped_in_a_text() -> None:
    write_text_file(Path("x.txt"), os.fsdecode(b"caf\xe9 \xc3\xbc"))
    assert Path("x.txt").read_bytes() == b"caf\\udce9 \xc3\xbc"


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_earlier_one() -> None:
    write_text_file(Path("x.txt"), "earlier")
    with room_for(100), pytest.raises(OutputError, match=r"cannot write x\.txt: .*make room"):
        write_text_file(Path("x.txt"), "long " * 1000)
    assert [path.read_text() for path in Path().iterdir()] == ["earlier"]


def test_what_is_not_a_file_is_refused() -> None:
    os.mkfifo("pipe.csv")
    with pytest.raises(OutputError, match="it is a pipe or a device: name a file"):
        check_new(Path("pipe.csv"), overwrite=True)
    Path("folder.csv").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        check_new(Path("folder.csv"), overwrite=True)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["a.csv", "b.txt"], "cannot write b.txt: the suffix must be one of .csv, .json"),
        (["a.csv", "./a.csv"], "cannot write a.csv twice: name each output once"),
        (["missing/a.csv"], "cannot write missing/a.csv: there is no folder missing"),
        (["earlier.json"], "cannot write earlier.json: it already exists: use --overwrite"),
    ],
)
def test_files_are_checked_together(names: list[str], complaint: str) -> None:
    Path("earlier.json").touch()
    wanted = [(Path(name), (".csv", ".json")) for name in names]
    with pytest.raises(OutputError) as refused:
        check_new_files(wanted, overwrite=False)
    assert complaint in str(refused.value)
    check_new_files([(Path("A.CSV"), (".csv",))], overwrite=False)
