"""Draw the charts of an evaluation: quality against prompts and against time, and each option's sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aopsam.report.evaluation_page import Chart
from aopsam.report.scatter import Point, scatter_svg
from stages.config.strategy_spec import StrategySpec, find_sweeps
from stages.evaluate.compare import GROUND_TRUTH_PROMPTS
from stages.evaluate.tables import short_names

COSTS = {"prompts_decoded": "prompts decoded on a photo", "seconds": "seconds a photo, encoding charged"}
"""Costs that quality is drawn against."""


def charts_of(entries: Sequence[Mapping[str, Any]], specs: Sequence[StrategySpec]) -> list[Chart]:
    """Draw a chart for each data, model and cost, and for each option with several values.

    Strategies that ask the ground truth are left out.

    Args:
        entries: entries of `stages.evaluate.summary.summarise`.
        specs: the run's strategies.
    """
    names = short_names([entry["data"] for entry in entries])
    charts = []
    for data, sam in dict.fromkeys((entry["data"], entry["sam"]) for entry in entries):
        found = {entry["prompts"]: entry for entry in entries if (entry["data"], entry["sam"]) == (data, sam)}
        where = f"{names[data]}, {sam}"
        for key, title in COSTS.items():
            points = [_point(found[spec.text], found[spec.text][key], spec.text) for spec in specs if _is_drawn(spec)]
            points = [point for point in points if point is not None and point.x > 0]
            if points:
                svg = scatter_svg([point for point in points if point is not None], title, "mIoU, %", log=True)
                charts.append(Chart(f"mIoU and {key.replace('_', ' ')}: {where}", svg))
        for title, group in find_sweeps(specs).items():
            values = [(float(spec.options[title.rpartition(": ")[2]]), found[spec.text]) for spec in group]
            points = [_point(entry, value, "") for value, entry in values]
            if all(point is not None for point in points):
                svg = scatter_svg([point for point in points if point is not None], title, "mIoU, %", in_order=True)
                charts.append(Chart(f"mIoU by {title}: {where}", svg))
                costs = [Point(value, entry["prompts_decoded"], "") for value, entry in values]
                svg = scatter_svg(costs, title, COSTS["prompts_decoded"], in_order=True)
                charts.append(Chart(f"Prompts by {title}: {where}", svg))
    return charts


def _is_drawn(spec: StrategySpec) -> bool:
    return spec.name not in GROUND_TRUTH_PROMPTS


def _point(entry: Mapping[str, Any], x: float | None, label: str) -> Point | None:
    """Return the point of a quality, in percent, at a cost; None where one of them is undefined."""
    miou = entry["miou"]["over_masks"]
    if miou is None or x is None:
        return None
    return Point(x, 100 * miou["mean"], label, 100 * miou["low"], 100 * miou["high"])
