"""Parse JSON that others wrote, without losing the first of two values of one key, as Python's parser does."""

from __future__ import annotations

import json
from typing import Any

from aopsam.photos.lines import shown


def parse_json(text: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON, or an object has two values for one key.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if value != made[key]:
                raise ValueError(f"an object has the key {shown(key)} twice, with different values")
    return made
