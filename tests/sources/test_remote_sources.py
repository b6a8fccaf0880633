"""Images by URL, listed from servers that run here: one of moto for S3, and small ones for HTTP."""

import logging
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest

from items import arrivals_of, paths_of
from resnet_cli import remote
from resnet_cli.errors import ExtraError, ImageError, InputError, OptionError
from resnet_cli.records import PAUSE, Item
from resnet_cli.sources import FindOptions, Inputs, Search, find_inputs, item_of
from resnet_cli.sources import remote as source
from resnet_cli.sources.fetch import RemoteObject
from servers import Site, Store, send, serving
from stores import as_endpoint

boto3 = pytest.importorskip("boto3")

NAMES = (
    "photos/img10.jpg", "photos/img2.jpg", "photos/a10/1.png", "photos/a2/1.png",
    "photos/notes.txt", "photos/.hidden/1.jpg", "photos/._img2.jpg", "photos/__MACOSX/2.jpg",
    "photos/b/c/d/3.webp", "photos/b/x.jpg", "photos/odd [1]?.jpg", "photos/naïve +%20&.jpg",
    "other/1.jpg",
)  # fmt: skip


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket, and a folder with the same names."""
    as_endpoint(moto, monkeypatch)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    for name in NAMES:
        client.put_object(Bucket="bucket", Key=name, Body=name.encode())
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())


def below(given: str, options: FindOptions | None = None) -> tuple[list[str], Inputs]:
    inputs = find_inputs([given], options)
    return [path.removeprefix("s3://bucket/") for path in paths_of(inputs)], inputs


@pytest.mark.parametrize(
    "options",
    [FindOptions(), FindOptions(hidden=True), FindOptions(exclude=("a2/", "*.png", "b/**/3.*"))],
    ids=["usual", "hidden", "exclude"],
)
@pytest.mark.parametrize("given", ["photos/", "photos"])
def test_a_prefix_has_the_images_of_such_a_folder(
    bucket: None, given: str, options: FindOptions
) -> None:
    names, inputs = below(f"s3://bucket/{given}", options)
    local = find_inputs(["photos"], options)

    assert names == list(paths_of(local))
    assert inputs.total is None
    assert inputs.passed_over == local.passed_over == 1
    assert inputs.sieve.unused == local.sieve.unused
    assert inputs.sieve.skipped == local.sieve.skipped


@pytest.mark.parametrize(
    "pattern",
    [
        "photos/*.jpg",
        "photos/**/*.png",
        "p*/[ab]*/*",
        "photos/img?.jpg",
        "photos/a*",
        "photos/**/1*",
    ],
)
def test_a_glob_matches_what_it_would_match_here(bucket: None, pattern: str) -> None:
    names, _ = below(f"s3://bucket/{pattern}")

    assert names
    assert sorted(names) == sorted(paths_of(find_inputs([pattern])))


def test_an_object_named_outright_is_taken_whatever_its_name(bucket: None) -> None:
    inputs = find_inputs(["s3://bucket/photos/odd [1]?.jpg", "s3://bucket/photos/notes.txt"])

    assert [(item.path, item.size) for item in inputs.known] == [
        ("s3://bucket/photos/odd [1]?.jpg", 19), ("s3://bucket/photos/notes.txt", 16),
    ]  # fmt: skip
    assert all(item.version for item in inputs.known)
    assert [item.source.read() for item in inputs.known] == [  # type: ignore[union-attr]
        b"photos/odd [1]?.jpg", b"photos/notes.txt",
    ]  # fmt: skip


def test_an_object_is_read_by_any_worker_as_it_is_listed(bucket: None) -> None:
    for item in find_inputs(["s3://bucket/photos/"]).items:
        assert isinstance(item, Item)
        assert f"s3://bucket/{item.source.read().decode()}" == item.path  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "s3://bucket/photos/none.jpg",
            "cannot find s3://bucket/photos/none.jpg: there is ",
        ),
        (
            "s3://bucket/none/",
            "no images found: s3://bucket/none/: name an image, or a prefix with ",
        ),
        ("s3://bucket/none*.jpg", "no images found: s3://bucket/none*.jpg"),
        ("s3://nobody/x/", "cannot list s3://nobody/x: there is nothing by that name"),
        ("nonsense://x/y", "cannot read nonsense://x/y: "),
    ],
)
def test_what_is_not_there_is_said_in_one_line(bucket: None, given: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        list(find_inputs([given]).items)

    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_a_row_of_saved_results_is_opened_again(bucket: None) -> None:
    [item] = [item_of("s3://bucket/photos/img2.jpg")]

    assert item.source.read() == b"photos/img2.jpg"  # type: ignore[union-attr]


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    remote.shared_file_system.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "aiohttp", None)

    with pytest.raises(ExtraError, match=r"reading https://h/a.jpg needs an extra: pip install"):
        find_inputs(["https://u:p@h/a.jpg?token=1"])


def test_large_folders_come_in_blocks_while_they_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source, "BLOCK", 2000)
    names = [f"p/{number}.jpg" for number in range(5000)]
    with serving(Store(names, lambda _: b"x")) as store:
        as_endpoint(store.url, monkeypatch)
        inputs = find_inputs(["s3://bucket/p/"])
        assert sum("list-type" in path for _, path, _ in store.asked) == 2  # pages so far
        found = list(paths_of(inputs))

    assert len(found) == 5000
    assert {path.removeprefix("s3://bucket/") for path in found} == set(names)
    numbers = [int(path.rpartition("/")[2][:-4]) for path in found]
    for start in range(0, 5000, 2000):
        block = numbers[start : start + 2000]
        assert block == sorted(block)
    assert numbers != sorted(numbers)  # the store's order is another


def test_a_slow_listing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store([f"p/{number}.jpg" for number in range(1500)], lambda _: b"x")
    page = store.page

    def slowly(query: dict[str, str]) -> bytes:
        sleep(0.5 if "continuation-token" in query else 0)
        return page(query)

    monkeypatch.setattr(source, "BLOCK", 500)
    with serving(store):
        store.page = slowly  # type: ignore[method-assign,assignment]
        as_endpoint(store.url, monkeypatch)
        arrivals = list(arrivals_of(find_inputs(["s3://bucket/p/"])))

    assert sum(one is PAUSE for one in arrivals) >= 2
    assert sum(isinstance(one, str) for one in arrivals) == 1500


def test_a_listing_does_not_run_away_from_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BLOCK", 1000)
    monkeypatch.setattr(source, "AHEAD", 1000)
    with serving(Store([f"p/{n:05}.jpg" for n in range(9000)], lambda _: b"x")) as store:
        as_endpoint(store.url, monkeypatch)
        items = iter(find_inputs(["s3://bucket/p/"]).items)
        next(items), next(items)
        sleep(0.5)
        pages = sum("list-type" in path for _, path, _ in store.asked)
        left = sum(isinstance(item, Item) for item in items)

    assert left == 8998
    assert pages <= 4


def test_memory_does_not_grow_with_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak_of(pages: int) -> int:
        entries = (
            [source.RemoteEntry(f"img{page:03}{n:04}.jpg", size=9) for n in range(1000)]
            for page in range(pages)
        )
        monkeypatch.setattr(source, "list_pages", lambda *_: entries)
        walk = source.StoreWalk(None, "s3://bucket/p", (), Search(FindOptions()))
        tracemalloc.start()
        try:
            assert sum(isinstance(one, Item) for one in walk.images()) == 1000 * pages
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_of(30) < 1.1 * peak_of(12)


def test_a_page_that_fails_once_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store([f"p/{number}.jpg" for number in range(2500)], lambda _: b"x")
    page, failures = store.page, iter([True, False, True, False])

    def failing(query: dict[str, str]) -> bytes:
        if next(failures, False):
            raise ConnectionError
        return page(query)

    store.page = failing  # type: ignore[method-assign,assignment]
    with serving(store):
        as_endpoint(store.url, monkeypatch)
        assert len(set(paths_of(find_inputs(["s3://bucket/p/"])))) == 2500


def test_a_refusal_of_the_store_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store([], lambda _: b"")
    store.answer = refuse  # type: ignore[method-assign]
    with serving(store):
        as_endpoint(store.url, monkeypatch)
        with pytest.raises(InputError) as caught:
            find_inputs(["s3://bucket/p/"])

    assert str(caught.value) == (
        "cannot list s3://bucket/p: the store refuses it (Not \\x9b31myours)"
    )


def refuse(request: object) -> None:
    words = "<Code>AccessDenied</Code><Message>Not &#155;31myours&#10;at all</Message>"
    body = f'<?xml version="1.0"?><Error>{words}</Error>'
    send(request, body.encode(), status=403)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(Site({"/a.jpg": b"first", "/b.jpg": b"second"})) as server:
        yield server


def test_lists_may_name_urls(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("here.jpg").write_bytes(b"here")
    Path("list.txt").write_text(f"{site.url}/a.jpg\nhere.jpg\n{site.url}/b.jpg?sig=secret\n")

    first, here, second = find_inputs(["@list.txt"]).known

    assert first.source.read() == b"first"  # type: ignore[union-attr]
    assert here == Item("here.jpg")
    assert second.path == f"{site.url}/b.jpg"
    assert second.source.read() == b"second"  # type: ignore[union-attr]
    assert site.asked[-1][1] == "/b.jpg?sig=secret"


def test_a_list_from_elsewhere_names_no_files_here(site: Site) -> None:
    Path("here.jpg").write_bytes(b"here")
    here = Path("here.jpg").absolute()
    lines = ["here.jpg", str(here), f"file://{here}", f"local://{here}", f"FILE://{here}",
             f"simplecache::file://{here}", f"zip://a.jpg::{here}", f"zip://a::{site.url}/x.zip",
             "../here.jpg", "memory://x", "-", "@list.txt"]  # fmt: skip
    site.pages["/list.txt"] = "\n".join([*lines, f"{site.url}/a.jpg", ""]).encode()

    *refused, last = find_inputs([f"@{site.url}/list.txt?token=secret"]).known

    assert [item.path for item in refused] == lines
    assert {item.content for item in refused} == {
        "a list from elsewhere names it, which may name images on servers and in stores only"
    }
    assert last.source.read() == b"first"  # type: ignore[union-attr]


def test_a_list_that_is_missing_is_one_line(site: Site) -> None:
    with pytest.raises(InputError) as caught:
        find_inputs([f"@{site.url}/none.txt?token=secret"])

    assert str(caught.value) == (
        f"cannot read the list {site.url}/none.txt: the server answers 404 (Not Found)"
    )


def test_a_query_tells_images_apart_and_is_not_kept(site: Site) -> None:
    urls = [f"{site.url}/a.jpg?id={number}&token=secret" for number in (1, 2)]
    first, second, again = (find_inputs([url]).known[0] for url in (*urls, urls[0]))

    assert first.identity == again.identity != second.identity
    assert first.path.startswith(f"{site.url}/a.jpg#query=")
    reopened = item_of(first.path)
    assert reopened.identity == first.identity
    assert isinstance(reopened.content, str)
    assert reopened.content.startswith("its address had a query, which results do not keep")


@pytest.mark.parametrize("wrong", [{"fetch": 0}, {"fetch": 101}, {"fetch_timeout": 0.0}])
def test_options_of_fetching_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="cannot use fetch"):
        FindOptions(**wrong)  # type: ignore[arg-type]


def test_an_object_that_is_no_image_by_its_size_is_not_read(site: Site) -> None:
    with pytest.raises(ImageError, match="the file is empty"):
        RemoteObject(f"{site.url}/a.jpg", size=0).read()
