from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import check_floors


def test_a_figure_below_its_floor_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    floors = [{"file": "a.json", "figure": ["x", "y"], "least": 2.0}, {"file": "a.json", "figure": ["z"], "most": 3}]
    (tmp_path / "floors.json").write_text(json.dumps({"speed": floors}))
    monkeypatch.setattr(check_floors, "FLOORS", tmp_path / "floors.json")
    for record, status in (
        ({"x": {"y": 2.5}, "z": 3}, 0),
        ({"x": {"y": 1.9}, "z": 3}, 1),
        ({"x": {"y": 2.5}, "z": 4}, 1),
    ):
        (tmp_path / "a.json").write_text(json.dumps(record))
        assert check_floors.main(["--bench", str(tmp_path)]) == status
    (tmp_path / "a.json").write_text(json.dumps({"x": {"y": None}}))
    assert check_floors.main(["--bench", str(tmp_path)]) == 2
