"""Headless Chromium with selenium for tests of the page; without them, tests are skipped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--window-size=1280,900",
)
"""No sandbox: the tests may run as root. The others prevent the browser's own network traffic."""

MISSING = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A driver with an empty profile that logs the console and the network requests."""
    if MISSING:
        pytest.skip(f"no {' and no '.join(MISSING)}: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install 'rb_smooth[test]'")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def emulate(driver: Any, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
    """A window of `width` CSS pixels, with the colour scheme light or dark."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def requested_urls(driver: Any) -> list[str]:
    """The addresses requested since the last call, without data: and the browser's own pages."""
    messages = [json.loads(each["message"])["message"] for each in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "chrome:", "about:"))]


def console_messages(driver: Any) -> list[str]:
    """The console's messages since the last call."""
    return [f"{each['level']}: {each['message']}" for each in driver.get_log("browser")]
