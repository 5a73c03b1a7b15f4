"""Pages in headless Chromium, from files, with all that goes wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDE, PHONE = (1440, 900), (390, 844)


@contextmanager
def chromium() -> Iterator[Any]:
    """A Chromium; the test is skipped, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium-headless-shell")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Any, page: Path, size: tuple[int, int] = WIDE, dark: bool = False, after: str = ""
) -> Iterator[Any]:
    """A page, read from its file, once it shows photos; at the end nothing may have gone wrong in it.

    Not an error, nor a warning, nor a violation of its policy, nor a request of anything but files, nor anything moved.
    """
    phone = size[0] < 600
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        has_touch=phone,
        is_mobile=phone,
    )
    tab, wrong, asked = context.new_page(), [], []
    tab.set_default_timeout(60_000)
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.add_init_script(_SHIFTS)
    tab.goto(f"{page.as_uri()}{after}")
    tab.wait_for_selector("#photos .photo, #photos .none")
    yield tab
    assert not wrong, wrong
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}, asked
    shifted, wide = tab.evaluate("[window.shifted, document.documentElement.scrollWidth]")
    assert not shifted, f"things moved: {shifted}"
    assert wide <= size[0], wide
    context.close()


def until(tab: Any, holds: str) -> None:
    """Wait for an expression of JavaScript to hold; asked from here, since the page's policy lets it evaluate none."""
    for _ in range(600):
        if tab.evaluate(holds):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"never: {holds}")


_SHIFTS = """
window.shifted = "";
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if (!entry.hadRecentInput && entry.value > 0.01)
      window.shifted += entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 80)).join(", ");
}).observe({ type: "layout-shift", buffered: true });
"""
