"""Day 08 · A headless browser for the tests of the interactive pages, and a hand to use them.

Needs Chromium or Chrome with its driver, and selenium; tests that ask for the browser are skipped,
with the reason, where one is missing. The pages are opened as files: no server, no network.
"""

import shutil

import numpy as np
import pytest

from experiments.pages import FOLDER

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--disable-quic"]
ENTER = "\ue007"        # as WebDriver writes the key


def find(*names):
    """The first of these programs, or a skip that says what is missing."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or pytest.skip(f"none of {', '.join(names)} is installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One headless browser with a profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = find("chromium", "chromium-browser", "google-chrome", "chrome")
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(find("chromedriver", "chromium.chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def show(browser):
    """Open a page on a screen of this width, in this scheme; no error may be logged, ever."""
    def open_page(name, width=1000, scheme="light"):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        browser.get((FOLDER / f"{name}.html").as_uri())
        return Page(browser)
    yield open_page
    assert browser.get_log("browser") == []


class Page:
    """Short names for what a reader does and sees."""

    def __init__(self, driver):
        self.driver = driver

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def the(self, selector):
        return self.driver.find_element("css selector", selector)

    def js(self, code, *values):
        return self.driver.execute_script(code, *values)

    def press(self, selector, *keys):
        """Keys to an element, then wait for the next picture."""
        self.the(selector).send_keys(*keys)
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => setTimeout(done))")

    def write(self, text):
        self.press("#clear", ENTER)
        self.press("#text", text)

    def bars(self):
        """[(name, what the line says)] of the distribution shown."""
        return [tuple(line) for line in self.js("""
            return [...document.querySelectorAll("#bars li")].map((line) =>
                [line.firstChild.innerText, line.lastChild.innerText])""")]

    def facts(self):
        """{name: (the model, as drawn)} of the table of temperature.html."""
        return {name: tuple(cells) for name, *cells in self.rows("#facts")}

    def rows(self, table):
        """The cells of the body of a table, line by line."""
        return self.js("""return [...document.querySelector(arguments[0]).rows].map((row) =>
            [...row.cells].map((cell) => cell.innerText))""", table)

    @staticmethod
    def luminance(colour):
        """Relative luminance of "rgb(r, g, b)". Source: WCAG 2.2."""
        c = np.array([int(x) for x in colour.strip("rgba()").split(",")[:3]]) / 255
        return np.where(c <= .04045, c / 12.92, ((c + .055) / 1.055) ** 2.4) @ [.2126, .7152, .0722]
