"""Make the images of the grid and the report that the README shows.

They are the results of ``resnet-cli predict sample_images``; the report is photographed in a
Chromium without a window, so chromium, chromedriver and selenium are needed.
"""

import shutil
from contextlib import chdir
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from click.testing import CliRunner
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from resnet_cli.cli import cli

REPOSITORY = Path(__file__).parents[1]
IMAGES = REPOSITORY / "docs" / "images"
SIZE = 1280, 860  # pixels of the window
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def main() -> None:
    """Classify the sample images and photograph what comes of it."""
    with TemporaryDirectory() as folder:
        grid, report = Path(folder, "grid.png"), Path(folder, "report.html")
        arguments = ["predict", "sample_images", "--grid", str(grid), "-o", str(report)]
        with chdir(REPOSITORY):
            CliRunner().invoke(cli, arguments, catch_exceptions=False)
        with Image.open(grid) as page:
            page.convert("RGB").save(IMAGES / "sample_grid.webp", quality=80, method=6)
        photograph(report).save(IMAGES / "sample_report.webp", quality=80, method=6)


def photograph(report: Path) -> Image.Image:
    """Open a report as it looks on a laptop."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    browser = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        width, height = SIZE
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        browser.get(report.as_uri())
        browser.execute_async_script(
            "Promise.all([...document.images].map((image) => image.decode())).then(arguments[0])"
        )
        return Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
