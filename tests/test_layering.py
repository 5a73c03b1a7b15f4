"""Imports point one way: pipelines → stages → {schemas, aopsam}; and downwards inside aopsam."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers import ROOT

ROOMS = ("pipelines", "stages", "schemas", "aopsam", "benchmarks", "jobs", "tests")

ALLOWED = {
    "pipelines": {"stages", "schemas", "aopsam"},
    "stages": {"schemas", "aopsam"},
    "schemas": set(),
    "aopsam": set(),
}
INSIDE = {
    "masks": set(),
    "metrics": {"masks"},
    "photos": {"masks"},
    "report": {"masks"},
    "sam": {"masks"},
    "predictor": {"sam", "masks"},
    "curation": {"predictor", "sam", "masks"},
    "detector": {"predictor", "sam", "masks"},
    "prompting": {"detector", "predictor", "sam", "masks"},
    "training": {"prompting", "detector", "predictor", "sam", "masks", "photos", "metrics"},
    "weights": set(),
}
"""Rooms of the library that a room may import, besides itself; files beside the rooms may import all."""
FORBIDDEN_IN_LIBRARY = {"ray", "pyarrow", "fsspec", "jsonschema"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_downwards(room: str) -> None:
    files = _files(room)
    assert files
    for path in files:
        others = {name.split(".")[0] for name in _imports(path)} & set(ROOMS) - {room}
        assert others <= ALLOWED[room], f"{path.relative_to(ROOT)} imports {sorted(others - ALLOWED[room])}"


@pytest.mark.parametrize("room", INSIDE)
def test_the_library_imports_downwards(room: str) -> None:
    for path in _files(f"aopsam/{room}"):
        parts = [name.split(".") for name in _imports(path) if name.startswith("aopsam.")]
        others = {part[1] for part in parts if part[1] in INSIDE} - {room}
        assert others <= INSIDE[room], f"{path.relative_to(ROOT)} imports {sorted(others - INSIDE[room])}"


def test_the_library_runs_without_ray_and_arrow() -> None:
    for path in _files("aopsam"):
        used = {name.split(".")[0] for name in _imports(path)} & FORBIDDEN_IN_LIBRARY
        assert not used, f"{path.relative_to(ROOT)} imports {sorted(used)}"


def test_only_one_file_talks_to_the_scheduler_for_labelling() -> None:
    users = [p.name for p in _files("stages") if any(n.split(".")[0] == "ray" for n in _imports(p))]
    assert "runner.py" in users
    assert "label.py" not in users


def test_only_one_file_downloads() -> None:
    users = [p for p in _files("aopsam") if any(n.split(".")[0] in {"urllib", "requests", "http"} for n in _imports(p))]
    assert [p.name for p in users] == ["checkpoints.py"]


def test_pipelines_are_short_and_open_with_their_command() -> None:
    for path in _files("pipelines"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 100, path.name
        assert f"python pipelines/{path.name}" in (ast.get_docstring(ast.parse(text)) or ""), path.name
