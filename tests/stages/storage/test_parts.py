"""Parts of a run: their names, and what is read back of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from stages.storage.parts import Part, is_complete, list_parts, read_parts, write_part


def test_names_tell_what_is_in_a_part() -> None:
    part = Part.of("s3://bucket/x.tar", 12, ["a", "b"], True)
    assert Part.parse(part.name) == part
    assert part.name.endswith("-last.parquet")
    assert (part.number, part.items) == (12, 2)
    assert Part.of("s3://bucket/x.tar", 12, ["a", "c"], True).digest != part.digest
    assert Part.of("s3://bucket/x.tar", 12, ["ab"], True).digest != Part.of("y", 12, ["a", "b"], True).digest
    assert Part.parse(f"mine-{part.name}") is None


def test_rows_and_notes_come_back_and_strangers_stay(tmp_path: Path) -> None:
    parts = [Part.of("s", number, [f"{number}"], number == 1) for number in (0, 1)]
    for part in reversed(parts):
        write_part(str(tmp_path), part.name, pa.table({"x": [part.number], "y": [0]}), {"n": part.number})
    (tmp_path / "other.parquet").write_bytes(b"mine")
    (tmp_path / f".{parts[0].name}.{'0' * 32}.part").write_bytes(b"half")
    (tmp_path / ".mine.part").write_bytes(b"mine")
    assert list_parts(str(tmp_path)) == parts
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [".mine.part", "other.parquet", *(part.name for part in parts)]
    )
    read = read_parts(str(tmp_path), parts, ["x"])
    assert [(rows.to_pydict(), notes) for rows, notes in read] == [({"x": [0]}, {"n": 0}), ({"x": [1]}, {"n": 1})]
    assert list_parts(str(tmp_path / "none")) == []


def test_what_is_no_part_is_named(tmp_path: Path) -> None:
    part = Part.of("s", 0, ["a"], False)
    (tmp_path / part.name).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=rf"{part.name}: not a part of a run; remove it"):
        read_parts(str(tmp_path), [part])


def test_a_source_is_complete_with_all_parts_to_the_last() -> None:
    parts = [Part.of("s", number, ["a"], number == 2) for number in range(3)]
    assert is_complete(parts)
    assert not is_complete(parts[:2])
    assert not is_complete(parts[1:])
    assert not is_complete([])
