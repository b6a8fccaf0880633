"""The report as a file: what is in it, what is escaped, what it costs."""

import base64
import hashlib
import io
import json
import os
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Run
from resnet_cli.errors import OutputError
from resnet_cli.records import UNCERTAIN, Item, Prediction, Score
from resnet_cli.results import open_writer
from resnet_cli.results.options import WriterOptions

NAMES = ("ants", "bees", "wasps")


class Page(HTMLParser):
    """A report as Python's own parser sees it."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.styles: list[str] = []
        self.words: list[str] = []
        self.inside = ("", "")
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = (tag, dict(attrs).get("id") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside[0]:
            self.inside = ("", "")

    def handle_data(self, data: str) -> None:
        match self.inside:
            case ("script", name):
                self.scripts[name] = self.scripts.get(name, "") + data
            case ("style", _):
                self.styles.append(data)
            case _:
                self.words.append(data)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return json.loads(self.scripts["rows"])

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts["data"])

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def thumbnail(self, position: int) -> bytes:
        return base64.b64decode(self.scripts.get(f"t{position}", ""), validate=True)


def ok(path: str = "a.jpg", *probs: float, first: int = 0, **changes: Any) -> Prediction:
    order = [first, *(index for index in range(3) if index != first)]
    values = probs or (0.75, 0.2, 0.05)
    scores = tuple(Score(NAMES[i], i, p) for i, p in zip(order, values, strict=False))
    row: dict[str, Any] = {
        "scores": scores, "decode_ms": 1.25, "preprocess_ms": 0.5, "forward_ms": 12.3456,
        "batch_size": 16,
    }  # fmt: skip
    return Prediction(Item(path), **(row | changes))


def doubtful(path: str, index: int = 1) -> Prediction:
    scores = (Score(NAMES[index], index, 0.4), Score("wasps", 2, 0.35))
    return ok(path, scores=scores, decision=UNCERTAIN)


def broken(path: str = "b.jpg", error: str = "truncated JPEG") -> Prediction:
    return Prediction(Item(path), error=error)


def report(*predictions: Prediction, **options: Any) -> Page:
    path = Path("report.html")
    with open_writer(path, WriterOptions(topk=3, overwrite=True, **options)) as write:
        for prediction in predictions:
            write(prediction)
    return Page(path)


def test_a_row_holds_all_facts_of_its_image() -> None:
    page = report(ok("photos/a.jpg"), broken("photos/b.jpg"))
    assert page.rows == [
        {
            "n": 0, "path": "photos/a.jpg", "href": "photos/a.jpg",
            "scores": [[0, 0.75], [1, 0.2], [2, 0.05]], "ms": [1.25, 0.5, 12.35],
        },
        {
            "n": 1, "path": "photos/b.jpg", "href": "photos/b.jpg", "scores": [],
            "error": "truncated JPEG",
        },
    ]  # fmt: skip
    assert page.data["names"] == {"0": "ants", "1": "bees", "2": "wasps"}


@pytest.mark.parametrize(
    ("path", "href"),
    [
        ("photos/a b.jpg", "photos/a%20b.jpg"),
        ("zip://in/a.jpg::d/x.zip", "d/x.zip"),
        ("tar://a.jpg::https://host/x.tar", "https://host/x.tar"),
        ("https://host/a.jpg?size=1", "https://host/a.jpg?size=1"),
        ("s3://bucket/a.jpg", None),
        ("tar://a.jpg::s3://bucket/x.tar", None),
        ("javascript://host/%0aalert(1)", None),
    ],
)
def test_a_link_leads_to_what_a_browser_opens(path: str, href: str | None) -> None:
    (row,) = report(ok(path)).rows
    assert row["path"] == path
    assert row.get("href") == href


def test_a_part_is_said_in_words_and_its_link_leads_to_the_whole() -> None:
    (row,) = report(replace(ok(), item=Item("cam.mp4", "t=2.5"))).rows
    assert (row["path"], row["part"], row["href"]) == ("cam.mp4", "frame at 2.5 s", "cam.mp4")


def test_counts_and_histogram_are_of_all_images() -> None:
    probs = [0.0, 0.049, 0.05, 0.5, 0.949, 0.951, 1.0, 1.0]
    page = report(
        *(ok(f"{n}.jpg", prob, first=n % 2) for n, prob in enumerate(probs)), broken(),
        doubtful("x.jpg"), report_limit=2,
    )  # fmt: skip
    expected, _ = np.histogram([*probs, 0.4], bins=20, range=(0, 1))
    assert page.data["histogram"] == expected.tolist()
    assert dict(page.data["labels"]) == {"ants": 4, "bees": 5}
    assert len(page.rows) == 2
    assert "10 images" in page.text
    assert "1 uncertain" in page.text
    assert "1 errors" in page.text


def by_folder(item: Item) -> str | None:
    folder = Path(item.path).parent.name
    return folder if folder in NAMES else None


def test_the_truth_says_which_are_wrong() -> None:
    page = report(
        ok("ants/1.jpg"), ok("bees/2.jpg"), ok("elsewhere/3.jpg"), doubtful("bees/4.jpg"),
        doubtful("ants/5.jpg"), broken("ants/6.jpg"),
        truth=by_folder,
        record=lambda: {"classes": NAMES},
    )  # fmt: skip
    judged = [(row.get("truth"), row.get("right"), row.get("uncertain")) for row in page.rows]
    assert judged == [
        ("ants", True, None), ("bees", False, None), (None, None, None), ("bees", True, True),
        ("ants", False, True), ("ants", None, None),
    ]  # fmt: skip
    assert "50.0 % right of 4" in page.text
    assert "2 wrong" in page.text


def test_without_truth_nothing_is_right_or_wrong() -> None:
    page = report(ok(), broken())
    assert "right of" not in page.text
    assert "wrong" not in page.text


HOSTILE = [
    "<img src=x onerror=alert(1)>.jpg",
    "</script><script>alert(1)</script>.jpg",
    "</script <p>.jpg",
    "<!--<script>.jpg",
    "]]>&lt;&quot;'\".jpg",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "two\nlines\r\t.jpg",
    "\u202egpj.exe",
    "line\u2028separator.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    "nul\x01\x1b[31m.jpg",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_only_text(text: str) -> None:
    def page_about(text: str) -> Page:
        return report(
            ok(f"photos/{text}", scores=(Score(text, 0, 0.5),)), broken(text, text),
            truth=lambda _: text,
            record=lambda: record(name=text),
        )  # fmt: skip

    plain, page = page_about("plain"), page_about(text)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert page.scripts[""] == plain.scripts[""]
    assert not re.search("[<>&]", page.scripts["rows"] + page.scripts["data"])
    hrefs = [row["href"] for row in page.rows]
    assert all(re.fullmatch(r"[\w./%~-]+", href) for href in hrefs)
    shown = page.rows[0]["path"]
    assert shown.isprintable()
    copied = page.rows[0].get("raw", shown)
    assert copied == f"photos/{text}" or "\udce9" in text


def record(name: str = "model.pth") -> dict[str, Any]:
    return {
        "status": "done", "command": f"resnet-cli predict {name}", "folder": f"/home/{name}",
        "started": "2026-01-02T03:04:05+00:00", "finished": "2026-01-02T03:05:05+00:00",
        "checkpoint": {"path": f"weights/{name}", "sha256": "ab" * 32}, "state_key": None,
        "model": "resnet18", "classes": [name, "bees", "wasps"], "classes_source": name,
        "preprocess": {
            "resize_size": 256, "crop_size": 224, "interpolation": "bilinear",
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "color": "bgr",
            "squash": True, "floor_crop": False,
        },
        "preprocess_source": "as given", "exif": "apply", "exact": True,
        "icc": "srgb", "background": "#fff", "device": "cpu",
        "precision": "bf16", "compiled": True, "versions": {"torch": "2.15.0"},
        "counts": {"images": 1, "ok": 1, "errors": 0},
        "times": {
            "wall_s": 60.0, "images_per_second": 12.5, "decode_ms": 1.5, "preprocess_ms": 0.5,
            "forward_ms": 30.25,
        },
        "limit": "limited by the network",
    }  # fmt: skip


def test_the_header_says_what_was_run() -> None:
    page = report(ok(), record=record)
    for words in (
        "weights/model.pth", "ab" * 32, "resnet18", "3: model.pth, bees, wasps (model.pth)",
        "squash to 256, crop 224, bilinear, bgr", "mean 0.485, 0.456, 0.406",
        "(as given)",
        "EXIF orientation apply, colour profile srgb, background #fff", "cpu, bf16, compiled",
        "60.0 s", "12.5 images/s", "decode 1.50 ms", "limited by the network",
        "resnet-cli predict model.pth", "torch 2.15.0",
    ):  # fmt: skip
        assert words in page.text
    assert "stopped" not in page.text


def policy(page: Page) -> dict[str, str]:
    content = next(
        attributes["content"]
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert content is not None
    return dict(part.strip().partition(" ")[::2] for part in content.split(";"))


def test_the_page_asks_for_nothing_and_its_policy_lets_nothing_in() -> None:
    page = report(ok(), broken(), record=record)
    rules = policy(page)
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for directive, text in (("script-src", page.scripts[""]), ("style-src", page.styles[0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[directive] == f"'sha256-{digest}'"
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert "src" not in attributes
        assert re.fullmatch(r"(#\w+|data:,)?", attributes.get("href") or "")
    assert not re.search(r"url\(|@import", page.styles[0])


def noise(side: int) -> Image.Image:
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "picture",
    [
        *map(noise, (256, 160, 144, 128, 120, 112, 1)),
        Image.new("RGB", (256, 171), "red"), Image.new("RGB", (1, 256)),
    ],
)  # fmt: skip
def test_a_thumbnail_has_at_most_12_kilobytes(picture: Image.Image) -> None:
    encoded = report(ok(thumbnail=picture), ok()).thumbnail(0)
    assert len(encoded) <= 12_000
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()
        assert image.width * picture.height == image.height * picture.width


def test_thumbnails_belong_to_their_rows() -> None:
    colours = [(40 * n, 255 - 40 * n, 90) for n in range(6)]
    pictures = [
        broken() if n == 3 else ok(f"{n}.jpg", thumbnail=Image.new("RGB", (64, 48), colour))
        for n, colour in enumerate(colours)
    ]
    page = report(*pictures)
    for position, row in enumerate(page.rows):
        if "error" in row:
            assert page.thumbnail(position) == b""
            continue
        with Image.open(io.BytesIO(page.thumbnail(position))) as image:
            pixel = np.asarray(image.convert("RGB"))[20, 20].astype(int)
        assert np.abs(pixel - colours[row["n"]]).max() < 8


def many(count: int, *, wrong: int = 0, errors: int = 0) -> list[Prediction]:
    rows = [ok(f"ants/{n}.jpg", first=int(n < wrong)) for n in range(count - errors)]
    return rows + [broken(f"ants/e{n}.jpg") for n in range(errors)]


def kinds(page: Page) -> Counter[str]:
    return Counter(
        "error" if "error" in row else "wrong" if row["right"] is False else "right"
        for row in page.rows
    )


@pytest.mark.parametrize(
    ("wrong", "errors", "held"),
    [
        (0, 0, {"right": 40}),
        (5, 3, {"right": 32, "wrong": 5, "error": 3}),
        (100, 0, {"right": 20, "wrong": 20}),
        (390, 0, {"right": 10, "wrong": 30}),
    ],
)
def test_past_the_limit_a_report_holds_a_stated_sample(
    wrong: int, errors: int, held: dict[str, int]
) -> None:
    page = report(*many(400, wrong=wrong, errors=errors), truth=by_folder, report_limit=40)
    assert kinds(page) == held
    assert "holds 40 of 400 images" in page.text
    numbers = [row["n"] for row in page.rows]
    assert numbers == sorted(set(numbers))


def test_up_to_the_limit_a_report_holds_everything() -> None:
    page = report(*many(40, wrong=30, errors=10), truth=by_folder, report_limit=40)
    assert len(page.rows) == 40
    assert "holds" not in page.text


def test_the_sample_is_fair_and_the_same_each_time() -> None:
    first = [row["n"] for row in report(*many(5000), report_limit=500).rows]
    again = [row["n"] for row in report(*many(5000), report_limit=500).rows]
    assert first == again
    # of a uniform sample each tenth of the stream holds 50, with a deviation of 6.4
    tenths = np.bincount(np.array(first) // 500, minlength=10)
    assert (np.abs(tenths - 50) < 4 * 6.4).all()


def test_a_report_without_images_is_valid() -> None:
    page = report()
    assert page.rows == []
    assert "0 images" in page.text


def test_a_run_that_stops_leaves_a_whole_report_that_says_so() -> None:
    def interrupted() -> None:
        with open_writer(
            Path("x.html"), WriterOptions(topk=3, record=lambda: {"status": "running"})
        ) as write:
            write(ok())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    page = Page(Path("x.html"))
    assert len(page.rows) == 1
    assert "stopped before its end" in page.text


def test_a_report_that_cannot_be_written_leaves_no_part_of_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("x.html").write_text("an earlier report")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with (
        pytest.raises(OutputError, match=r"cannot write x\.html: No space left"),
        open_writer(Path("x.html"), WriterOptions(topk=3, overwrite=True)) as write,
    ):
        write(ok())
    with (
        pytest.raises(OutputError, match=r"cannot write y\.html: No space left"),
        open_writer(Path("y.html"), WriterOptions(topk=3)) as write,
    ):
        write(ok())
    assert list(Path().iterdir()) == []  # nor the earlier one, which --overwrite gives up


def test_predict_writes_a_report(run: Run, checkpoint: Path, photos: Path) -> None:
    (photos / "broken.jpg").touch()
    result = run(
        "predict", photos, "-c", checkpoint, "--classes", "ant,bee,cat", "-o", "r.html",
        "--resize-size", 64, "--img-size", 48, "-k", 3,
    )  # fmt: skip
    page = Page(Path("r.html"))
    assert result.exit_code == 3
    assert len(page.rows) == 11
    assert sum("error" in row for row in page.rows) == 1
    assert all(len(page.thumbnail(n)) > 500 for n, row in enumerate(page.rows) if row["scores"])
    for words in ("three.pth", "resnet18", "3: ant, bee, cat", "crop 48", "11 images"):
        assert words in page.text
    assert Path("r.html.run.json").exists()


def test_a_report_shows_the_next_best_classes_and_tables_keep_to_topk(
    run: Run, checkpoint: Path, photos: Path
) -> None:
    result = run(
        "predict", photos, "-c", checkpoint, "--classes", "ant,bee,cat", "-o", "r.html",
        "-o", "r.jsonl", "--format", "jsonl", "--resize-size", 64, "--img-size", 48,
    )  # fmt: skip
    rows = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert [len(row["predictions"]) for row in rows] == [1] * 10
    assert [json.loads(line) for line in result.stdout.splitlines()] == rows
    for row, shown in zip(rows, Page(Path("r.html")).rows, strict=True):
        assert shown["scores"][0] == pytest.approx(
            [row["predictions"][0]["index"], row["predictions"][0]["prob"]]
        )
        assert sum(prob for _, prob in shown["scores"]) == pytest.approx(1, abs=1e-5)


def test_the_name_of_a_folder_is_the_truth_where_it_is_a_class(
    run: Run, checkpoint: Path, photos: Path
) -> None:
    run(
        "predict", photos, "-c", checkpoint, "--classes", "A,bee,cat", "-o", "r.html",
        "--resize-size", 64, "--img-size", 48,
    )  # fmt: skip
    for row in Page(Path("r.html")).rows:
        assert row.get("truth") == ("A" if "/a/" in row["path"] else None)
        assert row.get("right") == (row["scores"][0][0] == 0 if "truth" in row else None)


def test_predict_that_stops_leaves_a_report_that_says_so(
    run: Run, checkpoint: Path, photos: Path
) -> None:
    (photos / "a" / "img2b.jpg").touch()
    run(
        "predict", photos, "-c", checkpoint, "-o", "r.html", "--on-error", "fail", "-b", 1,
        "--resize-size", 64, "--img-size", 48, "--report-limit", 2,
    )  # fmt: skip
    page = Page(Path("r.html"))
    assert "stopped before its end" in page.text
    assert "holds 2 of 3" in page.text
