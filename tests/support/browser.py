"""A report that is open in a browser, and predictions to show in it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from resnet_cli.records import UNCERTAIN, Item, Prediction, Score

NAMES = ("ants", "bees", "wasps")

Open = Callable[..., "Report"]


class Report:
    """A report that is open in the browser."""

    def __init__(self, chrome: Chrome, path: Path) -> None:
        self.chrome = chrome
        self.url = path.absolute().as_uri()
        chrome.get(self.url)

    def js(self, script: str, *arguments: object) -> Any:
        return self.chrome.execute_script(f"return {script}", *arguments)

    def find(self, selector: str) -> WebElement:
        return self.chrome.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.chrome).send_keys(key).perform()

    def wait(self, script: str) -> None:
        WebDriverWait(self.chrome, 10, 0.02).until(lambda _: self.js(script))

    @property
    def files(self) -> list[str]:
        """Names under the tiles, in order."""
        return self.js("[...document.querySelectorAll('.tile .file')].map((e) => e.textContent)")

    @property
    def count(self) -> str:
        return self.find("#count").text

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.chrome.get_log("browser")]

    def requests(self) -> set[str]:
        """The requests since the last call, except for data in the page and the new tab."""
        messages = [json.loads(e["message"])["message"] for e in self.chrome.get_log("performance")]
        sent = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
        urls = {message["params"]["request"]["url"] for message in sent}
        return {url for url in urls if not url.startswith(("data:", "chrome:"))}


def row(path: str, index: int = 0, *probs: float, ms: float = 10.0, **changes: Any) -> Prediction:
    order = [index, *(other for other in range(3) if other != index)]
    scores = tuple(
        Score(NAMES[i], i, p) for i, p in zip(order, probs or (0.7, 0.2, 0.1), strict=False)
    )
    values: dict[str, Any] = {
        "scores": scores, "decode_ms": 1.0, "preprocess_ms": 1.0, "forward_ms": ms,
        "batch_size": 1, "thumbnail": Image.new("RGB", (96, 64), (60 + 40 * index, 120, 90)),
    }  # fmt: skip
    return Prediction(Item(path), **(values | changes))


MIXED = [
    row("ants/img2.jpg", 0, 0.9, 0.05, 0.05, ms=3),
    row("ants/img10.jpg", 1, 0.5, 0.45, 0.05, ms=9),
    row("bees/img1.jpg", 1, 0.97, 0.02, 0.01, ms=1),
    Prediction(Item("bees/broken.jpg"), error="truncated JPEG"),
    row(
        "bees/img3.jpg",
        2,
        scores=(Score("wasps", 2, 0.4), Score("bees", 1, 0.35)),
        decision=UNCERTAIN,
    ),
    row("elsewhere/img4.jpg", 2, 0.6, 0.2, 0.2, ms=7),
]

ACROSS = (
    "getComputedStyle(document.getElementById('gallery')).gridTemplateColumns.split(' ').length"
)

FILE_IN_FOCUS = "document.activeElement.querySelector('.file').textContent"


def by_folder(item: Item) -> str | None:
    folder = Path(item.path).parent.name
    return folder if folder in NAMES else None


def kind(report: Report, name: str) -> None:
    report.js("document.querySelector(arguments[0]).click()", f"input[value={name}]")


def counts(report: Report) -> dict[str, int]:
    """The count beside each filter."""
    words = report.js(
        "[...document.querySelectorAll('#kinds label, #labels button, #histogram button')]"
        ".map((e) => [e.querySelector('input')?.value ?? e.dataset.label ?? e.dataset.words,"
        " e.querySelector('.number')?.textContent ?? e.title.match(/: ([0-9,]+)/)[1]])"
    )
    return {name: int(number.replace(",", "")) for name, number in words}


def shown_after_click(report: Report, name: str) -> int:
    """How many tiles a click on a filter leaves; a second click on a bar undoes the first."""
    found = report.js(
        "document.querySelector(`#kinds [value='${arguments[0]}'], [data-label='${arguments[0]}'],"
        " [data-words='${arguments[0]}']`)", name
    )  # fmt: skip
    report.js("arguments[0].click()", found)
    return len(report.files)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    values = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(report: Report, selector: str, ground: str) -> float:
    colours = [
        report.js("getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", *pair)
        for pair in ((selector, "color"), (ground, "backgroundColor"))
    ]
    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)
