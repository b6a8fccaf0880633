"""The program with images by URL: the same rows as of files, nothing secret in what it writes."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random
from threading import Lock
from time import monotonic, sleep

import pyarrow.parquet as pq
import pytest

from commands import SMALL, rows_of_csv
from conftest import Run, picture
from resnet_cli.results.formats import FORMATS
from resnet_cli.sources import fetch
from servers import Site, Store, fail_in, serving
from stores import as_endpoint

pytest.importorskip("s3fs")

TIMES = {"decode_ms", "preprocess_ms", "forward_ms", "batch_size"}
COUNT = 48


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Images by their names in the store: few files, many names."""
    folder = tmp_path_factory.mktemp("bodies")
    files = [picture(folder / f"{n}.jpg", (60 + n, 50), seed=n).read_bytes() for n in range(8)]
    return {f"photos/img{number}.jpg": files[number % 8] for number in range(COUNT)}


@pytest.fixture
def store(bodies: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store([*bodies], bodies.__getitem__)
    with serving(store):
        as_endpoint(store.url, monkeypatch)
        yield store


@pytest.fixture
def local(bodies: dict[str, bytes]) -> Path:
    """The same images in a folder."""
    for name, body in bodies.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(body)
    return Path("photos")


def facts(name: str, start: str = "") -> list[dict[str, str]]:
    """The rows of a CSV without times, and their paths without what they begin with."""
    rows = rows_of_csv(Path(name).read_text())
    return [
        {key: value.removeprefix(start) for key, value in row.items() if key not in TIMES}
        for row in rows
    ]


def test_rows_are_those_of_files(predict: Run, store: Store, local: Path) -> None:
    assert predict("s3://bucket/photos/", "-o", "remote.csv", "-k", "3").exit_code == 0
    assert predict(local, "-o", "local.csv", "-k", "3").exit_code == 0

    assert facts("remote.csv", "s3://bucket/") == facts("local.csv")
    assert len(facts("local.csv")) == COUNT


def test_no_row_is_lost_doubled_or_wrong_where_requests_fail(
    predict: Run, store: Store, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, lock, failed = Random(1), Lock(), []
    kinds = ["stall", "cut", "long", "less", "close", "500", "503"]

    def fault(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        with lock:
            kind = random.choice(kinds) if random.random() < 0.15 else ""
        if kind:
            failed.append(kind)
            fail_in(request, body, kind, silence=1.5)
        return bool(kind)

    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.05)
    store.fault = fault
    arguments = ("-o", "remote.csv", "--fetch-timeout", "4", "--fetch", "16")
    assert predict("s3://bucket/photos/", *arguments).exit_code == 0
    assert predict(local, "-o", "local.csv").exit_code == 0

    assert len(failed) > 4
    assert facts("remote.csv", "s3://bucket/") == facts("local.csv")


def program(checkpoint: Path, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "resnet_cli", "predict", "-c", checkpoint, *SMALL, *arguments]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def count_rows(name: str) -> int:
    """How many rows a CSV has, whole or not."""
    path = Path(name)
    return len(path.read_bytes().splitlines()) - 1 if path.exists() else 0


def wait_for(happened: object, seconds: float = 60) -> None:
    deadline = monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert monotonic() < deadline
        sleep(0.02)


def test_a_killed_run_is_resumed_and_fetches_the_rest(
    predict: Run, checkpoint: Path, store: Store, local: Path
) -> None:
    store.fault = lambda *_: bool(sleep(0.2))
    arguments = ("s3://bucket/photos/", "-o", "x.csv", "--fetch", "2", "-b", "2")
    with program(checkpoint, *arguments) as run:
        wait_for(
            lambda: Path("x.csv").exists() and len(Path("x.csv").read_bytes().splitlines()) > 8
        )
        run.send_signal(signal.SIGKILL)
        run.communicate()
    begun = count_rows("x.csv")
    assert 0 < begun < COUNT

    store.fault = lambda *_: False
    before = len(store.asked)
    result = predict(*arguments, "--resume")
    asked = [path for _, path, _ in store.asked[before:] if path.startswith("/bucket/photos/")]
    assert result.exit_code == 0
    assert predict(local, "-o", "local.csv").exit_code == 0

    assert facts("x.csv", "s3://bucket/") == facts("local.csv")
    assert len(asked) == len(set(asked)) <= COUNT - begun + 2


def test_an_object_that_changed_is_noted_on_resume(
    predict: Run, store: Store, bodies: dict[str, bytes]
) -> None:
    arguments = ("s3://bucket/photos/", "-o", "x.csv")
    predict(*arguments)
    same = predict(*arguments, "--resume")
    assert "not those of the earlier run" not in same.stderr
    store.size = lambda name: len(bodies[name]) + (name == "photos/img3.jpg")
    changed = predict(*arguments, "--resume")

    assert changed.exit_code == 0
    assert "the inputs are not those of the earlier run (some changed since" in changed.stderr
    assert len(facts("x.csv")) == COUNT


def test_an_interrupted_run_does_not_wait_for_a_store(checkpoint: Path, store: Store) -> None:
    store.fault = lambda *_: bool(sleep(30))
    with program(checkpoint, "s3://bucket/photos/", "-o", "x.csv") as run:
        wait_for(lambda: sum("photos/img" in path for _, path, _ in store.asked) > 3)
        begun = monotonic()
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=20)

    assert run.returncode == 130
    assert monotonic() - begun < 15


def test_a_store_that_stops_answering_ends_in_error_rows(predict: Run, store: Store) -> None:
    store.fault = lambda *_: bool(sleep(5))
    result = predict("s3://bucket/photos/img1*.jpg", "-o", "x.csv", "--fetch-timeout", "1")

    rows = facts("x.csv")
    assert result.exit_code == 3
    assert len(rows) == 11
    assert all("does not answer" in row["error"] or "Timeout" in row["error"] for row in rows)


SECRETS = ("hunter2", "someone", "tokentoken", "signed")


def test_nothing_secret_is_written_anywhere(
    predict: Run, bodies: dict[str, bytes], capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    image = bodies["photos/img1.jpg"]
    site = Site({"/a.jpg": image, "/b.jpg": image, "/list.txt": b"", "/bad.jpg": b"no image"})
    outputs = [word for suffix in FORMATS for word in ("-o", f"x{suffix}")]
    with serving(site):
        base = site.url.replace("//", "//someone:hunter2@")
        query = "?token=tokentoken&X-Amz-Signature=signed"
        urls = [f"{base}/{name}.jpg{query}" for name in ("a", "b", "bad", "missing")]
        site.pages["/list.txt"] = f"{urls[1]}\nfile:///etc/hosts\n".encode()
        inputs = [urls[0], f"@{base}/list.txt{query}", *urls[2:]]
        monkeypatch.setattr(sys, "argv", ["resnet-cli", "predict", *inputs])
        result = predict(*inputs, *outputs)
        wrong = predict(f"@{base}/none.txt{query}", "--debug")

    assert result.exit_code == 3
    assert "Error: cannot read the list http://127.0.0.1" in wrong.stderr
    written = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    assert {f"x{suffix}" for suffix in FORMATS} <= set(written)
    assert "x.csv.run.json" in written
    printed = "".join([result.stdout, result.stderr, wrong.stderr, *capfd.readouterr()])
    texts = {**written, "terminal": printed.encode()}
    texts["parquet"] = str(pq.read_table("x.parquet").to_pylist()).encode()
    for name, text in texts.items():
        kept = text.replace(b"file:///etc/hosts", b"")  # a line of a list, not of a URL of ours
        assert [secret for secret in SECRETS if secret.encode() in kept] == [], name
    assert [row["path"] for row in facts("x.csv")] == [
        f"{site.url}/a.jpg", f"{site.url}/b.jpg", "file:///etc/hosts",
        f"{site.url}/bad.jpg", f"{site.url}/missing.jpg",
    ]  # fmt: skip


def test_names_of_a_store_cannot_take_over_a_terminal(
    predict: Run, bodies: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "photos/a\nb\x1b[31m.jpg"
    with serving(Store([name], lambda _: bodies["photos/img1.jpg"])) as store:
        as_endpoint(store.url, monkeypatch)
        result = predict("s3://bucket/photos/", "-o", "x.csv")

    assert result.exit_code == 0
    assert "\x1b" not in result.stdout + result.stderr
    assert len(result.stdout.splitlines()) == 1
    with Path("x.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert row["path"].removeprefix("s3://bucket/") == name


def test_evaluate_and_its_report_read_images_by_url(
    run: Run, checkpoint: Path, bodies: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"val/{'abc'[n % 3]}/{n}.jpg": body for n, body in enumerate(bodies.values())}
    for name, body in names.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(body)
    with serving(Store([*names], names.__getitem__)) as store:
        as_endpoint(store.url, monkeypatch)
        common = ("-c", checkpoint, "--classes", "a,b,c", *SMALL, "--format", "json")
        here = run("evaluate", "val", *common)
        remote = run("evaluate", "s3://bucket/val/", *common, "--fetch", "3")
        assert run("predict", "s3://bucket/val/", "-o", "x.csv", *common[:-2]).exit_code == 0
        before = len(store.asked)
        saved = run("evaluate", "--predictions", "x.csv", "--report", "x.html")
        asked = {path for _, path, _ in store.asked[before:]}

    assert here.exit_code == remote.exit_code == saved.exit_code == 0
    assert facts_of_metrics(remote.stdout) == facts_of_metrics(here.stdout)
    assert {f"/bucket/{name}" for name in names} <= asked


def facts_of_metrics(text: str) -> dict[str, object]:
    found = json.loads(text)
    return {name: found[name] for name in ("top1", "loss", "images", "classes")}


def test_verify_reads_images_by_url(predict: Run, store: Store) -> None:
    result = predict("s3://bucket/photos/img1*.jpg", "--verify", "3", "-o", "x.csv")

    assert result.exit_code == 0
    assert "verified 3 images against plain fp32" in result.stderr
    assert len(facts("x.csv")) == 11


def test_a_page_that_says_no_is_an_error_row(predict: Run) -> None:
    html = b"<!DOCTYPE html><html><body>Please log in</body></html>"
    with serving(Site({"/a.jpg": html})) as site:
        result = predict(f"{site.url}/a.jpg", "-o", "x.csv")

    assert result.exit_code == 3
    [row] = facts("x.csv")
    assert row["error"].startswith("is a web page (HTML), not an image")
