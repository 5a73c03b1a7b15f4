"""A cluster of three nodes on this machine, in a process of its own: Ray can be started once in one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_that_is_lost_with_its_actors_and_units_loses_no_item(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/cluster.py", "--what", "lost-node", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {
        row["name"]: row["figure"] for row in json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    }
    assert 0 < figures.pop("items done when the node was lost") < 160
    assert figures == {"items lost": 0, "items doubled": 0, "items given up": 0, "items in files, once each": 160}
    assert "raylet" not in done.stdout + done.stderr  # what Ray mends is not for the user's terminal
