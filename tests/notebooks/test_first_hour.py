"""The notebook runs top to bottom: its code cells, one after the other, in its folder and one namespace."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT

FOLDER = ROOT / "notebooks"
CELLS = json.loads((FOLDER / "first_hour.ipynb").read_text(encoding="utf-8"))["cells"]


def test_it_runs_top_to_bottom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(FOLDER)
    names: dict[str, Any] = {}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{len(names['records'])} masks; of the first: {{'area': ")
    (counts,) = (list(map(int, re.findall(r"(?<!-)\b\d+", line))) for line in said if line.startswith("aop: "))
    proposed, decoded, masks = counts
    assert proposed > decoded > 0
    assert masks == len(names["records"]) > 10
    by_round = " ".join(line for line in said if line.startswith("round "))
    assert sum(map(int, re.findall(r"'decoded': (\d+)", by_round))) == decoded
    assert "no pixel in two: True" in said[-1]
    assert isinstance(Image.fromarray(names["cut"]), Image.Image)
    assert np.count_nonzero(names["cut"][:, :, 3]) == names["largest"]["area"]


def test_no_output_is_kept() -> None:
    assert [cell["id"] for cell in CELLS if cell.get("outputs") or cell.get("execution_count")] == []


def test_what_it_links_to_is_there() -> None:
    links = [link for cell in CELLS for link in re.findall(r"\]\(([^)]+)\)", "".join(cell["source"]))]
    assert len(links) > 3
    assert [link for link in links if not (FOLDER / link).is_file()] == []
