"""Videos -> a frame every few seconds, decoded on a thread ahead of the network."""

import os
import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_cli.errors import ImageError, InputError
from resnet_cli.images import MOST_PIXELS
from resnet_cli.images.files import HEAD, UNKNOWN, identify_file
from resnet_cli.records import Item, Pause, Pixels
from resnet_cli.remote import redact_url
from resnet_cli.sources.ahead import run_ahead
from resnet_cli.sources.inputs import Carried, Listing, Search, is_remote, open_container
from resnet_cli.system import available_cores, run_is_ending
from resnet_cli.text import amount

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Taken = tuple[int, Pixels | str]
"""A frame: its time in milliseconds, and its pixels or why it has none."""

FORMATS = "avi,matroska,mov"  # not playlists, which lead to other files
BUFFER = 1 << 20  # bytes read at once

MOST_THREADS = 16  # of a decoder; with more it gains nothing
MISSING = 1  # seconds by which a whole video may be shorter than it states

TIME = re.compile(r"t=(\d+)(?:\.(\d{1,3}))?")
CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")

WITHOUT_HEADER = "its header is damaged or missing, as of a recording that was cut off"
DAMAGED = "is damaged, or made from a frame before it that is"


def list_items(given: str, search: Search) -> Listing:
    """List the frames of a video, which is decoded as the run goes.

    Raises:
        InputError: the library for videos is not installed.
    """
    check_library(given)
    every = Fraction(str(search.options.every))
    return Listing(frame_items(given, every, search.carried), parts=True)


def check_library(path: str) -> None:
    """Refuse a video that nothing here can decode.

    Raises:
        InputError: names the extra.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise InputError(
            f"cannot read {path}: videos need an extra: pip install 'resnet-cli[video]'"
        ) from None


def frame_items(path: str, every: Fraction, carried: Carried) -> Generator[Item | Pause]:
    """Yield the frames of a video as items, and at its end an error if a part of it is lost.

    Args:
        path: of the video.
        every: seconds; each multiple of it has a frame, the first one at or after it.
        carried: in memory, by the frames of other videos too.
    """
    stop = Event()
    try:
        yield from run_ahead(decode_items(path, every, stop), carried)
    finally:
        stop.set()


def decode_items(path: str, every: Fraction, stop: Event) -> Iterator[Item]:
    """Yield frames as they are decoded, until no more are wanted."""
    whole = whole_video(path)
    try:
        for time, content in take_frames(path, every, stop):
            yield replace(whole, part=part_of(time), content=content)
            whole = replace(whole, size=None)  # its bytes count once
    except ImageError as error:
        yield replace(whole, content=str(error))


def whole_video(path: str) -> Item:
    """Return a video as an item, with the size and version that its frames share."""
    if is_remote(path):
        return Item(redact_url(path))
    try:
        state = os.stat(path)
    except OSError:  # its row says why it cannot be read
        return Item(path)
    return Item(path, size=state.st_size, version=str(state.st_mtime_ns))


def part_of(time: int) -> str:
    """Return the part that names a frame by its milliseconds: ``t=2.5``."""
    return f"t={time // 1000}.{time % 1000:03}".rstrip("0").rstrip(".")


def take_frames(path: str, every: Fraction, stop: Event) -> Generator[Taken]:
    """Yield the first frame at or after each multiple of ``every`` seconds.

    Raises:
        ImageError: the video cannot be read, or not to its end.
    """
    with opened_video(path) as video:
        due, last = Fraction(0), -1
        for time, frame in video.frames(stop):
            milliseconds = round(1000 * time)
            if time >= due and milliseconds > last:
                due, last = (time // every + 1) * every, milliseconds
                yield last, DAMAGED if video.damaged else upright_pixels(frame)
        if not is_over(stop):
            video.check_end(any_frame=last >= 0)


def is_over(stop: Event) -> bool:
    """Return True if no more frames are wanted."""
    return stop.is_set() or run_is_ending.is_set()


@contextmanager
def opened_video(path: str) -> Iterator["Video"]:
    """Open a video, and say in one sentence what ends its reading.

    Raises:
        ImageError: it cannot be read at all, or not to its end.
    """
    import av

    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_container(path))
            head = file.read(HEAD)
            if not head:
                raise ImageError("the file is empty")
            if not file.seekable():
                raise ImageError("its server sends no parts of files: download it first")
            file.seek(0)
            container = stack.enter_context(
                av.open(
                    file,
                    mode="r",
                    options={"format_whitelist": FORMATS},
                    metadata_errors="replace",
                    buffer_size=BUFFER,
                )
            )
            video = Video(container, choose_stream(container))
        except av.FFmpegError as error:
            raise ImageError(explain_unopened(head, error)) from error
        except (OSError, InputError) as error:
            raise ImageError(getattr(error, "strerror", None) or str(error)) from error
        try:
            yield video
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            raise ImageError(f"cannot be read after {video.place}: {reason_of(error)}") from error


def explain_unopened(head: bytes, error: Exception) -> str:
    """Say why a file cannot be opened as a video, or what it is instead."""
    found = identify_file(head)
    if found.startswith("is a video") or found == UNKNOWN:
        from av import InvalidDataError

        invalid = isinstance(error, InvalidDataError | EOFError)
        return WITHOUT_HEADER if invalid else f"cannot be read as a video: {reason_of(error)}"
    return found


def reason_of(error: Exception) -> str:
    """Return the words of a library."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def choose_stream(container: "InputContainer") -> "VideoStream":
    """Return the first stream of moving images, and prepare its decoder.

    Raises:
        ImageError: there is none, or it cannot be decoded.
    """
    from av.stream import Disposition

    stream = next(
        (one for one in container.streams.video if not one.disposition & Disposition.attached_pic),
        None,
    )
    if stream is None:
        raise ImageError("has no video stream")
    decoder = stream.codec_context
    if decoder is None:
        raise ImageError("is in a video codec that cannot be decoded")
    if decoder.width * decoder.height > MOST_PIXELS:
        size = f"{decoder.width}x{decoder.height}"
        raise ImageError(f"has frames of {size} pixels, over the limit of {MOST_PIXELS:,}")
    decoder.options = {"max_pixels": str(MOST_PIXELS)}  # the size may change on the way
    if decoder.name == "mjpeg":  # which fills up a damaged frame with what the memory held
        decoder.options |= {"err_detect": "explode"}
    decoder.thread_type = "AUTO"
    decoder.thread_count = min(available_cores(), MOST_THREADS)
    return stream


class Video:
    """An open video, which is read once, and how far that came."""

    def __init__(self, container: "InputContainer", stream: "VideoStream") -> None:
        """Begin before its first frame."""
        self.container = container
        self.stream = stream
        self.start: int | None = stream.start_time  # in units of its time base
        self.time: Fraction | None = None  # seconds, of the latest frame
        self.end = Fraction(0)  # seconds, of all that was read
        self.partial: int | None = None  # timestamp of the frame at which the file is cut off
        self.damaged = False  # whether the latest frame is, or hangs on one that is
        self.lost: list[str] = []  # where packets could not be decoded

    @property
    def place(self) -> str:
        """Say where in the video the reading is."""
        return f"{float(self.time or 0):.3f} s"

    def frames(self, stop: Event) -> Iterator[tuple[Fraction, "VideoFrame"]]:
        """Yield each frame with its time in seconds; what cannot be decoded is noted."""
        from av import FFmpegError

        packets = chain(self.container.demux(self.stream), [None])
        for packet, following in pairwise(packets):
            assert packet is not None  # which only the last one is
            self.note_end(packet)
            if following is not None and is_end(following) and self.missing:
                self.partial = packet.pts  # threads may give its frame out before they notice
            try:
                frames = packet.decode()
            except FFmpegError:
                self.lost.append(self.place)
                self.damaged = True
                continue
            for frame in frames:
                if is_over(stop):
                    return
                self.damaged = self.is_damaged(frame)
                self.time = self.time_of(frame)
                yield self.time, frame

    def is_damaged(self, frame: "VideoFrame") -> bool:
        """Return True for a frame that is damaged itself, or hangs on the one before, which is."""
        cut = frame.pts is not None and frame.pts == self.partial
        return frame.is_corrupt or cut or (self.damaged and not frame.key_frame)

    def note_end(self, packet: "Packet[VideoStream]") -> None:
        """Note how far the file reaches, whether or not it can be decoded."""
        if packet.pts is not None and packet.time_base is not None:
            after = packet.pts + (packet.duration or 0) - (self.start or 0)
            self.end = max(self.end, after * packet.time_base)

    def time_of(self, frame: "VideoFrame") -> Fraction:
        """Return the seconds from the start of the video; without timestamps, by its frame rate."""
        stamp = frame.dts if frame.pts is None else frame.pts
        if stamp is None or frame.time_base is None:
            rate = self.stream.guessed_rate or Fraction(1)
            return Fraction(0) if self.time is None else self.time + 1 / rate
        if self.start is None:
            self.start = stamp
        return (stamp - self.start) * frame.time_base

    def check_end(self, *, any_frame: bool) -> None:
        """Check that the whole video was decoded.

        Raises:
            ImageError: says how much is lost.
        """
        if not any_frame:
            raise ImageError("has no frame that can be decoded")
        if self.missing:
            stated = float(self.end + self.missing)
            raise ImageError(
                f"is cut off after {float(self.end):.3f} s of {stated:.3f} s: the frames up to "
                "there have rows"
            )
        if self.lost:
            packets = amount(len(self.lost), "frame")
            raise ImageError(f"{packets} could not be decoded, the first after {self.lost[0]}")

    @property
    def missing(self) -> Fraction:
        """Return the seconds that the file lacks by its header, if they are worth a word."""
        stated = self.stated_seconds()
        lacks = Fraction(0) if stated is None else stated - self.end
        return lacks if lacks > MISSING else Fraction(0)

    def stated_seconds(self) -> Fraction | None:
        """Return how long the stream is by its header; None where that does not say."""
        duration, base = self.stream.duration, self.stream.time_base
        if duration is not None and base is not None:
            return duration * base
        if clock := CLOCK.fullmatch(self.stream.metadata.get("DURATION", "")):
            hours, minutes, seconds = map(Fraction, clock.groups())
            return 3600 * hours + 60 * minutes + seconds
        return None

    def seek(self, time: Fraction) -> None:
        """Go to the last frame before a time that needs no other frame."""
        base = self.stream.time_base
        if base is not None:
            place = (self.start or 0) + int(time / base)
            self.container.seek(place, stream=self.stream)


def is_end(packet: "Packet[VideoStream]") -> bool:
    """Return True for the packet without data that PyAV gives after the last one."""
    return packet.size == 0 and packet.dts is None


def upright_pixels(frame: "VideoFrame") -> Pixels:
    """Return the pixels [H, W, 3] of a frame, turned as its video says."""
    pixels: Pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    return (
        pixels if matrix is None else turn_by_matrix(pixels, np.frombuffer(bytes(matrix), np.int32))
    )


def turn_by_matrix(pixels: Pixels, matrix: "np.ndarray[tuple[int], np.dtype[np.int32]]") -> Pixels:
    """Turn pixels by a display matrix, to the nearest quarter of a turn, and mirror them.

    Args:
        pixels: [H, W, 3], as stored.
        matrix: nine numbers a b u c d v x y w: a point (x, y) is shown at (ax + cy, bx + dy).
    """
    across, b, _, c, down = matrix[:5].tolist()
    if abs(b) > abs(across):
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    columns, rows = (slice(None, None, -1 if sign < 0 else 1) for sign in (across, down))
    return np.ascontiguousarray(pixels[rows, columns])


def stored_frame(path: str, part: str) -> Pixels:
    """Decode one frame again, from the nearest frame before it that needs no other.

    Args:
        path: of the video.
        part: of the frame, as ``frame_items`` names it.

    Returns:
        uint8 [H, W, 3], upright.

    Raises:
        ImageError: there is no such frame, or it cannot be read.
    """
    time = TIME.fullmatch(part)
    if time is None:
        raise ImageError(f"has no frame {part!r}")
    wanted = 1000 * int(time[1]) + int((time[2] or "").ljust(3, "0"))
    found = find_frame(path, wanted, seek=True)
    if not isinstance(found, np.ndarray):  # it hung on others, or the video cannot be entered there
        found = find_frame(path, wanted, seek=False)
    if not isinstance(found, np.ndarray):
        raise ImageError(found or f"has no frame at {part.removeprefix('t=')} s")
    return found


def find_frame(path: str, wanted: int, *, seek: bool) -> Pixels | str | None:
    """Return a frame by its milliseconds, or None if it was not met."""
    with opened_video(path) as video:
        if seek:
            video.seek(Fraction(wanted, 1000))
        for time, frame in video.frames(Event()):
            milliseconds = round(1000 * time)
            if milliseconds >= wanted:
                found = DAMAGED if video.damaged else upright_pixels(frame)
                return found if milliseconds == wanted else None
    return None


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame of a video that is decoded when it is needed, for reports of saved rows."""

    path: str
    part: str

    def read(self) -> bytes:
        """Return the frame as an image file without compression (PPM).

        Raises:
            ImageError: it cannot be read.
        """
        pixels = stored_frame(self.path, self.part)
        height, width, _ = pixels.shape
        return b"P6 %d %d 255\n%b" % (width, height, pixels.tobytes())
