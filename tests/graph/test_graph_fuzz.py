"""The short form of ``faults/fuzz_graphs.py``."""

from pathlib import Path

from faults.fuzz_graphs import CLEAN, networks, outcome, work, write
from faults.processes import outcomes_of


def test_damaged_networks_are_read_or_refused(tmp_path: Path) -> None:
    numbers = range(120)
    ended = dict(outcomes_of(work, 7, numbers, networks(tmp_path)))

    assert list(ended) == list(numbers)
    assert {number: end for number, end in ended.items() if end not in CLEAN} == {}
    assert set(ended.values()) == set(CLEAN)


def test_the_undamaged_networks_run(tmp_path: Path) -> None:
    for kind, files in networks(tmp_path).items():
        assert outcome(write(tmp_path, kind, files)) == "ran", kind
