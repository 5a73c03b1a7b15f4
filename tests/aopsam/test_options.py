"""Options: names, types and limits, and every number of everything mode and of the strategies at odd values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from segment_anything.modeling import Sam

from aopsam._options import Count, Limits, OneOf, Share, check, coerce, is_file, options_of, unknown
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.options import GeneratorOptions
from aopsam.prompting import STRATEGIES, make_strategy

ODD = (0, -1, math.nan, math.inf, 10**9, 2**70, 64.5, "text", "0.25", True, None)
REGISTRY = {"one": 1, "two": 2}


@dataclass(frozen=True, kw_only=True)
class Example:
    count: Count = 1
    share: Share | None = None
    above: Annotated[float, Limits(0, 0.5, open=True)] = 0.25
    name: Annotated[str, OneOf(REGISTRY)] = "one"
    mode: Literal["a", "b"] | None = None
    flag: bool = True
    file: Path | None = None

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 0}, "here: count=0; expected a whole number of at least 1"),
        ({"count": 1.5}, "count=1.5; expected a whole number of at least 1"),
        ({"count": True}, "count=True; expected a whole number"),
        ({"share": math.nan}, "share=nan; expected a number from 0 to 1 or None"),
        ({"share": "half"}, "share='half'; expected a number from 0 to 1 or None"),
        ({"above": 0}, "above=0; expected a number above 0 to 0.5"),
        ({"name": "three"}, "name='three'; choose from one, two"),
        ({"mode": "c"}, "mode='c'; choose from None, a, b"),
        ({"flag": 1}, "flag=1; expected true or false"),
        ({"file": 3}, "file=3; expected a file or None"),
        ({"shere": 0.5}, "here: unknown option 'shere'; did you mean share? choose from count, share"),
    ],
)
def test_what_does_not_fit_is_one_line_that_says_what_would(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="here: ") as caught:
        coerce(Example, values, "here")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    options = GeneratorOptions(points_per_batch=np.int64(8), pred_iou_thresh=np.float32(0.5), tile_whole=np.True_)
    found = options.points_per_batch, options.pred_iou_thresh, options.tile_whole
    assert found == (8, 0.5, True)
    assert [type(value) for value in found] == [int, float, bool]
    with pytest.raises(ValueError, match=r"points_per_batch=.*; expected a whole number"):
        GeneratorOptions(points_per_batch=np.array([8]))


def test_what_fits_is_taken() -> None:
    made = coerce(Example, {"count": 7, "share": 1, "above": "5e-1", "file": "x", "mode": "b"})
    assert made == Example(count=7, share=1, above=0.5, file=Path("x"), mode="b")
    REGISTRY["three"] = 3
    assert coerce(Example, {"name": "three"}).name == "three"
    del REGISTRY["three"]


@pytest.mark.parametrize("value", [True, 1.0, 2, "3"])
def test_a_number_of_a_few_is_that_number(value: Any) -> None:
    assert GeneratorOptions(masks_per_prompt=1).masks_per_prompt == 1
    with pytest.raises(ValueError, match=f"masks_per_prompt={value!r}; choose from None, 1, 3"):
        GeneratorOptions(masks_per_prompt=value)


def test_a_dataclass_checks_itself() -> None:
    with pytest.raises(ValueError, match="count=-1"):
        Example(count=-1)


def test_options_of_a_class_are_its_keyword_only_parameters() -> None:
    class Strategy:
        def __init__(self, model: int, *, detector: str | Path | None = None, most: int = 3) -> None: ...

    found = options_of(Strategy)
    assert list(found) == ["detector", "most"]
    assert [is_file(hint) for hint in found.values()] == [True, False]


def test_nothing_near_is_not_guessed_at() -> None:
    assert unknown("x", ["threshold"]) == "'x'; choose from threshold"
    assert unknown("x", []) == "'x'; there are none"


@pytest.mark.parametrize("name", [entry.name for entry in fields(GeneratorOptions)])
def test_an_odd_value_of_everything_mode_is_refused_or_sound(small_sam: Sam, name: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8)
    for value in ODD:
        try:
            generator = AutoMaskGenerator(small_sam, points_per_side=1, **{name: value})
        except (ValueError, FileNotFoundError):  # an odd scorer is the name of a file
            continue
        for record in generator.generate(rgb):
            assert record["segmentation"].shape == (24, 40)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points_per_batch", 0),
        ("pred_iou_thresh", 88),
        ("stability_score_thresh", math.nan),
        ("crop_n_layers", -1),
        ("crop_overlap_ratio", 3),
        ("tile_size", 64.5),
        ("box_nms_thresh", "0.25"),
        ("min_mask_region_area", -1),
    ],
)
def test_a_number_out_of_its_range_is_refused(small_sam: Sam, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}=.*; expected a "):
        AutoMaskGenerator(small_sam, points_per_side=1, **{name: value})


@pytest.mark.parametrize("strategy", ["aop", "hierarchical", "random-2", "oas-box", "attention"])
def test_an_odd_value_of_a_strategy_is_refused_or_sound(tiny: Sam, strategy: str) -> None:
    for name in options_of(STRATEGIES[strategy.replace("-2", "-N")]):
        for value in ODD:
            try:
                make_strategy(strategy, tiny, **{name: value})
            except (ValueError, FileNotFoundError):
                continue


@pytest.mark.parametrize("side", [0, -1, 10**9, 2.5, "text"])
def test_a_grid_of_an_odd_size_is_refused(small_sam: Sam, side: Any) -> None:
    with pytest.raises(ValueError, match="points_per_side"):
        AutoMaskGenerator(small_sam, points_per_side=side)
