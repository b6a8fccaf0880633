"""The report in a real browser: Chromium without a window, driven by selenium, from disk alone."""

import base64
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from browser import (
    ACROSS,
    FILE_IN_FOCUS,
    MIXED,
    NAMES,
    Open,
    Report,
    by_folder,
    contrast,
    counts,
    kind,
    luminance,
    row,
    shown_after_click,
)
from conftest import DEMO, SAMPLES, Run
from resnet_cli.records import Item, Prediction, Score
from resnet_cli.results import open_writer
from resnet_cli.results.options import WriterOptions

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser with an empty profile; a skip without one, which CI counts as a failure."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (found and driver):
        unavailable = pytest.fail if os.environ.get("RESNET_CLI_REQUIRE_BROWSER") else pytest.skip
        unavailable("no chromium and chromedriver here (Debian: chromium, chromium-driver)")
    options = ChromeOptions()
    options.binary_location = found
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options, Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def opened(chrome: Chrome) -> Open:
    """Write predictions to a report and open it at the size of a laptop, in light colours."""

    def look(width: int = 1280, height: int = 900, theme: str = "light") -> None:
        chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        feature = {"name": "prefers-color-scheme", "value": theme}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open_report(
        predictions: list[Prediction] | Path,
        *,
        screen: dict[str, Any] | None = None,
        **options: Any,
    ) -> Report:
        look(**(screen or {}))
        if isinstance(predictions, Path):
            return Report(chrome, predictions)
        with open_writer(
            Path("report.html"), WriterOptions(topk=3, overwrite=True, **options)
        ) as write:
            for prediction in predictions:
                write(prediction)
        return Report(chrome, Path("report.html"))

    chrome.get_log("browser")
    chrome.get_log("performance")
    return open_report


@pytest.fixture
def mixed(opened: Open) -> Report:
    return opened(MIXED, truth=by_folder, record=lambda: {"classes": NAMES})


def test_a_report_of_real_images_opens_without_error_or_request(run: Run, opened: Open) -> None:
    run("predict", SAMPLES, "-c", DEMO, "-o", "r.html")
    report = opened(Path("r.html"))
    report.wait("document.querySelectorAll('.tile img').length === 16")
    loaded = "[...document.images].every((i) => i.complete && i.naturalWidth > 100)"
    report.wait(loaded)
    assert report.count == "16 images"
    assert report.find("h1").text == "ants_bees_resnet18.safetensors"
    assert "100.0 % right of 16" in report.find(".figures").text
    report.find(".facts summary").click()
    assert "sha-256" in report.find(".facts").text.lower()
    report.all(".tile")[0].click()
    report.press(Keys.ARROW_RIGHT, Keys.ESCAPE)
    assert report.console() == []
    assert report.requests() == {report.url}


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine: its address, and the requests that it received."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_the_policy_lets_nothing_in_or_out(mixed: Report, stranger: tuple[str, list[str]]) -> None:
    address, asked = stranger
    mixed.chrome.execute_async_script(
        """
        const [address, done] = arguments;
        const script = document.createElement("script");
        try { script.textContent = "window.ran = 1"; document.body.append(script); } catch {}
        try { document.body.innerHTML += "<img src=x onerror='window.ran = 2'>"; } catch {}
        const frame = document.createElement("div");
        frame.setAttribute("style", "position: fixed");
        document.body.append(frame);
        window.styled = getComputedStyle(frame).position;
        const image = document.createElement("img");
        image.onload = image.onerror = () => fetch(`${address}/y`).then(done, done);
        image.src = `${address}/x.png`;
        """,
        address,
    )
    assert mixed.js("window.ran") is None
    assert mixed.js("window.styled") == "static"
    assert asked == []
    complaints = " ".join(mixed.console())
    for refused in ("TrustedScript", "TrustedHTML", "inline style", f"{address}/x", f"{address}/y"):
        assert refused in complaints


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("error", ["broken.jpg"]),
        ("uncertain", ["img3.jpg"]),
        ("wrong", ["img10.jpg", "img3.jpg"]),
        ("right", ["img2.jpg", "img1.jpg"]),
        ("all", ["img2.jpg", "img10.jpg", "img1.jpg", "broken.jpg", "img3.jpg", "img4.jpg"]),
    ],
)
def test_kinds_of_images(mixed: Report, name: str, files: list[str]) -> None:
    kind(mixed, name)
    assert mixed.files == files
    assert mixed.count == ("6 images" if name == "all" else f"{len(files)} of 6 images")


def test_search_finds_files_and_labels(mixed: Report) -> None:
    mixed.find("#search").send_keys("ELSE")
    assert mixed.files == ["img4.jpg"]
    mixed.find("#search").clear()
    mixed.find("#search").send_keys("wasps")
    assert mixed.files == ["img3.jpg", "img4.jpg"]
    mixed.find("#search").send_keys(" in space", Keys.ENTER)
    assert mixed.files == []
    assert mixed.find("#none").is_displayed()
    mixed.find("#clear").click()
    mixed.wait("document.querySelectorAll('.tile').length === 6")


def test_labels_filter_and_add_up(mixed: Report) -> None:
    def label(name: str) -> WebElement:
        return mixed.find(f"#labels [data-label={name}]")

    assert [bar.text.split() for bar in mixed.all("#labels button")] == [
        ["bees", "2"], ["wasps", "2"], ["ants", "1"],
    ]  # fmt: skip
    label("bees").click()
    assert mixed.files == ["img10.jpg", "img1.jpg"]
    label("wasps").click()
    assert mixed.files == ["img10.jpg", "img1.jpg", "img3.jpg", "img4.jpg"]
    assert label("wasps").get_attribute("aria-pressed") == "true"
    label("bees").click()
    assert mixed.files == ["img3.jpg", "img4.jpg"]


@pytest.mark.parametrize("search", ["", "img1", "bees", "nothing"])
@pytest.mark.parametrize("name", ["all", "wrong", "error", "bees", "uncertain", "0.90 to 0.95"])
def test_a_count_is_what_a_click_would_show(mixed: Report, search: str, name: str) -> None:
    mixed.find("#search").send_keys(search)
    expected = counts(mixed)[name]
    assert shown_after_click(mixed, name) == expected


def test_counts_follow_the_other_filters_and_none_is_hidden(mixed: Report) -> None:
    kind(mixed, "wrong")
    mixed.find("#search").send_keys("ants")
    found = counts(mixed)
    assert (found["all"], found["wrong"], found["right"], found["error"]) == (2, 1, 1, 0)
    assert (found["bees"], found["ants"], found["wasps"]) == (1, 0, 0)
    zero = mixed.find("#labels [data-label=ants]")
    assert zero.is_displayed()
    assert "zero" in (zero.get_attribute("class") or "")
    mixed.find("#labels [data-label=bees]").click()  # its own filter changes no count of labels
    assert counts(mixed)["bees"] == 1
    mixed.find("#clear").click()
    mixed.wait("document.querySelectorAll('.tile').length === 6")
    assert counts(mixed)["all"] == 6


def test_tiles_tell_cameras_apart(opened: Open) -> None:
    paths = [f"/data/cam{c}/100MEDIA/IMG_{n:04d}.JPEG" for n in range(3) for c in (1, 2)]
    report = opened([row(path) for path in paths])
    assert report.files == [f"cam{c}/…/IMG_{n:04d}.JPEG" for n in range(3) for c in (1, 2)]
    assert report.find(".tile .file").get_attribute("title") == paths[0]
    report.all(".tile")[0].click()
    assert report.find("#path").text == paths[0]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_name_keeps_what_tells_it_apart(opened: Open, width: int) -> None:
    names = [f"a_long_name_of_a_station_{n:04d}_with_more_behind.JPG" for n in range(9)]
    report = opened([row(name) for name in names], screen={"width": width, "height": 844})
    assert all(f"{n:04d}" in file for n, file in enumerate(report.files))
    assert report.js(
        "[...document.querySelectorAll('.file')].every((e) => e.scrollWidth <= e.clientWidth)"
    )


def test_the_histogram_filters_and_a_second_click_takes_it_back(mixed: Report) -> None:
    bars = mixed.all("#histogram button")
    assert len(bars) == 20
    bars[18].click()
    assert mixed.files == ["img2.jpg"]
    assert mixed.find("#low").get_property("value") == "0.9"
    assert bars[18].get_attribute("aria-pressed") == "true"
    bars[18].click()
    assert mixed.count == "6 images"
    heights = [mixed.js("arguments[0].firstChild.offsetHeight", bar) for bar in bars]
    assert [n for n, height in enumerate(heights) if height] == [8, 10, 12, 18, 19]


def test_a_range_of_probabilities(mixed: Report) -> None:
    for field, value in (("low", "0.5"), ("high", "0.9")):
        mixed.find(f"#{field}").clear()
        mixed.find(f"#{field}").send_keys(value)
    assert mixed.files == ["img10.jpg", "img4.jpg"]


ORDERS = {
    "input": [0, 1, 2, 3, 4, 5],
    "unsure": [4, 1, 5, 0, 2, 3],
    "sure": [2, 0, 5, 1, 4, 3],
    "close": [1, 4, 5, 0, 2, 3],
    "clear": [2, 0, 5, 4, 1, 3],
    "slow": [4, 1, 5, 0, 2, 3],
    "fast": [2, 0, 5, 1, 4, 3],
    "name": [0, 1, 3, 2, 4, 5],
}


def test_orders(mixed: Report) -> None:
    order = Select(mixed.find("#sort"))
    assert [option.get_attribute("value") for option in order.options] == list(ORDERS)
    for name, positions in ORDERS.items():
        order.select_by_value(name)
        assert mixed.files == [MIXED[n].path.name for n in positions], name


def test_parts_and_members_are_named_and_linked(opened: Open) -> None:
    items = [
        Item("d/cam.mp4", "t=2.5"), Item("d/cam.mp4", "t=10"), Item("s3://b/x.jpg"),
        Item("zip://in/a.jpg::d/x.zip"), Item("https://host/y.jpg"),
    ]  # fmt: skip
    page = opened([replace(row(""), item=item) for item in items])
    assert page.files == [
        "cam.mp4, frame at 2.5 s", "cam.mp4, frame at 10 s", "x.jpg", "a.jpg", "y.jpg"
    ]  # fmt: skip
    assert page.all(".file")[0].get_attribute("title") == "d/cam.mp4, frame at 2.5 s"
    links = []
    for tile in range(5):
        page.js(f"open({tile})")
        shown = page.find("#open")
        links.append(shown.get_attribute("href") if shown.is_displayed() else None)
        assert page.find("#part").text == ("frame at 2.5 s", "frame at 10 s", "", "", "")[tile]
    folder = page.url.removesuffix("report.html")
    video = f"{folder}d/cam.mp4"
    assert links == [video, video, None, f"{folder}d/x.zip", "https://host/y.jpg"]
    page.js("document.getElementById('detail').close()")
    page.find("#search").send_keys("at 10 s")
    assert page.files == ["cam.mp4, frame at 10 s"]


def test_a_click_shows_all_facts_of_an_image(mixed: Report) -> None:
    mixed.all(".tile")[1].click()
    detail = mixed.find("#detail")
    assert detail.is_displayed()
    assert mixed.find("#detail-label").text == "bees"
    assert mixed.find("#verdict").text == "✗ predicted bees (0.500), actually ants"
    scores = [line.text.split() for line in mixed.all("#scores li")]
    assert scores == [["bees", "0.5000"], ["ants", "0.4500"], ["wasps", "0.0500"]]
    assert mixed.find("#path").text == "ants/img10.jpg"
    assert mixed.find("#open").get_attribute("href") == mixed.url.replace(
        "report.html", "ants/img10.jpg"
    )
    small, large = (
        mixed.js("arguments[0].clientWidth", mixed.find(s)) for s in (".frame", "#picture")
    )
    assert large > 2 * small
    assert "9.00 ms" in mixed.find("#times").text
    mixed.find("#next").click()
    mixed.find("#next").click()
    assert mixed.find("#verdict").text == "truncated JPEG"
    mixed.find("#next").click()
    assert mixed.find("#detail-label").text == "uncertain (wasps)"
    assert mixed.find("#verdict").text == (
        "✗ predicted wasps (0.400), actually bees · under the threshold"
    )
    mixed.find("#close").click()
    assert not detail.is_displayed()


def test_the_path_is_copied(mixed: Report) -> None:
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    mixed.chrome.execute_cdp_cmd("Browser.grantPermissions", permissions)
    mixed.all(".tile")[0].click()
    mixed.find("#copy").click()
    mixed.wait("document.getElementById('copied').textContent === 'Copied'")
    assert mixed.js("navigator.clipboard.readText()") == "ants/img2.jpg"


def test_all_of_it_by_keyboard(mixed: Report) -> None:
    def focused() -> str:
        return mixed.js("document.activeElement.textContent")

    mixed.press(Keys.TAB)
    assert focused() == "Skip to the images"
    mixed.press(Keys.ENTER, Keys.TAB)
    assert "img2.jpg" in focused()
    mixed.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    assert mixed.find("#detail-label").text == "bees"
    mixed.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)  # the last goes nowhere
    assert mixed.find("#position").text == "1 of 6"
    assert "ants 0.900, img2.jpg" in mixed.js("document.getElementById('told').textContent")
    mixed.press(Keys.ARROW_RIGHT, Keys.ESCAPE)
    mixed.wait("document.activeElement.textContent.includes('img10.jpg')")
    assert not mixed.find("#detail").is_displayed()
    mixed.press(Keys.END)
    assert "img4.jpg" in focused()
    mixed.press(Keys.HOME)
    assert "img2.jpg" in focused()


def test_a_group_of_bars_is_one_stop_of_the_tab_key(mixed: Report) -> None:
    stops = mixed.js(
        "[...document.querySelectorAll('#histogram button')].filter((b) => b.tabIndex === 0).length"
    )
    assert stops == 1
    mixed.js("document.querySelector('#labels button').focus()")
    mixed.press(Keys.ARROW_DOWN, Keys.SPACE)
    assert mixed.files == ["img3.jpg", "img4.jpg"]
    mixed.press(Keys.TAB, Keys.ENTER)  # the button that clears
    mixed.wait("document.querySelectorAll('.tile').length === 6")


INTERACTIVE = {"button", "textbox", "searchbox", "combobox", "spinbutton", "radio", "link"}


def test_a_screen_reader_finds_its_way(mixed: Report) -> None:
    mixed.all(".tile")[0].click()
    mixed.press(Keys.ESCAPE)
    nodes = mixed.chrome.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    shown = [node for node in nodes if not node["ignored"]]
    roles = {node["role"]["value"] for node in shown}
    assert {"banner", "main", "search", "list", "status"} <= roles
    unnamed = [n for n in shown if n["role"]["value"] in INTERACTIVE and not n["name"]["value"]]
    assert unnamed == []
    tiles = [n["name"]["value"] for n in shown if "img10.jpg" in str(n.get("name"))]
    assert any("actually ants" in name and "wrong" in name and "0.500" in name for name in tiles)


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "</script <b>",
    "<!-- <script ",
    "two\nlines",
    "\u202egpj.exe",
    os.fsdecode(b"caf\xe9"),
]


def test_hostile_names_are_shown_and_do_nothing(opened: Open) -> None:
    rows = [row(f"x/{text}", scores=(Score(text, n, 0.9),)) for n, text in enumerate(HOSTILE)]
    rows += [Prediction(Item(text), error=text) for text in HOSTILE]
    report = opened(rows, truth=lambda item: Path(item.path).name)
    assert report.count == "14 images"
    shown = report.js("[...document.querySelectorAll('.tile .label')].map((e) => e.textContent)")
    assert shown[:5] == [*HOSTILE[:4], r"two\nlines"]
    assert shown[5] == r"\u202egpj.exe"
    for number in range(14):
        report.all(".tile")[number].click()
        report.press(Keys.ESCAPE)
    report.all("#labels button")[0].click()
    assert report.count == "1 of 14 images"
    assert report.js("document.querySelectorAll('[onerror], .tile script').length") == 0
    assert report.console() == []
    assert report.requests() == {report.url}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_can_be_read(opened: Open, theme: str) -> None:
    report = opened(MIXED, truth=by_folder, screen={"theme": theme})
    ground = report.js("getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) > 0.5) == (theme == "light")
    for selector in (
        "h1", ".kind", ".figures .right b", ".figures .wrong b", ".figures .doubt b", "summary",
        ".tile .label", ".tile .file", ".error .label", "#count", "#labels .number",
    ):  # fmt: skip
        assert contrast(report, selector, "body") >= 4.5, selector
    report.all(".tile")[1].click()
    for selector in ("#detail-label", "#verdict", "#times dt", "#open", "#position"):
        assert contrast(report, selector, "dialog") >= 4.5, selector


@pytest.mark.parametrize("width", [390, 320])
def test_a_telephone_shows_it_without_scrolling_sideways(opened: Open, width: int) -> None:
    long = row("deep/" * 30 + "x" * 90 + ".jpg", scores=(Score("long label " * 9, 0, 0.5),))
    report = opened([long, *MIXED], screen={"width": width, "height": 844})
    assert not report.find("#search").is_displayed()
    report.find(".filters summary").click()
    assert report.find("#search").is_displayed()
    assert report.js("document.documentElement.scrollWidth <= innerWidth")
    assert report.js(ACROSS) == 2
    report.js("document.querySelector('.tile').click()")
    assert report.js("arguments[0].scrollWidth <= arguments[0].clientWidth", report.find("#detail"))


def test_on_paper_there_are_images_and_no_controls(opened: Open) -> None:
    report = opened([row(f"{n}.jpg") for n in range(60)], record=dict)
    pdf = base64.b64decode(report.chrome.print_page())
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) >= 2
    assert pdf.count(b"/Subtype /Image") >= 1
    report.js("dispatchEvent(new Event('beforeprint'))")
    assert len(report.files) == 60
    report.js("dispatchEvent(new Event('afterprint'))")
    assert len(report.files) < 60
    report.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not report.find(".filters").is_displayed()
    report.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.fixture(scope="module")
def thousands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of ten thousand images."""
    random = np.random.default_rng(0)
    tops = random.uniform(0.34, 1, 10_000)
    path = tmp_path_factory.mktemp("thousands") / "report.html"
    thumbnail = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    with open_writer(path, WriterOptions(topk=2)) as write:
        for n, top in enumerate(tops):
            write(row(f"{n}.jpg", n % 3, top, 1 - top, thumbnail=thumbnail))
    return path


def test_ten_thousand_images(opened: Open, thousands: Path) -> None:
    report = opened(thousands)
    assert report.count == "10,000 images"
    assert len(report.all(".tile")) < 150  # those near the window, and no more
    report.js("scrollTo(0, document.body.scrollHeight)")
    report.wait("document.querySelector('#gallery').lastChild?.textContent.includes('9999.jpg')")
    assert len(report.all(".tile")) < 150
    Select(report.find("#sort")).select_by_value("unsure")
    values = [float(element.text) for element in report.all(".tile .value")]
    assert all(a <= b for a, b in pairwise(values))
    assert report.js("scrollY") < 1000  # it shows the first of the new order
    report.find("#search").send_keys("777")
    expected = [f"{n}.jpg" for n in range(10_000) if "777" in f"{n}.jpg"]
    assert report.count == f"{len(expected)} of 10,000 images"
    assert sorted(report.files) == sorted(expected)


def test_the_keyboard_goes_through_ten_thousand_images(opened: Open, thousands: Path) -> None:
    report = opened(thousands)
    report.js("document.querySelector('.tile').focus()")
    report.press(Keys.END)
    assert "9999.jpg" in report.js("document.activeElement.textContent")
    report.press(Keys.PAGE_UP, Keys.HOME, Keys.ARROW_DOWN)
    across = report.js(ACROSS)
    assert report.js(FILE_IN_FOCUS) == f"{across}.jpg"
    for _ in range(12):
        report.press(Keys.ARROW_DOWN)
    assert report.js(FILE_IN_FOCUS) == f"{13 * across}.jpg"
    report.press(Keys.ENTER, Keys.ARROW_LEFT, Keys.ESCAPE)
    report.wait(f"document.activeElement.textContent.includes('{13 * across - 1}.jpg')")
