"""Make a column of an Arrow schema from name, type, description and unit."""

from __future__ import annotations

import pyarrow as pa


def column(name: str, kind: pa.DataType, about: str = "", *, unit: str = "", nullable: bool = True) -> pa.Field:
    """Make an Arrow field whose metadata has a description and a unit (`px`, `px²`, `s`, `B`)."""
    notes = {"about": about, "unit": unit}
    return pa.field(name, kind, nullable=nullable, metadata={key: text for key, text in notes.items() if text})
