from __future__ import annotations

from xml.etree import ElementTree

import pytest

from aopsam.report.scatter import Point, pareto_front, scatter_svg, standalone

POINTS = [
    Point(10, 30, "cheap"),
    Point(100, 40, "dear", low=35, high=45),
    Point(50, 40, "best", low=38, high=42),
    Point(50, 20, "<bad>"),
    Point(10, 25, "worse"),
]
SVG = "{http://www.w3.org/2000/svg}"


def circles(svg: str) -> dict[str, tuple[str, float, float]]:
    """Label → class and place of a point."""
    found = {}
    for circle in ElementTree.fromstring(svg).iter(f"{SVG}circle"):
        title = circle.find(f"{SVG}title")
        assert title is not None
        assert title.text is not None
        place = float(circle.attrib["cx"]), float(circle.attrib["cy"])
        found[title.text.partition(":")[0]] = (circle.attrib["class"], *place)
    return found


def test_the_front_is_what_nothing_cheaper_reaches() -> None:
    assert [point.label for point in pareto_front(POINTS)] == ["cheap", "best"]
    assert pareto_front([]) == []


@pytest.mark.parametrize("log", [False, True])
def test_points_lie_by_cost_and_quality(log: bool) -> None:
    found = circles(str(scatter_svg(POINTS, "prompts", "mIoU", log=log)))
    assert found["cheap"][1] == found["worse"][1] < found["best"][1] < found["dear"][1]
    assert found["best"][2] == found["dear"][2] < found["cheap"][2] < found["<bad>"][2]
    assert [label for label, (kind, *_) in found.items() if "best" in kind] == ["cheap", "best"]


def test_labels_do_not_cover_each_other() -> None:
    crowd = [Point(50 + n, 40 + n / 10, f"strategy-{n}") for n in range(6)]
    root = ElementTree.fromstring(str(scatter_svg(crowd, "x", "y")))
    places = [
        (float(text.attrib["x"]), float(text.attrib["y"]))
        for text in root.iter(f"{SVG}text")
        if text.attrib["class"] == "label"
    ]
    assert len(places) == 6
    for index, (x, y) in enumerate(places):
        assert all(abs(x - other_x) >= 55 or abs(y - other_y) >= 10 for other_x, other_y in places[:index])


def test_values_of_an_option_are_joined_in_order() -> None:
    svg = str(scatter_svg(POINTS[:3], "threshold", "mIoU", in_order=True))
    root = ElementTree.fromstring(svg)
    (line,) = root.iter(f"{SVG}polyline")
    xs = [float(pair.split(",")[0]) for pair in line.attrib["points"].split()]
    assert len(xs) == 3
    assert xs == sorted(xs)
    assert not [text for text in root.iter(f"{SVG}text") if text.attrib["class"] == "label"]


def test_one_point_and_a_file_of_its_own() -> None:
    text = standalone(scatter_svg([Point(5, 0, "alone", marked=True)], "a & b", "c", log=True))
    root = ElementTree.fromstring(text)
    assert root.find(f"{SVG}style") is not None
    assert circles(text)["alone"][0] == "point best marked"
    assert "a & b" in [element.text for element in root.iter(f"{SVG}text")]


def test_of_many_points_the_best_are_named() -> None:
    points = [Point(float(n), float(n % 7), f"name-{n}") for n in range(1, 20)]
    svg = str(scatter_svg(points, "cost", "quality"))
    assert [f">name-{n}<" in svg for n in (1, 6, 7, 19)] == [True, True, False, False]
    assert "<title>name-7: " in svg
