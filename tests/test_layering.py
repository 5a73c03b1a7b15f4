"""Imports point one way: pipelines → stages → {schemas, aopsam}; and downwards inside aopsam."""

from __future__ import annotations

import ast
import re
import tomllib
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
FLOORS = (
    {"storage"},
    {"registry"},
    {"config"},
    {"engine"},
    {"corpus"},
    {"label"},
    {"results"},
    {"annotations"},
    {"prompt_maps", "edge_maps", "curate", "evaluate"},
    {"calibrate", "train", "reproduce"},
    {"retrain"},
)
"""Rooms of `stages/` from the ground up; a room imports rooms below its floor."""
INSIDE = {
    "masks": set(),
    "metrics": {"masks"},
    "photos": {"masks"},
    "report": {"masks"},
    "sam": {"masks"},
    "predictor": {"sam", "masks"},
    "curation": {"predictor", "sam", "masks"},
    "detector": {"predictor", "sam", "masks"},
    "onnx": {"prompting", "predictor", "sam"},
    "scoring": {"sam"},
    "mask_head": {"sam"},
    "prompting": {"detector", "predictor", "sam", "masks"},
    "everything": {"prompting", "scoring", "mask_head", "predictor", "sam", "masks"},
    "training": {
        *("everything", "prompting", "scoring", "mask_head", "detector", "predictor", "sam", "masks"),
        *("photos", "metrics"),
    },
    "weights": set(),
}
"""Rooms of the library that a room may import, besides itself and private helpers."""
SCHEDULERS = {"stages/engine/resources.py", "stages/engine/steps.py", "stages/train/on_ray.py"}
"""The only files that use Ray."""
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


def _files(room: str, root: Path = ROOT) -> list[Path]:
    return sorted((root / room).rglob("*.py"))


def _scheduler_users(root: Path) -> set[str]:
    """Files that import Ray, or import something by its name."""
    files = [path for room in ("aopsam", "schemas", "stages", "pipelines") for path in _files(room, root)]
    return {
        path.relative_to(root).as_posix()
        for path in files
        if any(name.split(".")[0] == "ray" for name in _imports(path))
        or re.search(r"import_module\(.ray|__import__\(.ray", path.read_text(encoding="utf-8"))
    }


def _climbs(root: Path) -> list[str]:
    """Imports of `stages/` that run up a floor, or to another room of the same floor."""
    level = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = []
    for path in _files("stages", root):
        own = path.relative_to(root / "stages").parts[0].removesuffix(".py")
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] == "stages" and own != "__init__" and parts[1] != own and level.get(parts[1], -1) >= level[own]:
                found.append(f"{path.relative_to(root).as_posix()} imports {name}")
    return sorted(found)


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_downwards(room: str) -> None:
    files = _files(room)
    assert files
    for path in files:
        others = {name.split(".")[0] for name in _imports(path)} & set(ROOMS) - {room}
        assert others <= ALLOWED[room], f"{path.relative_to(ROOT)} imports {sorted(others - ALLOWED[room])}"


def test_every_room_of_the_stages_has_its_floor_and_imports_rooms_below_it() -> None:
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "stages").iterdir() if not path.name.startswith("__")}
    assert rooms == set().union(*FLOORS)
    assert _climbs(ROOT) == []


def test_an_import_that_runs_up_a_floor_is_found(tmp_path: Path) -> None:
    for room in ("storage", "label", "evaluate", "curate"):
        (tmp_path / "stages" / room).mkdir(parents=True)
    (tmp_path / "stages/storage/a.py").write_text("from stages.label.b import c\n")
    (tmp_path / "stages/label/b.py").write_text("from stages.storage import a\nimport stages.label.c\n")
    (tmp_path / "stages/evaluate/d.py").write_text("from stages.curate.e import f\n")
    assert _climbs(tmp_path) == [
        "stages/evaluate/d.py imports stages.curate.e.f",
        "stages/storage/a.py imports stages.label.b.c",
    ]


@pytest.mark.parametrize("room", INSIDE)
def test_the_library_imports_downwards(room: str) -> None:
    for path in _files(f"aopsam/{room}"):
        parts = [name.split(".") for name in _imports(path) if name.startswith("aopsam.")]
        others = {part[1] for part in parts if part[1] in INSIDE} - {room}
        assert others <= INSIDE[room], f"{path.relative_to(ROOT)} imports {sorted(others - INSIDE[room])}"


def test_the_library_has_rooms_and_private_helpers() -> None:
    loose = {path.name for path in (ROOT / "aopsam").glob("*.py")}
    assert all(name.startswith("_") for name in loose)
    assert {path.parent.name for path in (ROOT / "aopsam").glob("*/__init__.py")} == set(INSIDE)


def test_the_wheel_holds_every_package_of_the_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "aopsam").rglob("__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == packages


def test_the_library_runs_without_ray_and_arrow() -> None:
    for path in _files("aopsam"):
        used = {name.split(".")[0] for name in _imports(path)} & FORBIDDEN_IN_LIBRARY
        assert not used, f"{path.relative_to(ROOT)} imports {sorted(used)}"


def test_two_files_use_the_scheduler() -> None:
    assert _scheduler_users(ROOT) == SCHEDULERS


@pytest.mark.parametrize("text", ["import ray\n", "from ray.data import Dataset\n", "import_module('ray')\n"])
def test_a_third_file_that_uses_the_scheduler_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "stages/label").mkdir(parents=True)
    (tmp_path / "stages/label/other.py").write_text(text)
    assert _scheduler_users(tmp_path) == {"stages/label/other.py"}


def test_examples_stand_alone() -> None:
    for path in _files("examples"):
        assert not {name.split(".")[0] for name in _imports(path)} & {*ROOMS, "torch"}, path.name


def test_only_one_file_downloads() -> None:
    users = [p for p in _files("aopsam") if any(n.split(".")[0] in {"urllib", "requests", "http"} for n in _imports(p))]
    assert [p.name for p in users] == ["checkpoints.py"]


def test_pipelines_are_short_and_open_with_their_command() -> None:
    for path in _files("pipelines"):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        assert len(text.splitlines()) <= 100, path.name
        assert f"python pipelines/{path.name}" in (ast.get_docstring(tree) or ""), path.name
        (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
        assert (main.end_lineno or 0) - main.lineno < 25, path.name
