"""The gallery as people use it: with a mouse, with keys, by touch; one browser for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aopsam.report.gallery import Item
from aopsam.report.page import printable
from stages.results.compare import compare_labels
from stages.results.gallery import COLUMNS, GalleryWriter, write_gallery
from tests.helpers.browser import PHONE, WIDE, chromium, opened, until
from tests.helpers.made_gallery import made_run, made_trace
from tests.helpers.made_labels import HOSTILE_NAME, write_labels

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, out, _ = made_run(tmp_path_factory.mktemp("run"))
    return Path(write_gallery(str(out), str(images), str(out / "gallery"), px=400).page)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery whose last photo, a.png, tells how it was prompted."""
    images, out, rows = made_run(tmp_path_factory.mktemp("traced"))
    rows[0]["trace"] = made_trace()
    write_labels(rows, out / "labels" / "x.parquet")
    return Path(write_gallery(str(out), str(images), str(out / "gallery"), px=400).page)


def names(tab: Any) -> list[str]:
    return tab.locator("#photos .name").all_text_contents()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_pictures_show_and_nothing_goes_wrong(browser: Any, gallery: Path, size: tuple[int, int], dark: bool) -> None:
    with opened(browser, gallery, size, dark) as tab:
        assert len(names(tab)) == 7
        assert tab.locator("#count").text_content() == "7 photos"
        assert printable(HOSTILE_NAME.replace("/", "")) in names(tab)
        until(tab, "[...document.querySelectorAll('#photos img')].every((one) => one.naturalWidth > 0)")
        assert tab.locator("#photos img").count() == 4
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) < 150) is dark
        assert tab.locator("#more").is_visible() is (size == PHONE)
        tab.locator("a.photo").last.click()
        tab.wait_for_selector("#list li")
        assert tab.locator("#viewer").bounding_box() == {"x": 0, "y": 0, "width": size[0], "height": size[1]}
        until(tab, "document.querySelector('.stage img').naturalWidth === 120")


def test_filters_and_orders(browser: Any, gallery: Path) -> None:
    with opened(browser, gallery) as tab:
        tab.get_by_text("failed 2").click()
        assert len(names(tab)) == 2
        assert tab.locator("#count").text_content() == "2 of 7 photos"
        tab.get_by_text("ok 3").click()
        assert len(names(tab)) == 5
        tab.get_by_text("corrupt image 1").click()
        assert names(tab) == ["broken.jpg"]
        tab.get_by_role("button", name="Clear").click()
        until(tab, "document.querySelectorAll('#photos .photo').length === 7")
        tab.get_by_label("Mean score, at least").fill("0.75")
        assert names(tab) == ["sub/b.png", "a.png"]
        tab.locator("#order").select_option("best")
        assert names(tab) == ["a.png", "sub/b.png"]
        tab.locator("#name").fill("SUB")
        assert names(tab) == ["sub/b.png"]
        address = tab.url
        tab.locator("#name").fill("nowhere")
        assert tab.locator("#photos").text_content() == "No photo passes these filters."
    with opened(browser, gallery, after=f"#{address.partition('#')[2]}") as tab:  # the address keeps what is chosen
        assert names(tab) == ["sub/b.png"]
        assert tab.locator("#name").input_value() == "sub"


def test_by_keys_alone(browser: Any, gallery: Path) -> None:
    with opened(browser, gallery) as tab:
        tab.keyboard.press("/")
        tab.keyboard.type(".png")
        tab.keyboard.press("Tab")
        tab.evaluate("document.activeElement.blur()")
        for _ in range(3):
            tab.keyboard.press("ArrowRight")
        assert tab.evaluate("document.activeElement.dataset.row") == "2"
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#list li")
        assert tab.locator("#title").text_content() == "sub/b.png3 of 5"
        tab.keyboard.press("ArrowDown")
        told = tab.locator("#mask").text_content()
        assert "Predicted IoU0.800" in told
        assert "Prompt(" in told
        tab.keyboard.press("m")
        assert tab.locator("#masks").get_attribute("aria-pressed") == "false"
        tab.keyboard.press("ArrowRight")
        until(tab, "document.getElementById('title').textContent.startsWith('a.png')")
        tab.keyboard.press("ArrowRight")
        assert tab.locator("#stages").text_content() == "too many pixels40000 x 40000 pixels"
        assert not tab.locator("aside").is_visible()
        tab.keyboard.press("ArrowLeft")
        tab.wait_for_selector("#list li")
        tab.keyboard.press("Escape")
        assert not tab.locator("#viewer").is_visible()
        assert tab.evaluate("document.activeElement.querySelector('.name').textContent") == "a.png"


def test_the_mask_under_the_pointer_its_parent_and_its_parts(browser: Any, gallery: Path) -> None:
    with opened(
        browser, gallery, after="#photo=3"
    ) as tab:  # a.png, discs around (24, 16), (60, 40), (96, 64), (60, 40)
        frame = tab.locator(".stage .frame")
        frame.wait_for()
        tab.wait_for_selector("#list li")
        box = frame.bounding_box()

        def at(x: float, y: float) -> tuple[float, float]:
            return box["x"] + box["width"] * x / 120, box["y"] + box["height"] * y / 80

        tab.mouse.move(*at(24, 16))
        assert tab.locator("#mask h3").text_content().startswith("Mask 0")
        assert "25 px" in tab.locator("#mask").text_content()
        tab.mouse.move(*at(60, 40))
        assert tab.locator("#mask h3").text_content().startswith("Mask 1")  # the smallest there
        assert "Part ofmask 3" in tab.locator("#mask").text_content()
        tab.mouse.move(*at(5, 75))
        assert "Point at a mask" in tab.locator("#mask").text_content()
        tab.mouse.click(*at(60, 40))
        tab.mouse.click(*at(60, 40))
        assert tab.locator("#mask h3").text_content().startswith("Mask 3")  # the next larger one
        tab.locator("#mask").get_by_role("button", name="mask 1").click()
        assert tab.locator("#mask h3").text_content().startswith("Mask 1")
        painted = tab.evaluate("""() => {
          const canvas = document.querySelectorAll('.stage canvas')[1];
          const row = canvas.getContext('2d').getImageData(0, 40, 120, 1).data;
          return [row[4 * 60 + 3], row[4 * 5 + 3]];
        }""")
        assert painted[0] > 0 == painted[1]
        tab.locator("#least-area").fill("55")
        assert tab.locator("#list li").count() < 4


def test_by_touch_alone(browser: Any, gallery: Path) -> None:
    with opened(browser, gallery, PHONE, dark=True) as tab:
        tab.locator("#more").tap()
        tab.get_by_text("ok 3").tap()
        assert len(names(tab)) == 3
        tab.locator("a.photo").last.tap()
        tab.wait_for_selector("#list li")
        tab.locator(".stage .frame").tap()  # the middle: (60, 40)
        assert tab.locator("#mask h3").text_content().startswith("Mask 1")
        tab.get_by_role("button", name="next mask").tap()
        assert not tab.locator("#mask h3").text_content().startswith("Mask 1")
        tab.locator("#before").tap()
        until(tab, "document.getElementById('title').textContent.startsWith('sub/b.png')")
        tab.locator("#close").tap()
        assert not tab.locator("#viewer").is_visible()


def test_two_labellings_side_by_side(browser: Any, tmp_path: Path) -> None:
    images, ours, rows = made_run(tmp_path)
    _, theirs, others = made_run(tmp_path, "other")
    others[0]["masks"] = [mask | {"parent": None} for mask in others[0]["masks"][1:]]
    write_labels(others, theirs / "labels" / "x.parquet")
    page = compare_labels(str(ours), str(theirs), 0.5, str(images), str(tmp_path / "page"), 400).page
    assert rows[0]["file_name"] == "a.png"
    with opened(browser, Path(str(page))) as tab:
        assert names(tab)[0] == "a.png"
        assert "3 in both · 1 only A · 0 only B" in tab.locator("#photos .told").first.text_content()
        tab.locator("a.photo").first.click()
        tab.wait_for_selector("#list li")
        assert tab.locator(".stage").count() == 2
        assert tab.locator("#list li").count() == 4  # a pair once
        tab.keyboard.press("ArrowDown")
        assert "Only inA · out" in tab.locator("#mask").text_content()
        tab.keyboard.press("ArrowDown")
        assert "Also inB · other, mask 0IoU 1.00" in tab.locator("#mask").text_content()
        tab.get_by_text("Only what one side has").click()
        assert tab.locator("#list li").count() == 1


def test_thousands_of_photos_in_pages(browser: Any, tmp_path: Path) -> None:
    def item(number: int) -> Item:
        failed = number > 4097
        values = ("failed", "not_found", None, None, None, None) if failed else ("ok", "none", number % 7, 0.5, 1, 2)
        return Item((number,), f"{number:05d}.jpg", "" if failed else f"{number:020d}", (4, 3), "", values)

    items = [item(number) for number in range(4100)]
    writer = GalleryWriter(str(tmp_path), COLUMNS, 100)
    for number in range(4100):
        writer._drawn[f"{number:020d}"] = "", 0.0
    page = Path(writer.finish(items, "many", [], ["run"], ""))
    (picture := tmp_path / "photos" / "00").mkdir(parents=True)
    for number in (*range(60), *range(4030, 4100)):
        Image.new("RGB", (4, 3)).save(picture / f"{number:020d}.small.jpg")
    with opened(browser, page) as tab:
        assert names(tab) == [f"{number:05d}.jpg" for number in range(60)]
        assert tab.locator("#page").text_content() == "page 1 of 69"
        until(tab, "document.querySelectorAll('script[src*=rows]').length === 3")
        tab.locator("#order").select_option("best")
        until(tab, "document.querySelector('#photos .name').textContent === '04097.jpg'")


def marks(tab: Any) -> list[str]:
    """What is painted at the five prompts of `made_trace`, masks off: by the colours at and around each."""
    tab.wait_for_timeout(150)  # the canvas fades in
    colours = tab.evaluate("""() => {
      const canvas = document.querySelector('.stage canvas'), copy = document.createElement('canvas');
      Object.assign(copy, { width: canvas.width, height: canvas.height });
      const pen = copy.getContext('2d', { willReadFrequently: true }); // the page's own is not read: that is warned of
      pen.drawImage(canvas, 0, 0);
      const at = (x, y) => [...pen.getImageData(x, y, 1, 1).data];
      return [[24, 16], [100, 10], [60, 40], [96, 64], [10, 70]].map(([x, y]) => [at(x, y), at(x + 3, y)]);
    }""")

    def named(middle: list[int], beside: list[int]) -> str:
        if middle[3] < 128:
            return "ring" if beside[3] > 200 and min(beside[:3]) > 100 else "none"
        _, green, blue, _ = middle
        return "cross" if green < 150 else "large dot" if blue < 150 else "dot"

    return [named(*pair) for pair in colours]


def test_rounds_of_prompts_by_keys(browser: Any, traced: Path) -> None:
    with opened(browser, traced, after="#photo=3") as tab:
        tab.wait_for_selector("#list li")
        tab.keyboard.press("m")
        now, shown = tab.locator("#round-now"), tab.locator("#list li")
        assert now.text_content() == "Round 2 of 2"
        assert marks(tab) == ["dot", "cross", "large dot", "large dot", "cross"]
        assert tab.locator("#fates li").all_text_contents() == [
            *("waiting0", "decoded3", "of them in this round2", "dropped: late1", "dropped: near <b>1")
        ]
        assert shown.count() == 4
        tab.keyboard.press(".")  # there is no third
        assert now.text_content() == "Round 2 of 2"
        tab.keyboard.press(",")
        assert now.text_content() == "Round 1 of 2"
        assert marks(tab) == ["large dot", "cross", "ring", "ring", "ring"]
        assert shown.count() == 1
        tab.keyboard.press(",")
        tab.keyboard.press(",")
        assert now.text_content() == "5 prompts proposed"
        assert marks(tab) == ["ring"] * 5
        assert shown.count() == 0
        assert tab.locator("#round-before").is_disabled()
        tab.keyboard.press(".")
        assert marks(tab) == ["large dot", "cross", "ring", "ring", "ring"]
        tab.keyboard.press("p")
        assert marks(tab) == ["none"] * 5
        picture = tab.locator(".stage .map")
        assert not picture.is_visible()
        tab.keyboard.press("c")
        assert picture.bounding_box() == tab.locator(".stage .frame").bounding_box()
        assert tab.locator("#map").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("dark", [False, True])
def test_rounds_of_prompts_by_touch(browser: Any, traced: Path, dark: bool) -> None:
    with opened(browser, traced, PHONE, dark, after="#photo=3") as tab:
        tab.wait_for_selector("#list li")
        tab.locator("#masks").tap()
        assert min(tab.locator("#round-before").bounding_box()[side] for side in ("width", "height")) >= 40
        tab.locator("#round-before").tap()
        assert marks(tab)[:3] == ["large dot", "cross", "ring"]
        tab.locator("#round").fill("0")
        assert marks(tab) == ["ring"] * 5
        tab.locator("#round-after").tap()
        assert tab.locator("#round-now").text_content() == "Round 1 of 2"
        tab.locator("#map").tap()
        assert tab.locator(".stage .map").is_visible()
        tab.locator("#before").tap()
        until(tab, "document.getElementById('title').textContent.startsWith('sub/b.png')")
        tab.wait_for_selector("#list li")
        for control in ("#rounds", "#map", ".stage .map"):
            assert not tab.locator(control).is_visible()
        assert tab.locator("#list li").count() == 4


def test_without_traces_there_are_no_controls_for_them(browser: Any, gallery: Path) -> None:
    with opened(browser, gallery, after="#photo=3") as tab:
        tab.wait_for_selector("#list li")
        for key in (",", ".", "c"):
            tab.keyboard.press(key)
        assert tab.locator("#list li").count() == 4
        assert tab.locator("#rounds, #map, .stage .map").count() == 0
        assert "rounds" not in tab.locator("aside").text_content()
