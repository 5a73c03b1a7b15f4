from __future__ import annotations

import pytest

from aopsam.photos.json_text import parse_json


def test_a_key_of_two_values_is_refused() -> None:
    assert parse_json(b'{"a": [1, {"b": null}], "c": 1.5, "a": [1, {"b": null}]}') == {"a": [1, {"b": None}], "c": 1.5}
    with pytest.raises(ValueError, match="the key 'annotations' twice"):
        parse_json('[{"annotations": [1], "annotations": []}]')
