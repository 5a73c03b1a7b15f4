"""The numbers of docs/constants.md are those of the code."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from typing import Any

import pytest

from tests.helpers import ROOT

PAPERS = {
    "AMR",
    "AoP-SAM",
    "COCO",
    "Efficient SAM2",
    "EfficientSAM",
    "MobileSAM",
    "MobileSAMv2",
    "SAM",
    "TinySAM",
    "ours",
}
_STEP = re.compile(r"\.?(?P<name>[A-Za-z_]\w*)|\[(?P<key>'[^']+'|-?\d+)\]|\((?P<parameter>\w+)\)")


def _rows() -> list[list[str]]:
    """Return the cells of each row: paper, place, the paper's, ours, code."""
    lines = (ROOT / "docs" / "constants.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("| ")][1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def _literal(cell: str) -> Any:
    """Return what a cell such as `2.0`, `(2, 10)` or `512 / 1500` stands for."""
    parts = [ast.literal_eval(part.strip()) for part in cell.strip("`").split(" / ")]
    return parts[0] / parts[1] if len(parts) == 2 else parts[0]


def _in_code(place: str) -> Any:
    """Return a default of the code: `a/file.py: Name.field`, `… function(parameter)` or `… NAME['key']`."""
    file, _, path = place.partition(": ")
    found: Any = import_module(file.removesuffix(".py").replace("/", "."))
    assert "".join(step.group() for step in _STEP.finditer(path)) == path, f"{place} cannot be read"
    for step in _STEP.finditer(path):
        if step["name"]:
            found = getattr(found, step["name"])
        elif step["key"]:
            found = found[ast.literal_eval(step["key"])]
        else:
            found = inspect.signature(found).parameters[step["parameter"]].default
    return found


def _wrong(row: list[str]) -> str:
    """Say what is wrong with a row; empty where it is the code's."""
    _, _, papers, ours, place = row
    place = place.strip("`")
    if "::" in place:
        file, _, test = place.partition("::")
        is_there = f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8")
        return "" if is_there else f"{place}: no such test"
    stated, found = _literal(papers if ours == "`=`" else ours), _in_code(place)
    is_same = found == pytest.approx(stated) if isinstance(stated, int | float) else found == stated
    return "" if is_same else f"{place} is {found!r}, the page says {stated!r}"


def test_every_number_of_the_page_is_the_codes() -> None:
    rows = _rows()
    assert {row[0] for row in rows} == PAPERS
    assert [wrong for row in rows if (wrong := _wrong(row))] == []


@pytest.mark.parametrize(
    ("papers", "ours", "place", "said"),
    [
        ("`5`", "`=`", "`aopsam/predictor/sampling.py: Sampling.spacing`", "Sampling.spacing is 6, the page says 5"),
        ("`6`", "`7`", "`aopsam/prompting/asf.py: adaptive_sampling(spacing)`", "is 6, the page says 7"),
        ("x", "`(2, 11)`", "`aopsam/prompting/attention.py: Attention.preset`", "the page says (2, 11)"),
        ("x", "`=`", "`tests/docs/test_constants.py::test_of_nothing`", "no such test"),
    ],
)
def test_a_row_that_is_wrong_is_found(papers: str, ours: str, place: str, said: str) -> None:
    assert said in _wrong(["a paper", "a place", papers, ours, place])
