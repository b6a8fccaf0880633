"""Checkpoints and lists of class names by URL, from a server on this machine."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import network_files
from commands import SMALL, error_line, rows_of_csv
from conftest import Run
from resnet_cli import Classifier, inspect_checkpoint

pytest.importorskip("aiohttp")

asked: list[str] = []
"""Files that the server was asked for."""


class Files(SimpleHTTPRequestHandler):
    """Serves a folder, and notes what is read."""

    def send_head(self) -> Any:
        if self.command == "GET":
            asked.append(self.path.partition("?")[0])
        return super().send_head()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the folder ``served``, with a user and a password."""
    (tmp_path / "served").mkdir()
    handler = partial(Files, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        asked.clear()
        yield f"http://me:hunter2@127.0.0.1:{served.server_address[1]}"
        served.shutdown()


@pytest.mark.usefixtures("one_thread")
def test_a_checkpoint_and_its_classes_by_url_are_downloaded_once(
    run: Run, checkpoint: Path, three_images: Path, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    Path("served/three.pth").write_bytes(checkpoint.read_bytes())
    Path("served/names.txt").write_text("ant\nbee\nwasp\n")
    url, names = (f"{server}/{name}?token=s3cret" for name in ("three.pth", "names.txt"))
    local = run("predict", three_images, "-c", checkpoint, "--classes", "ant,bee,wasp", *SMALL,
                "--format", "csv")  # fmt: skip
    for _ in range(2):
        result = run("predict", three_images, "-c", url, "--classes", names, *SMALL, "--format",
                     "csv", "-o", "r.csv", "--overwrite")  # fmt: skip
        assert result.exit_code == 0, result.stderr
        ours, theirs = rows_of_csv(result.stdout), rows_of_csv(local.stdout)
        for column in ("path", "label", "prob"):
            assert [row[column] for row in ours] == [row[column] for row in theirs]
    assert sorted(asked) == ["/names.txt", "/three.pth"]

    record = json.loads(Path("r.csv.run.json").read_text())
    shown = f"{server.replace('me:hunter2@', '')}/three.pth"
    assert record["checkpoint"]["path"] == shown
    assert record["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record["classes_source"] == shown.replace("three.pth", "names.txt")
    assert f"(from {shown})" in result.stderr
    for text in (result.stderr, Path("r.csv.run.json").read_text(), caplog.text):
        assert "hunter2" not in text
        assert "s3cret" not in text


def test_every_command_takes_a_url(run: Run, checkpoint: Path, server: str) -> None:
    Path("served/three.pth").write_bytes(checkpoint.read_bytes())
    url = f"{server}/three.pth"
    found = run("inspect", url, "--format", "json")
    assert json.loads(found.stdout)["path"] == url.replace("me:hunter2@", "")
    assert json.loads(found.stdout)["model"] == "resnet18"
    assert run("convert", url, "out.safetensors").exit_code == 0
    assert "resnet18" in run("summary", url).stdout
    exported = run("export", url, "out.onnx", "--verify", 0, "--resize-size", 40, "--img-size", 32)
    assert exported.exit_code == 0, exported.stderr
    assert "hunter2" not in "".join([found.stdout, exported.stderr])


def test_the_weights_of_an_xml_come_with_it(server: str) -> None:
    network_files.convert(network_files.small(), Path("served/small.xml"))
    url = f"{server}/small.xml"
    assert inspect_checkpoint(url).parameters == inspect_checkpoint("served/small.xml").parameters
    assert Classifier.load(url, device="cpu").graph is not None


def test_what_is_not_there_is_said_in_a_line(run: Run, three_images: Path, server: str) -> None:
    result = run("predict", three_images, "-c", f"{server}/gone.pth?token=s3cret")
    line = error_line(result)
    assert line.startswith(f"Error: cannot download {server.replace('me:hunter2@', '')}/gone.pth: ")
    assert "404 (Not Found)" in line
    assert "s3cret" not in result.stderr
