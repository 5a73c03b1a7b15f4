"""docs/tree.md and README's short tree name what there is: every pipeline, room and folder."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT

TREE = (ROOT / "docs" / "tree.md").read_text(encoding="utf-8")


def named(folder: str) -> set[str]:
    """What the tree has below a folder, `config/` as `config`."""
    below = re.search(rf"^{folder}/ .*\n((?:  .*\n)*)", TREE, re.MULTILINE)
    assert below is not None
    return {name.rstrip("/") for name in re.findall(r"^  (\w[\w.]*/?) ", below.group(1), re.MULTILINE)}


def rooms(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/__init__.py")}


def test_every_pipeline_and_room_is_named() -> None:
    assert named("pipelines") == {path.name for path in (ROOT / "pipelines").glob("*.py")}
    assert named("stages") == rooms(ROOT / "stages")
    assert named("aopsam") == rooms(ROOT / "aopsam")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
@pytest.mark.parametrize("page", ["README.md", "docs/tree.md"])
def test_every_folder_is_named(page: str) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {name.partition("/")[0] for name in listed.splitlines() if "/" in name}
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"^(\w+)/ ", text, re.MULTILINE)) == {name for name in folders if not name.startswith(".")}


def test_readmes_rooms_are_all() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    for folder in ("stages", "aopsam"):
        line = text.partition(f" {folder}/ ")[2].partition("/ ")[0]
        assert {room for room in rooms(ROOT / folder) if not re.search(rf"\b{room}\b", line)} == set()
