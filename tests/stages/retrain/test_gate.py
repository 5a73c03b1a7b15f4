from __future__ import annotations

from typing import Any

import pytest

from stages.retrain.gate import Gate, judge


def entry(prompts: str, change: tuple[float, float] | None, decoded: float, data: str = "a") -> dict[str, Any]:
    return {
        "data": data,
        "prompts": prompts,
        "photos": 20,
        "prompts_decoded": decoded,
        "miou": {
            "over_masks": {"mean": 0.4, "low": 0.3, "high": 0.5},
            "difference": change and {"mean": change[0], "low": change[1], "high": 1.0},
        },
    }


@pytest.mark.parametrize(
    ("change", "decoded", "passed", "words"),
    [
        ((0.01, -0.019), 50.0, True, "mIoU +1.0 points, at least -1.9, with 50.0 prompts for 50.0, on 20 photos of a"),
        ((0.01, -0.021), 50.0, False, "more than 2 points lower cannot be ruled out"),
        ((0.1, 0.05), 52.4, True, "with 52.4 prompts for 50.0"),
        ((0.1, 0.05), 52.6, False, "more than 5 % more prompts"),
    ],
)
def test_not_lower_by_the_end_of_the_interval_and_no_more_prompts(
    change: tuple[float, float], decoded: float, passed: bool, words: str
) -> None:
    verdict = judge([entry("old", None, 50.0), entry("new", change, decoded)], "old", "new", Gate())
    assert verdict.passed is passed
    assert words in verdict.reason


def test_every_set_of_photos_must_pass() -> None:
    good = [entry("old", None, 50.0), entry("new", (0.0, 0.0), 50.0)]
    bad = [entry("old", None, 50.0, "b"), entry("new", (-0.1, -0.2), 50.0, "b")]
    verdict = judge([*good, *bad], "old", "new", Gate())
    assert not verdict.passed
    assert "photos of b" in verdict.reason
    assert "photos of a" not in verdict.reason
    assert judge([*good, *bad], "old", "new", Gate(tolerance=20)).passed


def test_without_an_old_one_or_without_photos() -> None:
    first = judge([entry("new", None, 50.0)], None, "new", Gate())
    assert first.passed
    assert "there was none to compare with" in first.reason
    assert not judge([], "old", "new", Gate()).passed
    unmeasured = entry("new", None, 50.0)
    unmeasured["miou"]["over_masks"] = None
    assert not judge([unmeasured], None, "new", Gate()).passed
