"""The pages of docs/make_pages.py are those that the code makes now; every column says what it holds."""

from __future__ import annotations

from importlib import import_module

import pyarrow as pa
import pytest

from docs.make_pages import PAGES, SOURCES, TABLES, TARGETS, configuration_page
from tests.helpers import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_makes(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert PAGES[name]() == written, f"docs/{name} is old: run `python docs/make_pages.py`"


def test_every_table_is_on_the_page() -> None:
    modules = {path.stem for path in (ROOT / "schemas").glob("*.py")}
    assert set(TABLES) == {name for name in modules if hasattr(import_module(f"schemas.{name}"), "SCHEMA")}


def undescribed(entries: list[pa.Field]) -> list[str]:
    """Columns without a description; COCO's RLE and lists of numbers in a struct go with what holds them."""
    found = []
    for entry in entries:
        kind = entry.type
        while pa.types.is_list(kind):
            kind = kind.value_type
        found += [entry.name] if b"about" not in (entry.metadata or {}) else []
        inner = list(kind) if pa.types.is_struct(kind) else []
        found += undescribed([each for each in inner if each.metadata])
    return found


@pytest.mark.parametrize("table", TABLES)
def test_every_column_says_what_it_holds(table: str) -> None:
    assert undescribed(list(import_module(f"schemas.{table}").SCHEMA)) == []


def test_a_setting_without_a_source_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: text for name, text in SOURCES["AutoPrompts"].items() if name != "likeness"}
    monkeypatch.setitem(SOURCES, "AutoPrompts", kept)
    with pytest.raises(KeyError, match="likeness"):
        configuration_page()


def test_no_source_is_told_of_a_setting_that_is_gone() -> None:
    from aopsam._options import options_of

    assert set(SOURCES) == {target.__name__ for target in TARGETS}
    assert all(set(SOURCES[target.__name__]) <= set(options_of(target)) for target in TARGETS)
