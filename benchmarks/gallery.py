"""Measure how soon a gallery shows its pictures: Chromium opens it from a file, wide and narrow, light and dark.

    python benchmarks/gallery.py --labels OUT --images PHOTOS                   # OUT's rows
    python benchmarks/gallery.py --labels OUT --images PHOTOS --rows 20000      # again and again; copies on grey

Prints, for each view, the seconds from asking for the page until every picture in view is there, in a browser that has
started, and what the page's console said; then presses keys and chooses a filter. --screenshots DIR keeps what was
seen. Exit status: 0 where pictures came within --seconds, the console said nothing, keys and filter did what they
should; 1 where not. Needs playwright and Debian's chromium or chromium-headless-shell.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.repeated import repeat_labels
from stages.results.gallery import write_gallery

VIEWS = [(width, dark) for width in (1440, 390) for dark in (False, True)]
IN_VIEW = """
(() => {
  const seen = [...document.querySelectorAll('#photos img')].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.top < innerHeight && box.bottom > 0;
  });
  return seen.length > 0 && seen.every((one) => one.complete && one.naturalWidth > 0);
})()
"""


def look(browser: Any, page: Path, width: int, dark: bool, shots: Path | None) -> tuple[float, list[str], bool]:
    """Open the page and use it; return the seconds to its pictures, what the console said, and whether keys work."""
    scheme = "dark" if dark else "light"
    began = time.monotonic()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, said = context.new_page(), list[str]()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(page.as_uri())
    while not tab.evaluate(IN_VIEW):
        tab.wait_for_timeout(10)
    seconds = time.monotonic() - began
    if shots:
        tab.screenshot(path=shots / f"gallery-{width}-{scheme}.png")
    tab.locator("a.photo").first.click()
    tab.wait_for_selector("#list li")
    first = tab.url
    tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(300)
    works = tab.url != first
    if shots:
        tab.screenshot(path=shots / f"photo-{width}-{scheme}.png")
    tab.keyboard.press("Escape")
    every = tab.locator("#count").text_content()
    if width < 600:
        tab.locator("#more").click()
    tab.get_by_label("Mean score, at least").fill("0.99")
    tab.wait_for_timeout(300)
    works &= tab.locator("#count").text_content() != every
    context.close()
    return seconds, said, works


def main(argv: Sequence[str] | None = None) -> int:
    """Write the gallery, look at it; return the exit status."""
    parser = argparse.ArgumentParser(description="seconds until a gallery shows its pictures")
    parser.add_argument("--labels", required=True, help="OUT of a labelling run")
    parser.add_argument("--images", required=True, help="the photos")
    parser.add_argument("--rows", type=int, help="rows of the gallery, OUT's again and again")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--screenshots", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    executable = next((found for name in names if (found := shutil.which(name))), None)
    holds = True
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        labels = arguments.labels
        if arguments.rows:
            labels = str(repeat_labels(labels, arguments.rows, Path(folder) / "repeated"))
        page = Path(write_gallery(labels, arguments.images, f"{folder}/gallery", px=800).page)
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for width, dark in VIEWS:
            seconds, said, works = look(browser, page, width, dark, arguments.screenshots)
            holds &= seconds < arguments.seconds and not said and works
            use = "keys and filter work" if works else "KEYS OR FILTER DO NOT WORK"
            print(f"{width} px, {'dark' if dark else 'light'}: {seconds:.2f} s, {use}, console: {said or 'nothing'}")
        browser.close()
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
