from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from aopsam.report.charts import histogram_svg, short
from aopsam.report.histogram import Histogram
from aopsam.report.page import Distribution, Failure, Sample, printable, report_html
from stages.results.report import write_report
from stages.results.settle import settle
from tests.helpers.html_page import Page
from tests.helpers.made_labels import HOSTILE_NAME, made_out, summary


def made_page(**changes: Any) -> str:
    made_summary = {
        "images": 3,
        "masks": 7,
        "seconds": 2.0,
        "images_per_second": 1.5,
        "status": {"ok": 1, "empty": 0, "rejected": 0, "failed": 2},
        "reason": {"none": 1, "empty_file": 2},
        "stages": {"encode": 0.1, "decode": 0.3},
        "reading": {"read": 0.01},
        "bound_by": {"stage": "decode", "share": 0.75},
        "configuration": {"sam": "tiny", "prompts": "aop", "strategy_options": {}},
        "configuration_sha256": "ab" * 32,
    } | changes.pop("summary", {})
    histogram = Histogram.of_edges(np.arange(11))
    arguments: dict[str, Any] = {
        "prompts": {"proposed": 10, "decoded": 8, "masks kept": 7},
        "distributions": [Distribution("Masks per image", "images", histogram)],
        "samples": [],
        "failures": [],
    }
    return report_html(made_summary, **(arguments | changes))


def test_the_report_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.results.gathered.SAMPLES", 2)
    images, out, rows = made_out(tmp_path)
    path = write_report(str(out), str(images), summary(rows), settle(str(out)))
    assert path == str(out / "report.html")
    html = Path(path).read_text()
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("figure") == 2  # of 3 images with masks
    assert tags.count("svg") == 4
    assert "12 masks in 7 images" in page.text
    assert "bound by decode, 54 %" in page.text
    assert "40000 x 40000 pixels" in page.text
    assert [row["file_name"] in page.text for row in rows if row["status"] == "failed"] == [True, False]
    assert printable(HOSTILE_NAME.replace("/", "")) in page.text
    assert write_report(str(out), str(images), summary(rows), settle(str(out))) == path
    assert Path(path).read_text() == html  # the same photos again


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    images, out, rows = made_out(tmp_path)
    page = Page(Path(write_report(str(out), str(images), summary(rows), settle(str(out)))).read_text())
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcset", "action")]
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert "url(" not in (attributes.get("style") or "")
    assert ("meta", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in [
        (tag, attributes.get("content")) for tag, attributes in page.tags
    ]


def test_hostile_text_is_only_text() -> None:
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e{{ 7 * 7 }}'
    photo = np.zeros((4, 6, 3), np.uint8)
    html = made_page(
        samples=[Sample(hostile, hostile, photo, photo), Sample(hostile, hostile)],
        failures=[Failure(hostile, "failed", "empty_file", hostile)] * 2,
        summary={"configuration": {"sam": hostile, "prompts": hostile, hostile: {hostile: hostile}}},
    )
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert printable(hostile) in page.text
    assert not re.search("[\x1b\u202e]", html)


def test_a_photo_that_cannot_be_shown_is_still_named(tmp_path: Path) -> None:
    images, out, rows = made_out(tmp_path)
    (images / "a.png").unlink()
    (images / "sub" / "b.png").write_bytes(b"no photo")
    (images / "c #1.png").write_bytes((images / "flat.png").read_bytes())
    text = Page(Path(write_report(str(out), str(images), summary(rows), settle(str(out)))).read_text()).text
    for name in ("a.png", "sub/b.png", "c #1.png"):
        assert name in text
    assert text.count("cannot be shown: ") == 2
    assert text.count("another photo lies there now") == 1


def test_an_empty_run() -> None:
    html = made_page(
        summary={"images": 0, "masks": 0, "status": {}, "reason": {}, "stages": {}, "images_per_second": 0.0},
        prompts={"proposed": 0, "decoded": 0, "masks kept": 0},
    )
    assert "No image has a mask." in Page(html).text
    assert "Not labelled" not in html


def test_failures_beyond_those_listed_are_counted() -> None:
    html = made_page(failures=[Failure("x.jpg", "failed", "empty_file", "no bytes")])
    assert "and 1 more, in the labels tables" in Page(html).text


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[5], [1, 1, 9], list(range(1, 999)), [0.5] * 1000])
def test_a_histogram_is_well_formed_and_inside_its_frame(values: list[float], log: bool) -> None:
    histogram = Histogram.of_edges(10 ** np.arange(0, 4.05, 0.1) if log else np.arange(1001))
    histogram.add(values)
    svg = ElementTree.fromstring(str(histogram_svg(histogram, "a < b", log=log, mark=histogram.median())))
    width, height = (float(value) for value in svg.attrib["viewBox"].split()[2:])
    bars = [bar for bar in svg if bar.tag == "rect"]
    assert sum(int((bar[0].text or "").split(": ")[1].replace(",", "")) for bar in bars) == len(values)
    for bar in bars:
        x, y, w, h = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
        assert min(x, y) >= 0
        assert min(w, h) > 0
        assert x + w <= width
        assert y + h <= height


def test_histogram_counts() -> None:
    histogram = Histogram.of_edges(np.arange(101))
    assert histogram.median() is None
    histogram.add([3, 3.5, 4, 99, 1000, -5, float("nan"), float("inf")])
    assert histogram.total == 6
    assert (histogram.counts[0], histogram.counts[3], histogram.counts[99]) == (1, 2, 2)
    assert histogram.median() == 3
    assert histogram.trimmed(10).total == 6
    assert len(histogram.trimmed(10).counts) <= 10
    narrow = Histogram.of_edges(np.arange(101))
    narrow.add([40, 41, 41])
    assert narrow.trimmed(40).edges.tolist() == [40, 41, 42]


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0, 0.95, 12, 999, 1500, 2e6)] == ["0", "0.95", "12", "999", "1.5k", "2M"]
