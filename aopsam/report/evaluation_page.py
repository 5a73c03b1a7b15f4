"""Make the HTML page of an evaluation: tables, charts of quality against cost, failures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from aopsam.report.page import flattened, render


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Attributes:
        title: what it shows.
        about: a line below the title.
        heads: titles of the columns.
        rows: cells as they are shown, as many as there are heads.
        labels: number of columns, from the left, that name the row.
        note: a line below the table.
    """

    title: str
    about: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart of `aopsam.report.scatter`."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class SideBySide:
    """One photo with the masks of several methods.

    Attributes:
        title: a line below the pictures.
        pictures: (name, (H, W, 3) uint8) in order.
    """

    title: str
    pictures: Sequence[tuple[str, npt.NDArray[np.uint8]]]


FAILURES = ("Failures", "photos on which the first strategy loses most")


def evaluation_html(
    title: str,
    lines: Sequence[str],
    tables: Sequence[Table],
    charts: Sequence[Chart],
    failures: Sequence[SideBySide],
    details: Mapping[str, Mapping[str, Any]],
    heading: tuple[str, str] = FAILURES,
) -> str:
    """Return the page of an evaluation as HTML text.

    Args:
        title: title of the page.
        lines: lines below the title that say what was evaluated.
        tables: in order.
        charts: in order.
        failures: photos with the masks of several methods, in order.
        details: name → values (nested ones are flattened), listed at the end.
        heading: title of the photos, and what they are.
    """
    return render(
        "evaluation.html",
        title=title,
        lines=lines,
        tables=tables,
        charts=charts,
        failures=failures,
        heading=heading,
        details={name: flattened(values) for name, values in details.items()},
    )
