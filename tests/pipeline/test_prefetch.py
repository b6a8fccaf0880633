"""Remote images are fetched ahead: in order, within bounds, from servers of all sorts."""

import gzip
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from random import Random
from time import monotonic, sleep

import numpy as np
import pytest
from PIL import Image

from resnet_cli.errors import ImageError
from resnet_cli.images import Decoder
from resnet_cli.pipeline import prefetch
from resnet_cli.pipeline.prefetch import Fetched, Prefetch
from resnet_cli.records import PAUSE, Item, Pause
from resnet_cli.sources import fetch
from resnet_cli.sources.fetch import RemoteObject, read_delay
from servers import Site, fail_in, send, serving

BODIES = {f"/{number}.bin": Random(number).randbytes(2000 + number) for number in range(200)}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(Site(dict(BODIES))) as server:
        yield server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.02)


def remote_item(url: str, *, size: int | None = None, timeout: float = 10.0) -> Item:
    return Item(url, content=RemoteObject(url, size, timeout))


def read(item: Item | Pause) -> bytes | str:
    assert isinstance(item, Item)
    assert not isinstance(item.content, str | None)
    try:
        return item.content.read()  # type: ignore[union-attr]
    except ImageError as error:
        return str(error)


def fetched_from(page: Callable[[BaseHTTPRequestHandler], None], timeout: float = 2.0) -> str:
    """What is said of a page that is no image."""
    with serving(Site({"/x.jpg": page})) as site:
        found = read(remote_item(f"{site.url}/x.jpg", timeout=timeout))
    assert isinstance(found, str)
    assert site.url not in found
    return found


def test_images_come_in_order_and_others_pass(site: Site) -> None:
    items: list[Item | Pause] = [remote_item(site.url + path) for path in BODIES]
    items[3] = local = Item("here.jpg")
    items[7] = PAUSE
    ahead = Prefetch(items, 8)
    found = list(ahead)
    bodies = [read(item) for place, item in enumerate(found) if place not in (3, 7)]

    assert (found[3], found[7]) == (local, PAUSE)
    assert bodies == [body for place, body in enumerate(BODIES.values()) if place not in (3, 7)]
    assert len(ahead.threads) == 8
    ahead.close()
    assert ahead.held == 0
    assert not any(thread.is_alive() for thread in ahead.threads)


def test_items_that_are_here_wait_for_nothing() -> None:
    asked: list[int] = []

    def items() -> Iterator[Item]:
        for number in range(100):
            asked.append(number)
            yield Item(str(number))

    stream = iter(Prefetch(items(), 32))
    assert next(stream) == Item("0")
    assert asked == [0]


def test_a_pickle_is_the_image_itself(site: Site) -> None:
    items = [remote_item(f"{site.url}/1.bin"), remote_item(f"{site.url}/none.bin")]
    with_bytes, without = pickle.loads(pickle.dumps(list(Prefetch(items, 2))))

    assert with_bytes.content == BODIES["/1.bin"]
    assert without.content == "the server answers 404 (Not Found)"


def test_an_image_is_read_twice_where_two_decoders_want_it(site: Site) -> None:
    [item] = Prefetch([remote_item(f"{site.url}/1.bin")], 2)

    assert read(item) == read(item) == BODIES["/1.bin"]


def test_neighbouring_parts_of_an_image_are_fetched_once() -> None:
    file = BytesIO()
    Image.effect_noise((90, 60), 50).convert("RGB").save(file, "PNG")
    parts = [f"xywh={place},2,20,30" for place in range(12)]
    with serving(Site({"/a.png": file.getvalue(), "/b.png": file.getvalue()})) as site:
        items = [
            replace(whole, part=part)
            for whole in (remote_item(f"{site.url}/a.png"), remote_item(f"{site.url}/b.png"))
            for part in parts
        ]
        ahead = Prefetch(items, 3)
        found = [np.asarray(Decoder()(item.source)) for item in ahead if isinstance(item, Item)]
        ahead.close()
        assert [site.gets(f"/{name}.png") for name in "ab"] == [1, 1]
    whole = np.asarray(Image.open(file))
    expected = [whole[2:32, place : place + 20] for place in range(12)] * 2
    assert all(map(np.array_equal, found, expected))
    assert ahead.held == 0


def test_what_is_fetched_ahead_is_bounded(site: Site) -> None:
    items = [remote_item(site.url + path, size=len(body)) for path, body in BODIES.items()]
    ahead = Prefetch(items, 4, total=10_000)
    before = len(site.asked)
    waiting = list(ahead)
    sleep(0.3)
    assert len(site.asked) - before == 4  # of 2,000 bytes and a few
    assert ahead.held <= 10_000

    assert [read(item) for item in waiting] == list(BODIES.values())
    assert ahead.held == 0
    ahead.close()


def test_what_nobody_reads_gives_its_room_back(site: Site) -> None:
    ahead = Prefetch([remote_item(f"{site.url}/{n}.bin", size=2000 + n) for n in range(9)], 2)
    waiting = list(ahead)
    assert read(waiting[-1]) == BODIES["/8.bin"]
    assert ahead.held > 0
    waiting.clear()
    assert ahead.held == 0
    ahead.close()


def test_large_ones_are_read_when_their_turn_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "LARGE", 2100)
    monkeypatch.setattr(prefetch, "ASSUMED", 2100)
    known = [remote_item(site.url + path, size=len(body)) for path, body in BODIES.items()]
    unknown = [remote_item(site.url + path) for path in BODIES]
    ahead = Prefetch([*known, *unknown], 8)
    waiting = list(ahead)

    assert [read(item) for item in waiting] == [*BODIES.values(), *BODIES.values()]
    assert ahead.held == 0
    ahead.close()


def test_the_end_does_not_wait_for_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Site({"/x.jpg": lambda _: sleep(20)})) as site:
        ahead = Prefetch([remote_item(f"{site.url}/x.jpg") for _ in range(5)], 2)
        items = list(ahead)
        said: list[bytes | str] = []
        waiting = threading.Thread(target=lambda: said.extend(map(read, items)))
        waiting.start()
        sleep(0.2)
        begun = monotonic()
        ahead.close()
        waiting.join(5)

    assert monotonic() - begun < 5
    assert said == ["the run was stopped before it came"] * 5
    assert not any(thread.is_alive() for thread in ahead.threads)


def test_what_fails_at_random_is_asked_for_until_it_comes(site: Site) -> None:
    random, lock = Random(0), threading.Lock()
    kinds = ["stall", "cut", "long", "less", "close", "500", "503", "429"]
    failed: list[str] = []

    def page(body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(request: BaseHTTPRequestHandler) -> None:
            with lock:
                kind = random.choice(kinds) if random.random() < 0.2 else ""
                failed.extend(filter(None, [kind]))
            fail_in(request, body, kind, silence=1.0) if kind else send(request, body)

        return answer

    with serving(Site({path: page(body) for path, body in BODIES.items()})) as flaky:
        items = [
            remote_item(flaky.url + path, size=len(body), timeout=2.0)
            for path, body in BODIES.items()
        ]
        ahead = Prefetch(items, 16)
        found = [read(item) for item in ahead]
        ahead.close()

    assert set(failed) == set(kinds)
    assert found == list(BODIES.values())


def test_what_does_not_pass_is_not_asked_for_again() -> None:
    for status, words in ((404, "404 (Not Found)"), (403, "403 (Forbidden)"), (299 + 300, "599")):
        site = Site({"/x.jpg": lambda request, status=status: send(request, b"", status=status)})  # type: ignore[misc]
        with serving(site):
            assert read(remote_item(f"{site.url}/x.jpg")) == f"the server answers {words}"
        assert len(site.asked) == 1


def test_what_goes_on_failing_says_how_often() -> None:
    said = fetched_from(lambda request: send(request, b"", status=503))

    assert said == "the server answers 503 (Service Unavailable), 5 times"


def test_a_server_that_asks_for_time_gets_it() -> None:
    times: list[float] = []

    def page(request: BaseHTTPRequestHandler) -> None:
        times.append(monotonic())
        first = len(times) == 1
        send(request, b"image", status=429 if first else 200, Retry_After="1")

    with serving(Site({"/x.jpg": page})) as site:
        assert read(remote_item(f"{site.url}/x.jpg")) == b"image"
    assert times[1] - times[0] >= 1


def test_a_server_that_asks_for_too_much_time_is_an_error() -> None:
    said = fetched_from(lambda request: send(request, b"", status=429, Retry_After="3600"))

    assert said == "the server answers 429 (Too Many Requests)"


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("7", 7, 7), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("soon", 0, 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, 1e12), ("-5", 0, 0)],
)  # fmt: skip
def test_the_time_that_a_server_asks_for(text: str, least: float, most: float) -> None:
    assert least <= read_delay(text) <= most


def test_a_server_that_stops_answering_is_an_error() -> None:
    begun = monotonic()
    said = fetched_from(lambda _: sleep(3), timeout=1.0)

    assert said.startswith("the server does not answer, ")
    assert monotonic() - begun < 3


def test_a_body_that_drips_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x")
            sleep(0.05)

    begun = monotonic()
    assert "does not answer" in fetched_from(drip, timeout=0.6)
    assert monotonic() - begun < 4


def test_a_redirect_to_a_file_is_not_followed() -> None:
    said = fetched_from(
        lambda request: send(request, b"", status=302, Location="file:///etc/passwd")
    )

    assert said == "it leads to an address that is not http, which is not followed"


def test_redirects_to_another_port_carry_no_credentials() -> None:
    with serving(Site({"/there.jpg": b"there"})) as other:

        def away(request: BaseHTTPRequestHandler) -> None:
            send(request, b"", status=302, Location=f"{other.url}/there.jpg")

        with serving(Site({"/x.jpg": away, "/y.jpg": b"image"})) as site:
            base = site.url.replace("//", "//someone:secret@")
            assert read(remote_item(f"{base}/x.jpg")) == b"there"
            assert read(remote_item(f"{base}/y.jpg")) == b"image"

    assert all("Authorization" in headers for _, _, headers in site.asked)
    assert [("Authorization" in headers) for _, _, headers in other.asked] == [False]


def test_a_circle_of_redirects_ends() -> None:
    said = fetched_from(lambda request: send(request, b"", status=302, Location="/x.jpg"))

    assert said == "it leads from one address to another without an end"


def test_endless_bodies_and_bombs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LARGEST_FILE", 3 << 20)
    bomb = gzip.compress(bytes(64 << 20))

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(1 << 16))

    for page in (
        endless,
        lambda request: send(request, bomb, Content_Encoding="gzip"),
        lambda request: send(request, b"x", length=5 << 20),
    ):
        assert fetched_from(page) == "has over 3,145,728 bytes, too many for an image"


def test_a_web_page_says_that_it_is_one() -> None:
    html = b"<!DOCTYPE html><html>Please log in</html>"
    with serving(Site({"/x.jpg": html})) as site, pytest.raises(ImageError, match="web page"):
        Decoder()(remote_item(f"{site.url}/x.jpg").source)


def test_the_words_of_a_server_are_not_repeated() -> None:
    def page(request: BaseHTTPRequestHandler) -> None:
        request.send_response(404, "\x1b[31mgone\x07")
        request.send_header("Content-Length", "0")
        request.end_headers()

    assert fetched_from(page) == "the server answers 404 (Not Found)"


def test_a_thread_that_fails_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(Fetched, "fetch", fail)
    [item] = Prefetch([remote_item(f"{site.url}/1.bin")], 1)
    with pytest.raises(KeyError):
        read(item)


def test_a_store_without_asyncio_is_read_as_well() -> None:
    Path("here.bin").write_bytes(b"here")
    url = f"file://{Path('here.bin').absolute()}"
    assert read(remote_item(url)) == b"here"
    assert read(remote_item(f"file://{Path.cwd()}")) == "is a folder, not an image"
    assert read(remote_item(f"{url}x")) == "there is nothing by that name"
