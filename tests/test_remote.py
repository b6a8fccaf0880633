"""Files by URL: how they are named, opened and kept."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from resnet_cli import remote
from resnet_cli.errors import ExtraError, InputError
from resnet_cli.remote import fetch_file, open_binary, redact_argument, redact_text, redact_url
from servers import Answer, Site, send, serving

BODY = bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a/b.jpg", "https://h/a/b.jpg"),
        ("https://me:pw@h:8080/a.jpg#part", "https://h:8080/a.jpg"),
        ("https://h/a.jpg?X-Amz-Signature=1&X-Amz-Date=2&token=3", "https://h/a.jpg"),
        ("https://h/a.jpg?sv=2024&se=1&sp=r&sig=abc", "https://h/a.jpg"),
        ("https://me@h/x?t=a::b", "https://h/x#query=a8e66c85a7bf"),
        ("https://h/x,https://me:pw@i/y", "https://h/x,https://i/y"),
        ("s3://bucket/what?.jpg", "s3://bucket/what?.jpg"),
        ("s3://bucket/a@b#c.jpg", "s3://bucket/a@b#c.jpg"),
        ("sftp://me:pw@h/x/a.jpg", "sftp://h/x/a.jpg"),
        ("abfs://container@account.dfs.core.windows.net/a", None),
        ("zip://a@b.jpg::https://me:pw@h/x.zip?sig=1", "zip://a@b.jpg::https://h/x.zip"),
        ("tar://a.jpg::x.tar", "tar://a.jpg::x.tar"),
        ("photos/a.jpg", "photos/a.jpg"),
    ],
)
def test_what_is_secret_in_a_url_is_not_shown(url: str, shown: str | None) -> None:
    assert redact_url(url) == (url if shown is None else shown)
    assert redact_url(redact_url(url)).partition("#")[0] == redact_url(url).partition("#")[0]


def test_queries_that_select_tell_urls_apart_and_signatures_do_not() -> None:
    url = "https://h/image.php?id={}&X-Amz-Signature={}"

    assert redact_url(url.format(1, 1)) == redact_url(url.format(1, 2))
    assert redact_url(url.format(1, 1)) != redact_url(url.format(2, 1))
    assert "?" not in redact_url(url.format(1, 1))


def test_urls_in_texts_and_arguments_are_redacted() -> None:
    said = "403, url='https://me:pw@h/x?token=1', then s3://b/a.jpg"
    assert redact_text(said) == "403, url='https://h/x then s3://b/a.jpg"
    assert redact_argument("@https://me:pw@h/a b.txt?sig=a b") == "@https://h/a b.txt"
    assert redact_argument("--classes=https://h/c.txt?sig=1") == "--classes=https://h/c.txt"
    assert redact_argument("photos/") == "photos/"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"/model.bin": in_ranges("one")})) as server:
        yield server


def in_ranges(etag: str, body: bytes = BODY) -> Answer:
    """A page of which parts can be had."""

    def page(request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        if asked is None:
            send(request, body, ETag=etag, Accept_Ranges="bytes")
            return
        start, end = asked.removeprefix("bytes=").split("-")
        piece = body[int(start) : int(end) + 1]
        place = f"bytes {start}-{int(start) + len(piece) - 1}/{len(body)}"
        send(request, piece, status=206, ETag=etag, Content_Range=place)

    return page


def test_a_file_is_opened_where_it_lies(site: Site) -> None:
    with open_binary(f"{site.url}/model.bin") as file:
        file.seek(300)
        assert file.read(5) == BODY[300:305]
        assert file.seek(-3, 2) == len(BODY) - 3
        assert file.read() == BODY[-3:]


def test_a_file_is_downloaded_once_until_it_changes(site: Site) -> None:
    url = f"{site.url.replace('//', '//me:pw@')}/model.bin?token=secret"
    first = fetch_file(url)
    again = fetch_file(url.replace("secret", "another"))

    assert first == again
    assert first.name == "model.bin"
    assert first.read_bytes() == BODY
    assert sum(method == "GET" for method, _, _ in site.asked) <= 2  # one of them is a part
    kept = json.loads((first.parent / "entry.json").read_text())
    assert kept["key"] == {"url": f"{site.url}/model.bin", "bytes": len(BODY), "version": "one"}

    site.pages["/model.bin"] = in_ranges("two", BODY[::-1])
    assert fetch_file(url).read_bytes() == BODY[::-1]
    assert first.read_bytes() == BODY


@pytest.mark.parametrize("kind", ["cut", "status"])
def test_a_file_that_does_not_come_whole_is_not_kept(site: Site, kind: str) -> None:
    def page(request: BaseHTTPRequestHandler) -> None:
        if request.command == "HEAD":
            send(request, BODY, ETag="x", Accept_Ranges="none")
        elif kind == "cut":
            send(request, BODY[:1000], length=len(BODY))
        else:
            send(request, b"", status=500)

    site.pages["/model.bin"] = page
    with pytest.raises(InputError) as caught:
        fetch_file(f"{site.url}/model.bin?token=secret")

    assert str(caught.value).startswith(f"cannot download {site.url}/model.bin: ")
    assert "secret" not in str(caught.value)
    assert not list(Path("cache").glob("*/*"))


def test_a_missing_file_is_one_line(site: Site) -> None:
    for get in (fetch_file, open_binary):
        with pytest.raises(InputError, match=r"/none\.bin: the server answers 404 \(Not Found\)$"):
            get(f"{site.url}/none.bin?token=secret")


def test_a_package_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    remote.shared_file_system.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(ExtraError, match=r"s3://b/x needs an extra: pip install 'resnet-cli\["):
            open_binary("s3://b/x")
    with pytest.raises(InputError, match="cannot read nonsense://x"):
        open_binary("nonsense://x")
