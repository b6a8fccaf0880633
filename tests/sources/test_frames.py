"""Frames of videos, against PyAV's own decoding in a plain loop, to the pixel."""

import json
import os
import shutil
import subprocess
import sys
import threading
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from commands import SMALL, error_line
from conftest import Run
from resnet_cli.errors import ImageError, InputError, OptionError
from resnet_cli.images import Decoder
from resnet_cli.pipeline import cut_chunks
from resnet_cli.records import Item
from resnet_cli.sources import FindOptions, ahead, find_inputs, frames
from resnet_cli.sources.frames import StoredFrame, stored_frame
from servers import Site, serving
from videos import KINDS, decoded, frames_of, make_video, pictures
from writing import read_csv


def parts(items: list[Item]) -> list[str]:
    return [item.part for item in items]


def array(item: Item) -> np.ndarray:
    assert isinstance(item.content, np.ndarray), item.content
    return item.content


def reasons(items: list[Item]) -> list[tuple[str, str]]:
    """Part and reason of the items without pixels."""
    return [(item.part, item.content) for item in items if isinstance(item.content, str)]


@pytest.mark.parametrize("every", [1, 0.25, 0.7, 10])
@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_of_pyav(name: str, every: float) -> None:
    codec, pixels = KINDS[name]
    make_video(name, codec=codec, pixels=pixels)
    expected = {}
    due = 0
    for time, picture in decoded(name):
        if round(time * 1000) >= round(due * every * 1000):
            expected[f"t={round(time, 3):g}"] = picture
            while round(due * every * 1000) <= round(time * 1000):
                due += 1
    items = frames_of(name, every=every)
    assert parts(items) == list(expected)
    assert {item.path for item in items} == {name}
    for item in items:
        assert np.array_equal(array(item), expected[item.part])


def test_of_a_variable_frame_rate_the_first_frame_at_or_after_each_multiple_is_taken() -> None:
    times = [0, 40, 999, 1001, 1500, 2000, 4700, 4800, 5000, 5001]
    make_video("vfr.mp4", pictures(10), times=times)
    items = frames_of("vfr.mp4")
    assert parts(items) == ["t=0", "t=1.001", "t=2", "t=4.7", "t=5"]
    plain = [picture for _, picture in decoded("vfr.mp4")]
    for item, place in zip(items, (0, 3, 5, 6, 8), strict=True):
        assert np.array_equal(array(item), plain[place])
    assert len(frames_of("vfr.mp4", every=0.0001)) == 10  # each once


def test_frames_of_a_video_that_begins_later_count_from_its_begin() -> None:
    make_video("late.mkv", pictures(3), times=[700, 1200, 1700])
    assert parts(frames_of("late.mkv")) == ["t=0", "t=1"]


@pytest.mark.parametrize(("degrees", "mirrored"), [*product((0, 90, 180, 270), (False, True))])
def test_frames_stand_upright(degrees: int, *, mirrored: bool) -> None:
    make_video("turned.mp4", pictures(1), turn=(degrees, mirrored, False))
    ((_, stored),) = decoded("turned.mp4")
    expected = np.rot90(stored, degrees // 90)  # counter-clockwise, as PyAV's degrees
    if mirrored:
        expected = np.fliplr(expected)
    (item,) = frames_of("turned.mp4")
    assert np.array_equal(array(item), expected)
    assert np.array_equal(stored_frame("turned.mp4", "t=0"), expected)


def test_interlaced_frames_are_those_of_pyav() -> None:
    make_video("tv.mp4", options={"x264-params": "interlaced=1:tff=1"})
    with av.open("tv.mp4") as file:
        assert next(file.decode(video=0)).interlaced_frame
    expected = [picture for _, picture in decoded("tv.mp4")][::10]
    assert all(map(np.array_equal, map(array, frames_of("tv.mp4")), expected))


@pytest.mark.parametrize("color", ["RGB", "L"])
def test_a_frame_is_decoded_like_a_png_of_it(color: str) -> None:
    make_video("cam.mp4")
    for number, item in enumerate(frames_of("cam.mp4")):
        Image.fromarray(array(item)).save(f"{number}.png")
        for decoder in (Decoder(color), Decoder(bands=(3, 1, 2))):
            ours, saved = decoder(item.source), decoder(Path(f"{number}.png"))
            assert isinstance(ours, Image.Image) is isinstance(saved, Image.Image)
            assert np.array_equal(np.asarray(ours), np.asarray(saved))


def test_rows_of_frames_are_those_of_pngs(predict: Run) -> None:
    make_video("cam.mp4")
    for number, item in enumerate(frames_of("cam.mp4", every=0.5)):
        Image.fromarray(array(item)).save(f"{number}.png")
    predict("cam.mp4", "--every", "0.5", "-k", "3", "-o", "video.csv")
    predict("*.png", "-k", "3", "-o", "images.csv")
    video, images = (
        [
            {name: cell for name, cell in row.items() if not name.endswith(UNEQUAL)}
            for row in read_csv(Path(name))
        ]
        for name in ("video.csv", "images.csv")
    )
    assert len(video) == 6
    assert video == images


UNEQUAL = ("path", "part", "_ms", "batch_size")


def test_frames_of_several_videos_and_images_come_in_the_order_of_the_inputs(predict: Run) -> None:
    make_video("b.mp4", pictures(12))
    make_video("a.avi", pictures(12), codec="mpeg4")
    Image.fromarray(pictures(1)[0]).save("c.png")
    result = predict("b.mp4", "c.png", "a.avi", "-o", "rows.csv")
    assert result.exit_code == 0
    assert [(row["path"], row["part"]) for row in read_csv(Path("rows.csv"))] == [
        ("b.mp4", "t=0"), ("b.mp4", "t=1"), ("c.png", ""), ("a.avi", "t=0"), ("a.avi", "t=1"),
    ]  # fmt: skip
    assert "2/?  b.mp4, frame at 1 s  class_" in result.stdout


def test_a_run_that_was_killed_is_resumed(checkpoint: Path, predict: Run) -> None:
    make_video("long.mp4", pictures(300), options={"preset": "ultrafast"})
    options = ["long.mp4", "--every", "0.1", "-b", "2", "-j", "1"]
    command = [sys.executable, "-m", "resnet_cli", "predict", "-c", checkpoint, *SMALL, *options]
    with subprocess.Popen([*map(str, command), "-o", "rows.csv"], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        for _ in range(10):
            assert run.stdout.readline()
        run.kill()
    before = len(read_csv(Path("rows.csv")))
    assert 10 <= before < 300
    result = predict(*options, "-o", "rows.csv", "--resume")
    assert result.exit_code == 0
    rows = [(row["part"], row["status"]) for row in read_csv(Path("rows.csv"))]
    assert rows == [(f"t={number / 10:g}", "ok") for number in range(300)]


def test_a_damaged_video_prints_nothing_on_the_terminal(checkpoint: Path) -> None:
    data = bytearray(make_video("cam.mp4").read_bytes())
    data[200:2000:7] = b"\xff" * len(data[200:2000:7])
    Path("cam.mp4").write_bytes(data)
    command = [sys.executable, "-m", "resnet_cli", "predict", "-c", checkpoint, *SMALL]
    run = subprocess.run(
        [*map(str, command), "cam.mp4", "--every", "0.1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 3
    assert "ERROR" in run.stdout
    starts = ("Note: ", "cpu, ", "per image: ")
    assert all(line.startswith(starts) for line in run.stderr.splitlines())


def test_on_error_fail_names_the_frame(predict: Run) -> None:
    make_video("cam.mp4")
    result = predict("cam.mp4", "--max-pixels", "9", "--on-error", "fail")
    assert error_line(result).startswith(
        "Error: stopped at cam.mp4, frame at 0 s: has 3,072 pixels"
    )


def test_evaluate_says_that_frames_pass_once(evaluate: Run) -> None:
    make_video("cam.mp4")
    assert "images can be read only once" in error_line(evaluate("cam.mp4"))


def test_saved_rows_of_frames_are_scored_and_shown_again(predict: Run, run: Run) -> None:
    make_video("cam.mp4")
    predict("cam.mp4", "-o", "rows.csv")
    found = [int(row["index"]) for row in read_csv(Path("rows.csv"))]
    truths = [found[0], (found[1] + 1) % 3, (found[2] + 1) % 3]
    lines = [f"cam.mp4,t={second},{truth}" for second, truth in enumerate(truths)]
    Path("truth.csv").write_text("\n".join(["path,part,index", *lines]))
    result = run(
        "evaluate", "--predictions", "rows.csv", "--labels", "truth.csv",
        "--mistakes", "wrong.csv", "--report", "report.html", "-o", "metrics.json",
    )  # fmt: skip
    assert result.exit_code == 0
    wrong = [(row["path"], row["part"]) for row in read_csv(Path("wrong.csv"))]
    assert wrong == [("cam.mp4", "t=1"), ("cam.mp4", "t=2")]
    assert "cam.mp4, frame at 2 s" in result.stdout
    assert Path("report.html").read_text().count('type="text/plain"') == 3
    mistakes = json.loads(Path("metrics.json").read_text())["mistakes"]
    assert {mistake["part"] for mistake in mistakes} == {"t=1", "t=2"}


def test_a_video_that_is_cut_off_has_rows_up_to_there_and_one_error() -> None:
    whole = make_video("whole.mp4", container={"movflags": "faststart"}).read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    plain = dict(decoded_in_part("cut.mp4"))
    *taken, last = frames_of("cut.mp4", every=0.1)
    assert len(taken) >= 10
    assert all(np.array_equal(array(item), plain[item.part]) for item in taken)
    assert last.part == ""
    assert "is cut off after" in str(last.content)
    assert "of 3.000 s" in str(last.content)


def decoded_in_part(path: str) -> list[tuple[str, np.ndarray]]:
    """Part and pixels of each frame until PyAV gives up."""
    found = []
    with av.open(path) as file:
        for packet in file.demux(video=0):
            try:
                found += [
                    (f"t={round(frame.time, 3):g}", frame.to_ndarray(format="rgb24"))
                    for frame in packet.decode()
                ]
            except av.FFmpegError:
                break
    return found


@pytest.mark.parametrize(("name", "kept"), [("web.webm", 0.5), ("old.avi", 0.8)])
def test_other_containers_that_are_cut_off_say_so(name: str, kept: float) -> None:
    codec, pixels = KINDS[name]
    whole = make_video(f"whole-{name}", codec=codec, pixels=pixels).read_bytes()
    Path(name).write_bytes(whole[: int(kept * len(whole))])
    *taken, last = frames_of(name, every=0.1)
    assert 0 < len(taken) < 25
    assert last.part == ""
    assert isinstance(last.content, str)


def test_what_hangs_on_a_damaged_frame_is_an_error_until_the_next_whole_one() -> None:
    make_video("cam.mp4", options={"bf": "0"})
    with av.open("cam.mp4") as file:
        sizes = [(p.pos or 0, p.size) for p in file.demux(video=0) if p.size]
    data = bytearray(Path("cam.mp4").read_bytes())
    begin, size = sizes[7]  # of 30, a key frame each five
    data[begin + 6 : begin + size] = b"\xff" * (size - 6)
    Path("hurt.mp4").write_bytes(data)
    items = frames_of("hurt.mp4", every=0.1)
    whole = dict(zip(parts(frames_of("cam.mp4", every=0.1)), decoded("cam.mp4"), strict=True))
    bad = {part for part, _ in reasons(items)}
    assert bad
    assert bad <= {"", "t=0.7", "t=0.8", "t=0.9"}
    for item in items:
        if item.part not in bad:
            assert np.array_equal(array(item), whole[item.part][1])


def test_files_that_hold_no_frames_say_so_in_one_row() -> None:
    moov_at_end = make_video("x.mp4").read_bytes()
    files = {
        "empty.mp4": (b"", "the file is empty"),
        "header.mp4": (moov_at_end[: len(moov_at_end) // 2], "its header is damaged or missing"),
        "page.mov": (b"<!doctype html><html>", "is a web page (HTML)"),
        "pointer.avi": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "noise.mkv": (np.random.default_rng(0).bytes(5000), "its header is damaged or missing"),
        "list.mp4": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nx.mp4\n#EXT-X-ENDLIST\n", ""),
    }
    for name, (content, words) in files.items():
        Path(name).write_bytes(content)
        (item,) = frames_of(name)
        assert (item.path, item.part) == (name, "")
        assert isinstance(item.content, str)
        assert words in item.content


def test_sound_alone_has_no_video_stream() -> None:
    with av.open("sound.mp4", "w") as file:
        stream = file.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        file.mux(stream.encode(silence))
        file.mux(stream.encode())
    assert reasons(frames_of("sound.mp4")) == [("", "has no video stream")]


def test_the_first_video_stream_is_taken_and_covers_are_not() -> None:
    cover, first, second = pictures(3)
    with av.open("several.mp4", "w") as file:
        streams = [file.add_stream("mjpeg" if n == 0 else "libx264", rate=1) for n in range(3)]
        for stream in streams:
            stream.height, stream.width = cover.shape[:2]
            stream.pix_fmt = "yuvj420p" if stream is streams[0] else "yuv420p"
        streams[0].disposition = av.stream.Disposition.attached_pic
        for stream, picture in zip(streams, (cover, first, second), strict=True):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            file.mux(stream.encode())
    (item,) = frames_of("several.mp4")
    difference = np.abs(array(item).astype(int) - first).mean()
    others = [np.abs(array(item).astype(int) - other).mean() for other in (cover, second)]
    assert difference < min(others) / 2


def test_frames_that_are_too_large_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch, predict: Run
) -> None:
    make_video("cam.mp4")
    assert predict("cam.mp4", "--max-pixels", "3071", "-o", "a.csv").exit_code == 3
    rows = read_csv(Path("a.csv"))
    assert {row["error"] for row in rows} == {
        "has 3,072 pixels, over the limit of 3,071 (--max-pixels)"
    }
    monkeypatch.setattr(frames, "MOST_PIXELS", 3071)
    assert reasons(frames_of("cam.mp4")) == [
        ("", "has frames of 64x48 pixels, over the limit of 3,071")
    ]


def test_a_file_of_any_name_is_read() -> None:
    for name in ("http:x.mp4", "concat:a|b.mp4", "%d.mp4", os.fsdecode(b"caf\xe9.mp4")):
        shutil.copy(make_video("plain.mp4", pictures(2)), name)
        (item,) = frames_of(name)
        assert np.array_equal(array(item), decoded("plain.mp4")[0][1])


def test_a_video_by_url_has_the_same_frames() -> None:
    pytest.importorskip("aiohttp")
    whole = make_video("cam.mp4").read_bytes()
    with serving(Site({"/v/cam.mp4": whole, "/cut.mp4": whole[:900]})) as site:
        items = frames_of(f"{site.url}/v/cam.mp4?token=secret")
        (gone,) = frames_of(f"{site.url}/gone.mp4")
        (cut,) = frames_of(f"{site.url}/cut.mp4")
        again = stored_frame(f"{site.url}/v/cam.mp4", "t=1")
    local = frames_of("cam.mp4")
    assert parts(items) == parts(local)
    assert all(map(np.array_equal, map(array, items), map(array, local)))
    assert np.array_equal(again, array(local[1]))
    assert not any("secret" in item.path for item in items)
    assert "404" in str(gone.content) or "no such" in str(gone.content)
    assert "its header is damaged or missing" in str(cut.content)


def test_size_and_version_are_those_of_the_file() -> None:
    make_video("cam.mp4")
    state = Path("cam.mp4").stat()
    first, *others = frames_of("cam.mp4")
    assert (first.size, first.version) == (state.st_size, str(state.st_mtime_ns))
    assert {(item.size, item.version) for item in others} == {(None, str(state.st_mtime_ns))}


def test_a_run_that_ends_early_closes_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    make_video("cam.mp4")
    monkeypatch.setattr(ahead, "MOST_AHEAD", 2)
    before = set(threading.enumerate())
    found = find_inputs(["cam.mp4"], FindOptions(every=0.1))
    first, rest = found.peek(2)
    (thread,) = set(threading.enumerate()) - before
    assert len(first) == 2
    assert holds_open("cam.mp4")
    del found, rest
    thread.join(60)
    assert not thread.is_alive()
    assert not holds_open("cam.mp4")


def holds_open(name: str) -> bool:
    return Path(name).resolve() in {file.resolve() for file in Path("/proc/self/fd").iterdir()}


def test_a_stream_pauses_where_its_frames_take_too_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_video("cam.mp4")
    monkeypatch.setattr(ahead, "IN_FLIGHT", 4 * 48 * 64 * 3)
    monkeypatch.setattr(ahead, "READ_AHEAD", 1)
    items = find_inputs(["cam.mp4"], FindOptions(every=0.1)).items
    lengths = [len(chunk) for chunk in cut_chunks(items, 100)]
    assert sum(lengths) == 30
    assert max(lengths) <= 5
    assert 0 in lengths  # a pause, at which a run does all that came before


def test_many_short_videos_take_no_more_memory_than_a_long_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [str(make_video(f"{number}.mp4", pictures(2))) for number in range(12)]
    monkeypatch.setattr(ahead, "IN_FLIGHT", 4 * 48 * 64 * 3)
    chunks = cut_chunks(find_inputs(names, FindOptions(every=0.1)).items, 100)
    assert max(map(len, chunks)) <= 5


def test_a_frame_is_found_again_by_its_part() -> None:
    make_video("cam.mp4", options={"g": "12", "bf": "3"})
    make_video("open.mkv", options={"x264-params": "open-gop=1:keyint=8:bframes=3:scenecut=0"})
    make_video("old.avi", codec="mpeg4", options={"bf": "2"})
    for name in ("cam.mp4", "open.mkv", "old.avi"):
        for item in frames_of(name, every=0.1):
            assert np.array_equal(stored_frame(name, item.part), array(item))
    again = Decoder()(StoredFrame("cam.mp4", "t=1.3"))
    assert np.array_equal(np.asarray(again), decoded("cam.mp4")[13][1])


@pytest.mark.parametrize("part", ["t=0.55", "t=99", "t=x", "", "page=3"])
def test_a_part_that_names_no_frame_is_an_error(part: str) -> None:
    make_video("cam.mp4")
    with pytest.raises(ImageError, match="has no frame"):
        stored_frame("cam.mp4", part)


def test_without_the_library_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    make_video("cam.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        InputError, match=r"videos need an extra: pip install 'resnet-cli\[video\]'"
    ):
        find_inputs(["cam.mp4"])


@pytest.mark.parametrize("every", [0.0, -1.0, float("inf"), float("nan")])
def test_a_number_of_seconds_that_is_none_is_refused(every: float, predict: Run) -> None:
    with pytest.raises(OptionError, match="more than 0 seconds"):
        FindOptions(every=every)
    result = predict("cam.mp4", "--every", every)
    assert result.exit_code == 2
    assert "is not a number of seconds above 0" in result.stderr


@pytest.mark.parametrize(
    ("milliseconds", "part"),
    [
        (0, "t=0"),
        (40, "t=0.04"),
        (2500, "t=2.5"),
        (3000, "t=3"),
        (10_000, "t=10"),
        (1001, "t=1.001"),
    ],
)
def test_a_time_is_spelt_shortly_and_exactly(milliseconds: int, part: str) -> None:
    assert frames.part_of(milliseconds) == part
    assert Fraction(part.removeprefix("t=")) * 1000 == milliseconds
