"""A real Chromium without a window, which keeps an eye on what the page does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--lang=en-GB"),
)
# Runs in each page before the page's own: notes scripts of messages, sounds, streams
# and refused loads.
WITNESS = """
window.pwned = [];
window.violations = [];
window.tones = 0;
for (const name of ["alert", "confirm", "prompt"]) window[name] = () => window.pwned.push(name);
addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
window.streams = [];
window.EventSource = class extends EventSource {
  constructor(...values) { super(...values); window.streams.push(this); }
};
const make = AudioContext.prototype.createOscillator;
AudioContext.prototype.createOscillator = function () {
  window.tones += 1;
  return make.call(this);
};
"""


class Browser:
    """A browser, and what is asked of it here."""

    def __init__(self, chromium: str, chromedriver: str, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(chromedriver))
        self.tell("Page.addScriptToEvaluateOnNewDocument", source=WITNESS)
        self.tell("Emulation.setLocaleOverride", locale="en-GB")
        self.size(1200, 800)
        self.scheme("light")

    def close(self) -> None:
        """End it."""
        self.driver.quit()

    def tell(self, command: str, **arguments: Any) -> None:
        """Send a command of the browser's own protocol."""
        self.driver.execute_cdp_cmd(command, arguments)

    def size(self, width: int, height: int) -> None:
        """Make the page's place so many pixels large."""
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.tell("Emulation.setDeviceMetricsOverride", **sizes, mobile=width < 700)

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`, and nothing that moves: what fades in is not there at first."""
        features = {"prefers-color-scheme": name, "prefers-reduced-motion": "reduce"}
        preferred = [{"name": feature, "value": value} for feature, value in features.items()]
        self.tell("Emulation.setEmulatedMedia", features=preferred)

    def open(self, url: str) -> None:
        """Open a page anew, and wait until it is live."""
        self.driver.get("about:blank")
        self.driver.get(url)
        self.wait_for_link("Live")

    def wait_for_link(self, text: str) -> None:
        """Wait until the page says that it is connected, or is not."""
        self.until(
            lambda: self.js("return document.getElementById('link-text').textContent") == text
        )

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something on the page."""
        return until(condition, timeout=15)

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements that a CSS selector finds."""
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def one(self, selector: str) -> WebElement:
        """Return the element that a CSS selector finds."""
        (found,) = self.all(selector)
        return found

    def texts(self) -> list[str]:
        """Return the text of each message, in order."""
        script = "return [...document.querySelectorAll('article .body')].map((e) => e.textContent)"
        found: list[str] = self.js(script)
        return found

    def wait_for_text(self, text: str) -> None:
        """Wait until a message with this text is the last."""
        self.until(lambda: self.texts()[-1:] == [text])

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        chain = webdriver.ActionChains(self.driver)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain.key_up(key)
        chain.perform()

    def requests(self) -> list[str]:
        """Return the URLs that were asked for since this was last called."""
        events = [
            json.loads(entry["message"])["message"]
            for entry in self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        ]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """Return what the browser's console says since this was last called."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]

    def focused(self) -> str:
        """Return what has the focus: its text, or its id."""
        script = "return document.activeElement.textContent.trim() || document.activeElement.id"
        return str(self.js(script))


__all__ = ["Browser", "Keys"]
