"""Archives by URL: on a web server that sends parts of files, or only whole ones."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from packing import data_of, items_in, outcome, pack, png
from resnet_cli.pipeline.prefetch import Fetched, Prefetch
from resnet_cli.records import Item
from resnet_cli.sources import fetch
from resnet_cli.sources.archives import stored_member

pytest.importorskip("aiohttp")

FILES = {"a.png": png(1), "d/b c.png": png(2), "d/b c.cls": b"7", "notes.txt": b"", "e.png": png(3)}


class Server(SimpleHTTPRequestHandler):
    """Sends the files of the current folder, or some of their bytes where it is asked to."""

    parts = True
    failing = False  # each second time
    asked: list[str]

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get("Range") if self.parts else None
        self.asked.append(wanted or "all")
        if not path.is_file():
            self.send_error(404)
            return
        if wanted and self.failing and len(self.asked) % 2 == 0:
            self.send_error(503)
            return
        data = path.read_bytes()
        size = len(data)
        if wanted:
            first, _, last = wanted.partition("=")[2].partition("-")
            data = data[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        if self.parts:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve the current folder; the address of a file there, and what was asked for."""
    servers = []

    def begin(name: str, **facts: object) -> str:
        handler = type("Handler", (Server,), {"asked": [], **facts})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(Path.cwd())))
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/{name}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["stored.zip", "deflated.zip", "x.tar", "x.tar.gz"])
def test_images_of_an_archive_on_a_server_are_those_of_its_files(
    serve: Callable[..., str], name: str
) -> None:
    pack(name, FILES)
    url = serve(name)

    items = items_in(f"{url}?token=secret")

    scheme = name[-3:] if name.endswith("zip") else "tar"
    assert [item.path for item in items] == [
        f"{scheme}://{member}::{url}" for member in ("a.png", "d/b c.png", "e.png")
    ]
    assert list(map(data_of, items)) == [png(1), png(2), png(3)]
    assert [item.label for item in items] == [None, 7, None]
    assert all("secret" not in repr(item) for item in items)


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_an_image_on_a_server_is_read_by_its_path(serve: Callable[..., str], name: str) -> None:
    pack(name, FILES)
    path = f"{name[-3:]}://d/b c.png::{serve(name)}"

    assert stored_member(path).read() == png(2)
    assert list(map(data_of, items_in(path))) == [png(2)]


def test_members_of_a_zip_are_fetched_ahead_each_by_one_request(serve: Callable[..., str]) -> None:
    asked: list[str] = []
    pack("x.zip", {f"{number}.png": png(number) for number in range(40)})
    items = items_in(serve("x.zip", asked=asked))
    asked.clear()

    fetched = Prefetch(items, 8)
    members = [item for item in fetched if isinstance(item, Item)]

    assert all(isinstance(item.content, Fetched) for item in members)
    assert list(map(data_of, members)) == [png(number) for number in range(40)]
    fetched.close()
    assert len(asked) == 40
    assert all(one.startswith("bytes=") for one in asked)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_a_server_that_fails_at_times_is_asked_again(
    serve: Callable[..., str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.01)
    asked: list[str] = []
    files = {f"{number}.png": random.Random(number).randbytes(1 << 21) for number in range(6)}
    pack(name, files)

    items = items_in(serve(name, failing=True, asked=asked))

    assert list(map(data_of, items)) == list(files.values())
    assert len(asked) > 3


def test_a_server_that_sends_whole_files_only_is_named(serve: Callable[..., str]) -> None:
    pack("x.zip", FILES)
    pack("x.tar", FILES)
    pack("good.zip", FILES)

    (zipped, *_), tarred = (
        items_in(serve("x.zip", parts=False), "good.zip"),
        items_in(serve("x.tar", parts=False)),
    )

    assert outcome(zipped) == "its server sends no parts of files: download it first"
    assert list(map(data_of, tarred)) == [png(1), png(2), png(3)]  # which is read as it comes


def test_a_large_zip_that_comes_whole_is_named_once(serve: Callable[..., str]) -> None:
    noise = random.Random(0).randbytes(700_000)  # more than is read of it at once
    pack("x.zip", {**FILES, "noise.bin": noise})
    pack("good.zip", FILES)

    first, *others = items_in(serve("x.zip", parts=False), "good.zip")

    assert outcome(first) == "its server sends no parts of files: download it first"
    assert len(others) == 3


def test_an_archive_that_is_not_on_its_server_is_a_row(serve: Callable[..., str]) -> None:
    pack("good.zip", FILES)

    missing, *others = items_in(serve("none.zip"), "good.zip")

    assert "the server answers 404 (Not Found)" in outcome(missing)
    assert len(others) == 3
    (only,) = items_in(serve("none.tar"))
    assert "the server answers 404 (Not Found)" in outcome(only)
