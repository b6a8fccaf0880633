"""The short form of the scripts in ``faults``."""

from pathlib import Path

from faults import fuzz_jpeg
from faults.fuzz_images import CLEAN, DECODERS, outcome, pictures, work
from faults.processes import outcomes_of
from jpegs import kinds


def test_damaged_images_have_pixels_or_a_reason() -> None:
    files = pictures()
    numbers = range(600)
    ended = dict(outcomes_of(work, 7, numbers, files))

    assert list(ended) == list(numbers)
    assert {number: end for number, end in ended.items() if end not in CLEAN} == {}
    assert set(ended.values()) == set(CLEAN)


def test_damaged_jpegs_are_the_same_to_every_library() -> None:
    numbers = range(400)
    ended = dict(outcomes_of(fuzz_jpeg.work, 7, numbers, kinds()))

    assert list(ended) == list(numbers)
    assert {number: end for number, end in ended.items() if end not in fuzz_jpeg.CLEAN} == {}
    assert set(ended.values()) >= {fuzz_jpeg.REFUSED, fuzz_jpeg.WARNED, fuzz_jpeg.READ}


def test_the_undamaged_images_are_read(tmp_path: Path) -> None:
    files = pictures()
    for kind, data in files.items():
        (tmp_path / kind).write_bytes(data)

    refused = {
        kind: ended
        for kind in files
        for decoder in DECODERS
        if (ended := outcome(tmp_path / kind, decoder)) != "read"
    }
    assert refused == {}
