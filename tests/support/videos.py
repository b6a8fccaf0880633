"""Small videos, made and decoded by PyAV in plain loops."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from resnet_cli.records import Item
from resnet_cli.sources import FindOptions, Inputs, find_inputs, without_pauses

Picture = NDArray[np.uint8]
Turn = tuple[float, bool, bool]  # degrees, mirrored left to right, mirrored top to bottom

MILLISECONDS = Fraction(1, 1000)

KINDS = {  # file: codec and pixel format
    "cam.mp4": ("libx264", "yuv420p"),
    "deep.mkv": ("libx264", "yuv422p10le"),
    "old.avi": ("mpeg4", "yuv420p"),
    "web.webm": ("libvpx-vp9", "yuv420p"),
    "photo.mov": ("mjpeg", "yuvj444p"),
}


def pictures(count: int = 30, size: tuple[int, int] = (64, 48)) -> list[Picture]:
    """Blots that move, [H, W, 3]; no picture looks like its mirror image."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count + 6, 8, 3)).astype(np.uint8)
    tall, wide = size[1] // 6, size[0] // 8
    return [coarse[n : n + 6].repeat(tall, 0).repeat(wide, 1) for n in range(count)]


def make_video(
    path: Path | str,
    shown: Sequence[Picture] = (),
    *,
    times: Sequence[int] | None = None,
    turn: Turn | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Encode pictures at ten a second, or at ``times`` in milliseconds; three seconds of blots."""
    shown = shown or pictures()
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=10, options={"g": "5", **(options or {})})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = shown[0].shape[:2]
        stream.pix_fmt = pixels
        if turn is not None:
            stream.set_display_rotation(*turn)
        if times is not None:
            stream.codec_context.time_base = MILLISECONDS
        for number, picture in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], MILLISECONDS
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return Path(path)


def decoded(path: Path | str) -> list[tuple[float, Picture]]:
    """The seconds and the pixels of every frame."""
    with av.open(str(path)) as file:
        return [
            (float(frame.time or 0.0), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            for frame in file.decode(video=0)
        ]


def frames_of(*paths: object, every: float = 1.0) -> list[Item]:
    """The items of videos, as a run takes them."""
    found: Inputs = find_inputs(list(map(str, paths)), FindOptions(every=every))
    return list(without_pauses(found.items))
