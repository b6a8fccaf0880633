"""Servers on the loopback for tests of images by URL: one of pages, and one of objects as S3's."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000  # objects of a page, as S3 has it

Answer = Callable[[BaseHTTPRequestHandler], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to its server."""

    protocol_version = "HTTP/1.1"
    server: "Site"

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        try:
            self.server.answer(self)
        except ConnectionError:
            self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Site(ThreadingHTTPServer):
    """A web server; each page is bytes, or a function that answers.

    Attributes:
        pages: by path, without the query.
        asked: method, path and headers of each request so far.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, pages: Mapping[str, bytes | Answer] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = dict(pages or {})
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self, path: str) -> int:
        """How often a path was got."""
        return sum(asked[:2] == ("GET", path) for asked in self.asked)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        page = self.pages.get(unquote(urlsplit(request.path).path))
        if page is None:
            send(request, b"", status=404)
        elif isinstance(page, bytes):
            send(request, page)
        else:
            page(request)


def send(
    request: BaseHTTPRequestHandler,
    body: bytes,
    *,
    status: int = 200,
    length: int | None = None,
    **headers: str,
) -> None:
    """Answer; a length that is not that of the body ends the connection."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
    request.close_connection = length is not None


@contextmanager
def serving(server: Site) -> Iterator[Site]:
    """Serve for as long as the block lasts."""
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Store(Site):
    """A store with one bucket, of which it answers ListObjectsV2, GetObject and HeadObject.

    Attributes:
        names: of the objects, sorted.
        body: returns the bytes of an object.
        fault: may answer a request for an object in another way, and returns True then.
    """

    def __init__(self, names: Sequence[str], body: Callable[[str], bytes]) -> None:
        super().__init__()
        self.names = sorted(names)
        self.body = body
        self.fault: Callable[[BaseHTTPRequestHandler, bytes], bool] = lambda *_: False
        self.size: Callable[[str], int] = lambda name: len(body(name))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        name = unquote(parts.path).removeprefix("/bucket").lstrip("/")
        if not name:
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            send(request, self.page(query), Content_Type="application/xml")
        elif not self.has(name):
            send(request, NO_KEY if request.command == "GET" else b"", status=404)
        else:
            body = self.body(name)
            if not self.fault(request, body):
                send(request, body, ETag=f'"{etag_of(body)}"')

    def has(self, name: str) -> bool:
        at = bisect_left(self.names, name)
        return self.names[at : at + 1] == [name]

    def page(self, query: Mapping[str, str]) -> bytes:
        """Return a page of the listing, as XML."""
        prefix = query.get("prefix", "")
        at = int(query.get("continuation-token", bisect_left(self.names, prefix)))
        entries: list[str] = []
        while at < len(self.names) and len(entries) < PAGE:
            name = self.names[at]
            if not name.startswith(prefix):
                at = len(self.names)
                break
            folder, slash, _ = name[len(prefix) :].partition("/")
            if slash and query.get("delimiter"):
                folder = f"{prefix}{folder}/"
                prefixes = f"<Prefix>{shown(folder)}</Prefix>"
                entries.append(f"<CommonPrefixes>{prefixes}</CommonPrefixes>")
                at = bisect_left(self.names, folder[:-1] + "0", at)  # 0 comes after the slash
                continue
            entries.append(
                f"<Contents><Key>{shown(name)}</Key><Size>{self.size(name)}</Size>"
                f'<ETag>"{etag_of(name.encode())}"</ETag></Contents>'
            )
            at += 1
        more = at < len(self.names)
        token = f"<NextContinuationToken>{at}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult><EncodingType>url</EncodingType>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(entries)}"
            "</ListBucketResult>"
        ).encode()


NO_KEY = b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>'


def shown(name: str) -> str:
    """A name as S3 lists it."""
    return escape(quote(name))


def etag_of(body: bytes) -> str:
    return f"{len(body):x}-{sum(body[:1000]):x}"


def fail_in(request: BaseHTTPRequestHandler, body: bytes, kind: str, silence: float) -> None:
    """Answer a request for an object in one of the ways in which servers fail."""
    match kind:
        case "stall":
            sleep(silence)
            request.close_connection = True
        case "cut":  # less than it says
            send(request, body[: len(body) // 2], length=len(body))
        case "long":  # says more than there is
            send(request, body, length=len(body) + 100)
        case "less":  # says less than there is
            send(request, body[: len(body) // 2], length=len(body) // 2)
        case "close":
            request.close_connection = True
        case _:
            send(request, b"not now", status=int(kind), Retry_After="0")
