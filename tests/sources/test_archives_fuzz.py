"""The short form of ``faults/fuzz_archives.py``."""

from pathlib import Path

from faults.fuzz_archives import CLEAN, archives, outcome, outcomes


def test_damaged_archives_are_read_or_refused(tmp_path: Path) -> None:
    ended = outcomes(tmp_path, 7, range(300))

    assert {number: end for number, end in ended.items() if end[1] not in CLEAN} == {}
    assert {end for _, end in ended.values()} == set(CLEAN)


def test_the_undamaged_archives_are_read(tmp_path: Path) -> None:
    for name, data in archives(tmp_path).items():
        if name != "again.tar.gz":
            (tmp_path / name).write_bytes(data)
            assert outcome(tmp_path / name) == "read", name
