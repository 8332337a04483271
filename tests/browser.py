"""Headless Chromium for tests of the page, driven by selenium; where one of them is missing, tests are skipped."""

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
"""No sandbox: the tests may run as root. The others keep the browser from speaking to anyone of its own accord."""

MISSING = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A driver of a browser with an empty profile, and with logs of its console and of all that it asks for."""
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
    """A window of `width` CSS pixels, for who prefers light or dark."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def requested_urls(driver: Any) -> list[str]:
    """The addresses that were asked for since the last call, without data and the browser's own pages."""
    messages = [json.loads(each["message"])["message"] for each in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "chrome:", "about:"))]


def console_messages(driver: Any) -> list[str]:
    """What the console said since the last call: errors, warnings, anything."""
    return [f"{each['level']}: {each['message']}" for each in driver.get_log("browser")]
