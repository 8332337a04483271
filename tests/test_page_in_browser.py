"""The page in Chromium: sorting, filters, charts, panels, keyboard, contrast; entries' text never becomes code."""

from __future__ import annotations

import threading

import board_picture
import pytest
from browser import MISSING, chromium, console_messages, emulate, requested_urls
from fake_entries import add_points, make_entry
from PIL import Image
from test_page import LOG, with_examples

from rb_smooth.core import files
from rb_smooth.leaderboard.page import server
from rb_smooth.leaderboard.page.render import write_page

pytestmark = pytest.mark.slow

HOSTILE = "</title></script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>\"'&{{ 7 * 7 }}"
NAME = "<img src=x onerror=window.ran=3>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with entries of every kind, one with hostile text in every field."""
    folder = tmp_path_factory.mktemp("board")
    best = make_entry(folder, "best", n=10, autoattack=0.7, clean=0.9, interval=[0.4, 0.9])
    add_points(best, [True] * 7 + [False] * 3)
    with_examples(best)
    files.write_text(best.curves, LOG)
    files.write_text(best.weights, "their content is not read")
    for seed, robust in enumerate((0.6, 0.4, 0.5)):
        make_entry(folder, f"at_net_s{seed}", dataset="svhn", autoattack=robust, clean=0.8 - seed / 10)
    external = {"origin": {"checkpoint": "net.pt", "sha256": "ab"}}
    make_entry(folder, "between", dataset="svhn", autoattack=0.55, clean=0.75, own=external)
    make_entry(folder, "quick", version="quick", whole=False, n=500, autoattack=0.9)
    make_entry(folder, "extra", metadata={"additional_data": True}, clean=0.7)
    check = {"name": HOSTILE, "verdict": "unreliable", "found": HOSTILE}
    make_entry(
        folder,
        NAME,
        metadata=dict.fromkeys(("name", "link", "authors", "venue", "architecture", "footnote"), HOSTILE)
        | {"unreliable": True},
        recipe={"data": {"name": HOSTILE, HOSTILE: HOSTILE}},
        own=dict.fromkeys(("run", "method", "commit"), HOSTILE)
        | {"versions": {HOSTILE: HOSTILE}, "origin": {"checkpoint": HOSTILE, "sha256": HOSTILE}},
        **dict.fromkeys(("backend", "selected_on"), HOSTILE),
        attacks={HOSTILE: {"robust": 0.5, "seconds": 1.0}},
        training={"device": HOSTILE, "precision": HOSTILE, "seconds": 1.0},
        checks=[check],
        warnings=[HOSTILE],
    )
    make_entry(folder, NAME, dataset=NAME, official=False)
    (best.path.parent / f"{NAME}2.json").write_text("{")
    return write_page(folder).as_uri()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def browser(driver, page):
    """A fresh load of the page. After the test: nothing on the console, no requests."""
    emulate(driver)
    driver.get("about:blank")
    console_messages(driver), requested_urls(driver)
    driver.get(page)
    yield driver
    assert console_messages(driver) == []
    assert {url.partition("#")[0] for url in requested_urls(driver)} == {page}
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def run_js(browser, expression, *values):
    return browser.execute_script(f"return {expression}", *values)


def shown_values(browser, what="dataset.key", group=""):
    """A property of every visible row of the visible board, in order."""
    return run_js(
        browser, f"[...document.querySelectorAll('.current {group} tr[data-key]:not([hidden])')].map(r => r.{what})"
    )


def points(browser):
    """The keys of the visible points."""
    query = "document.querySelectorAll('.current a.point')"
    return set(run_js(browser, f"[...{query}].filter(p => p.getBoundingClientRect().width).map(p => p.dataset.of)"))


def find(browser, selector):
    return browser.find_element("css selector", selector)


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def column(browser, number, body=1):
    query = f".current tbody:nth-of-type({body}) tr[data-key] > :nth-child({number})"
    return [
        float(text)
        for text in run_js(
            browser, f"[...document.querySelectorAll('{query}')].map(c => c.dataset.value ?? c.textContent)"
        )
    ]


def open_panels(browser):
    return run_js(browser, "document.querySelector('dialog[open]')?.id ?? null")


def test_a_heading_sorts_by_its_column_within_each_group(browser):
    groups = [shown_values(browser, group=f"tbody:nth-of-type({n})") for n in (1, 2, 3)]
    heading = find(browser, ".current .models th:nth-child(3) button")
    heading.click()
    assert find(browser, ".current .models th:nth-child(3)").get_attribute("aria-sort") == "descending"
    assert run_js(browser, "document.querySelectorAll('.current [aria-sort]').length") == 1
    assert column(browser, 3) == sorted(column(browser, 3), reverse=True)
    heading.click()
    assert find(browser, ".current .models th:nth-child(3)").get_attribute("aria-sort") == "ascending"
    for body in (1, 2, 3):
        assert column(browser, 3, body) == sorted(column(browser, 3, body))
    assert [sorted(shown_values(browser, group=f"tbody:nth-of-type({n})")) for n in (1, 2, 3)] == list(
        map(sorted, groups)
    )
    find(browser, ".current .models th:nth-child(1) button").click()
    assert column(browser, 1) == sorted(column(browser, 1))


def test_search_matches_all_words_and_shows_the_count(browser):
    count = len(shown_values(browser))
    field = find(browser, ".current input[type=search]")
    assert field.accessible_name == "Search"
    field.send_keys("icml WIDERESNET-28")
    found = shown_values(browser, "textContent.toLowerCase()")
    assert 0 < len(found) < count
    assert all("icml" in text and "wideresnet-28" in text for text in found)
    status = find(browser, ".current [role=status]")
    assert status.text == f"{len(found)} of {count} models"
    assert status.get_attribute("aria-live") == "polite"
    assert points(browser) == set(shown_values(browser))
    field.send_keys("zzz")
    assert (shown_values(browser), points(browser)) == ([], set())
    assert find(browser, ".current .nothing").is_displayed()
    assert not find(browser, ".current tr.group").is_displayed()
    find(browser, ".current button[type=reset]").click()
    assert run_js(browser, "new Promise(done => setTimeout(() => done(1)))") == 1
    assert len(shown_values(browser)) == count
    assert points(browser) == set(shown_values(browser))


@pytest.mark.parametrize(
    ("name", "value"), [("whose", "ours"), ("extra", "with"), ("architecture", "PreActResNet-18"), ("eps", "0.031")]
)
def test_a_filter_hides_rows_and_their_points(browser, name, value):
    count = len(shown_values(browser))
    find(browser, f".current select[name={name}] option[value='{value}']").click()
    assert 0 < len(shown_values(browser)) < count
    assert set(shown_values(browser, f"dataset.{name}")) == {value}
    assert points(browser) == set(shown_values(browser))
    lines = run_js(
        browser, "[...document.querySelectorAll('.current .interval[data-of]:not(.off)')].map(p => p.dataset.of)"
    )
    assert set(lines) <= points(browser)  # intervals are hidden with their points


def test_seeds_fold_out_below_their_method_and_stay_there_when_sorted(driver, page):
    emulate(driver)
    driver.get("about:blank")
    driver.get(f"{page}#svhn-Linf")
    names = "[...document.querySelectorAll('.current .models tbody tr:not(.group)')]"
    names += ".filter(r => r.getBoundingClientRect().height).map(r => r.querySelector('.name').textContent)"
    assert run_js(driver, names) == ["between", "AT"]  # the mean of the three is 50 %
    fold = find(driver, ".current .fold")
    fold.click()
    assert fold.get_attribute("aria-expanded") == "true"
    assert run_js(driver, names) == ["between", "AT", "at_net_s0", "at_net_s2", "at_net_s1"]
    find(driver, ".current .models th:nth-child(3) button").click()
    assert run_js(driver, names) == ["between", "AT", "at_net_s0", "at_net_s1", "at_net_s2"]
    find(driver, ".current .models th:nth-child(3) button").click()
    assert run_js(driver, names) == ["AT", "at_net_s2", "at_net_s1", "at_net_s0", "between"]
    fold.click()
    assert run_js(driver, names) == ["AT", "between"]
    find(driver, ".current input[type=search]").send_keys("net_s1")
    assert run_js(driver, names) == ["AT", "at_net_s1"]  # a search finds folded rows
    assert find(driver, ".current [role=status]").text == "1 of 4 models"


def test_a_point_highlights_its_row_and_opens_its_panel(browser):
    from selenium.webdriver.common.action_chains import ActionChains

    point = find(browser, ".current a.point[data-of='cifar10-Linf-best']")
    ActionChains(browser).move_to_element(point).perform()
    assert "lit" in find(browser, "tr[data-key='cifar10-Linf-best']").get_attribute("class")
    assert find(browser, ".current .readout").text.startswith("best: 90.00 % clean, 70.00 % robust")
    point.click()
    assert open_panels(browser) == "cifar10-Linf-best"
    assert browser.current_url.endswith("#cifar10-Linf-best")


def test_a_panel_shows_all_details_and_copies_code(browser):
    find(browser, "tr[data-key='cifar10-Linf-best'] .name").click()
    panel = find(browser, "dialog[open]")
    for part in ("Attack by attack", "apgd-ce", "95 % interval 40.00 to 90.00", "1.5 h", "deterministic", "eps: 8/255"):
        assert part in panel.text
    assert panel.accessible_name == "best"
    assert run_js(browser, "[...document.querySelectorAll('dialog[open] img')].every(i => i.naturalWidth === 8)")
    assert run_js(browser, "getComputedStyle(document.querySelector('dialog[open] img')).imageRendering") == "pixelated"
    assert "Training of best" in find(browser, "dialog[open] svg").get_attribute("aria-label")
    code = find(browser, "dialog[open] [id$=':load']").get_attribute("textContent")
    assert "rb_smooth.load_model('best'" in code
    browser.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    find(browser, "dialog[open] .copy").click()
    assert browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == code
    assert find(browser, "dialog[open] .copy").text == "Copied"


def test_an_address_with_a_panel_opens_it_on_its_board(driver, page):
    driver.get("about:blank")
    driver.get(f"{page}#cifar100-Linf-Wang2023Better_WRN-70-16")
    assert open_panels(driver) == "cifar100-Linf-Wang2023Better_WRN-70-16"
    assert run_js(driver, "document.querySelector('.current').id") == "cifar100-Linf"
    driver.get(f"{page}#cifar10-L2")
    assert open_panels(driver) is None
    assert find(driver, "nav [aria-current]").text.startswith("CIFAR-10 ℓ2")


def test_text_of_entries_is_never_markup_or_code(browser):
    from html import unescape

    assert run_js(browser, "document.scripts.length") == 2
    assert run_js(browser, "document.querySelectorAll('img:not([src^=\"data:image/png;base64,\"])').length") == 0
    external = "[...document.querySelectorAll('.current tr[data-whose=external]')]"
    key = run_js(browser, f"{external}.find(r => r.textContent.includes('7 * 7')).dataset.key")
    row = run_js(browser, "document.querySelector(`tr[data-key='${arguments[0]}']`).textContent", key)
    assert NAME in row
    assert row.count(HOSTILE) == 3  # title, architecture, venue
    assert run_js(browser, "document.querySelector(`tr[data-key='${arguments[0]}'] .title a`)", key) is None  # no link
    browser.execute_script("location.hash = arguments[0]", key)
    panel = find(browser, "dialog[open]").get_attribute("textContent")
    assert panel.count(HOSTILE) > 15
    titles = run_js(browser, "[...document.querySelectorAll('.current title')].map(t => t.textContent)")
    assert any(NAME in title and HOSTILE in title for title in titles)
    assert NAME in find(browser, "footer").get_attribute("textContent")
    assert NAME in unescape(find(browser, "nav").get_attribute("textContent"))
    browser.execute_script("document.querySelectorAll('option').forEach(o => o.click())")
    assert run_js(browser, "window.ran ?? null") is None
    assert run_js(browser, "document.querySelectorAll('[onerror]').length") == 0


def test_keyboard_sorts_moves_in_the_chart_and_opens_and_closes_a_panel(browser):
    from selenium.webdriver.common.keys import Keys

    stops = []
    for _ in range(30):
        press(browser, Keys.TAB)
        stops.append(run_js(browser, "document.activeElement.outerHTML.slice(0, 60)"))
        if run_js(browser, "document.activeElement.closest('.models th')?.cellIndex === 2"):
            break
    assert stops[0].startswith('<a class="skip"')
    assert sum('class="point' in stop for stop in stops) == 1  # all points are a single tab stop
    assert run_js(browser, "getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(browser, Keys.ENTER)
    assert column(browser, 3) == sorted(column(browser, 3), reverse=True)

    browser.execute_script("document.querySelector('.current a.point[tabindex=\"0\"]').focus()")
    first = run_js(browser, "document.activeElement.dataset.of")
    press(browser, Keys.ARROW_RIGHT)
    second = run_js(browser, "document.activeElement.dataset.of")
    assert second != first
    assert find(browser, ".current .readout").text.startswith(
        find(browser, f"[id='{second}:name']").get_attribute("textContent")
    )
    press(browser, Keys.ENTER)
    assert open_panels(browser) == second
    assert run_js(browser, "document.activeElement.className") == "close"
    press(browser, Keys.ESCAPE)
    assert open_panels(browser) is None
    assert run_js(browser, "document.activeElement.dataset.of") == second  # the focus returns
    assert browser.current_url.endswith("#cifar10-Linf")


def test_nothing_overflows_a_phone_screen(browser):
    emulate(browser, 390, 844)
    seen = "[...document.querySelectorAll('.current *, footer *')].filter(e => !e.closest('thead, .unseen, svg'))"
    wide = f"{seen}.filter(e => e.getBoundingClientRect().right > 391).length"
    assert run_js(browser, "document.documentElement.scrollWidth") == 390
    assert run_js(browser, wide) == 0
    cell = find(browser, ".current td[data-label=AutoAttack]")
    assert run_js(browser, "getComputedStyle(arguments[0], '::before').content", cell) == '"AutoAttack"'
    browser.execute_script("location.hash = 'cifar10-Linf-best'")
    assert run_js(browser, "document.querySelector('dialog[open]').scrollWidth <= 390")
    assert run_js(browser, "document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_in_light_and_dark_mode(browser, scheme):
    emulate(browser, scheme=scheme)
    for selector in ("body", ".current .source", ".current .mine .number", ".current .mine .title", ".badge"):
        ink, paper = run_js(browser, f"(({CONTRAST}))(document.querySelector(arguments[0]))", selector)
        lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector  # WCAG 2.2, 1.4.3
    assert (luminance(run_js(browser, f"(({CONTRAST}))(document.body)")[1]) < 0.1) == (scheme == "dark")
    fill = run_js(browser, "getComputedStyle(document.querySelector('.current .chart text')).fill")
    assert fill == run_js(browser, "getComputedStyle(document.querySelector('.current .source')).color")


CONTRAST = """(element) => {
  let behind = element;
  const colour = (of) => getComputedStyle(of).backgroundColor;
  while (colour(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  return [getComputedStyle(element).color, colour(behind)].map((text) => text.match(/\\d+/g).map(Number));
}"""


def luminance(colour):
    """WCAG relative luminance of (red, green, blue) in [0, 255]."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_without_scripts_tables_are_plain_and_links_open_panels(driver, page):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get("about:blank")
        driver.get(page)
        assert all(board.is_displayed() for board in driver.find_elements("css selector", ".board"))
        assert not find(driver, ".filters").is_displayed()
        find(driver, "tr[data-key='cifar10-Linf-best'] .name").click()
        assert find(driver, "[id='cifar10-Linf-best']").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_picture_for_readme_shows_the_published_board_in_a_small_file(tmp_path):
    if MISSING:
        pytest.skip(f"no {' and no '.join(MISSING)}: apt-get install chromium chromium-driver")
    pytest.importorskip("selenium.webdriver", reason="no selenium: pip install 'rb_smooth[test]'")
    path = board_picture.draw(tmp_path / "none", tmp_path / "board.png")
    assert Image.open(path).size == Image.open(board_picture.PICTURE).size == (1200, 700)
    assert max(path.stat().st_size, board_picture.PICTURE.stat().st_size) < 200_000


@pytest.fixture(scope="module")
def large_page(tmp_path_factory):
    """The page of a board whose details are in files."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(220):
        make_entry(folder, f"at{number}_net_s0", n=10, autoattack=0.5, interval=[0.2, 0.8])
    hostile = make_entry(folder, NAME, metadata={"name": HOSTILE, "venue": HOSTILE, "footnote": HOSTILE}, clean=0.9)
    add_points(hostile, [True] * 5_000 + [False] * 5_000)
    return write_page(folder)


@pytest.mark.parametrize("served", [False, True])
def test_details_in_files_open_in_the_drawer_from_a_file_and_from_the_server(driver, large_page, served):
    with server.make_server(large_page, 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_address[1]}/" if served else large_page.as_uri()
        try:
            _open_and_close_details(driver, address)
        finally:
            running.shutdown()


def wait_until(driver, is_done):
    """A frame's messages arrive later than the event that sends them."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 10).until(lambda _: is_done())


def _open_and_close_details(driver, address):
    emulate(driver)
    driver.get("about:blank")
    console_messages(driver)
    driver.get(address)
    key = run_js(driver, "document.querySelector('.current tr[data-key*=img]').dataset.key")
    find(driver, f"tr[data-key='{key}'] .name").click()
    assert driver.current_url == f"{address}#{key}"
    assert find(driver, "dialog[open] iframe").size["width"] > 700
    driver.switch_to.frame(find(driver, "dialog iframe"))
    assert find(driver, "h2").text == NAME
    assert "apgd-ce" in find(driver, ".steps").text
    assert run_js(driver, "window.ran ?? null") is None
    assert run_js(driver, "getComputedStyle(document.querySelector('.panel > header')).position") == "sticky"
    find(driver, ".references a").click()  # another model, in the same drawer
    driver.switch_to.default_content()
    wait_until(driver, lambda: driver.current_url != f"{address}#{key}")
    other = driver.current_url.partition("#")[2]
    assert other not in ("", key)
    driver.switch_to.frame(find(driver, "dialog iframe"))
    assert find(driver, ".panel").get_attribute("id") == other
    press(driver, "\ue00c")  # Escape
    driver.switch_to.default_content()
    wait_until(driver, lambda: not run_js(driver, "document.querySelector('dialog[open]')"))
    assert driver.current_url == f"{address}#cifar10-Linf"
    driver.back()  # to the first of the two
    driver.switch_to.frame(find(driver, "dialog[open] iframe"))
    find(driver, ".close").click()
    driver.switch_to.default_content()
    wait_until(driver, lambda: not run_js(driver, "document.querySelector('dialog[open]')"))
    emulate(driver, 390, 844)
    driver.get(f"{address}#{key}")
    assert run_js(driver, "document.documentElement.scrollWidth") == 390
    assert console_messages(driver) == []
