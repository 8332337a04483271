"""Picture of the leaderboard's page for README: the CIFAR-10 Linf board as a visitor sees it first.

    python benchmarks/board_picture.py [LEADERBOARD]

Writes docs/figures/board.png, 1200 x 700 pixels, of the page of LEADERBOARD (default: leaderboard). Needs Chromium,
chromedriver and selenium.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from rb_smooth.core import files
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.page.render import render_page

PICTURE = Path(__file__).parents[1] / "docs" / "figures" / "board.png"
BOARD, WIDTH, HEIGHT, SCALE = "cifar10-Linf", 1440, 840, 1200 / 1440
"""Width and height of the window in CSS pixels, and the picture's pixels for each."""

_COLOURS = 128
"""Of the PNG's palette: the page has few, and the file is a third as large."""


def main() -> None:
    leaderboard = Path(sys.argv[1] if len(sys.argv) > 1 else "leaderboard")
    print(f"drawn: {draw(leaderboard, PICTURE)}")


def draw(leaderboard: Path, path: Path) -> Path:
    """Write the picture of the page of `leaderboard` to `path`, and return `path`."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "index.html"
        files.write_text(page, render_page(leaderboard))
        shot = Image.open(io.BytesIO(_screenshot(f"{page.as_uri()}#{BOARD}", Path(folder) / "profile")))
    content = io.BytesIO()
    shot.convert("RGB").quantize(_COLOURS).save(content, "PNG", optimize=True)
    files.write_bytes(path, content.getvalue())
    return path


def _screenshot(address: str, profile: Path) -> bytes:
    """PNG of the upper part of a page."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        raise UserError("expected chromium and chromedriver, got none; apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in ("--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": SCALE, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(address)
        return bytes(driver.get_screenshot_as_png())
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
