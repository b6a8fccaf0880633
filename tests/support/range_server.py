"""A server of the files in the current folder that sends parts of them, and may fail."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


class Parts(BaseHTTPRequestHandler):
    """Answers HEAD, and GET of ranges."""

    failing = 0  # how many of the next requests for a part fail with status 503
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        if type(self).failing and "Range" in self.headers:
            type(self).failing -= 1
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """Send the file, or the part of it that was asked for."""
        data = Path(self.path.partition("?")[0].lstrip("/")).read_bytes()
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (
            (int(asked[1]), int(asked[2] or len(data) - 1)) if asked else (0, len(data) - 1)
        )
        part = data[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
        self.end_headers()
        if body:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving_parts() -> Iterator[str]:
    """Serve the current folder, and yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Parts) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
