"""Traces: the fate of each prompt, against what went through the loop, for strategies of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from segment_anything.modeling import Sam

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.prompting import Decoded, Strategy
from aopsam.prompting.fates import Fates, Trace
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts


class Watched(Strategy):
    """Another strategy, whose rounds are noted as they pass: prompts in pixels of the part, and drops so far."""

    def __init__(self, watched: Strategy) -> None:
        self.watched = watched
        self.parts: list[tuple[list[list[list[float]]], list[int]]] = []

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        sent, gone = [], []
        self.parts.append((sent, gone))
        rounds, answer = self.watched.rounds(photo, fates), None
        while True:
            try:
                prompts = next(rounds) if answer is None else rounds.send(answer)
            except StopIteration:
                gone.append(fates.dropped.total())
                return
            gone.append(fates.dropped.total())
            sent.append([place[: 1 + prompts.are_boxes].reshape(-1).tolist() for place in prompts.coords_px])
            answer = yield prompts


def place(prompt: dict[str, Any]) -> list[float]:
    """Its point or box; exactly one of both is told."""
    (told,) = (prompt[name] for name in ("point_coords", "box") if prompt[name] is not None)
    return told


@pytest.mark.parametrize(
    ("prompts", "options", "reasons", "maps"),
    [
        ("grid-3", {}, set(), 0),
        ("aop", {"elimination": "covered", "round_size": 4, "times": 1}, {"lies in kept masks and resembles them"}, 1),
        ("aop", {"elimination": "relative", "round_size": 4, "things": 0}, {"resembles a kept mask"}, 1),
        ("aop", {"adaptive_filtering": False, "max_decoded": 5, "things": 2}, {"beyond max_decoded"}, 1),
        (
            "hierarchical",
            {"sparse": 2, "dense": 5, "max_decoded": 10, "settled_logit": 0.5},
            {"inside a confident mask", "beyond max_decoded"},
            0,
        ),
        ("attention", {"max_prompts": 3}, {"more than max_prompts"}, 0),
        ("oas-box", {"max_boxes": 4}, set(), 0),
    ],
)
def test_a_trace_tells_what_went_through_the_loop(
    tiny: Sam, scene: np.ndarray, prompts: str, options: dict[str, Any], reasons: set[str], maps: int
) -> None:
    generator = AutoMaskGenerator(tiny, prompts=prompts, strategy_options=options, output_mode="coco_rle")
    encoded = encode(tiny, scene)
    plain = generator.label(scene, encoded)
    generator.strategies = [watched := Watched(generator.strategies[0])]
    found = generator.label(scene, encoded, trace=True)
    assert plain.trace is None
    assert found.records == plain.records
    trace = found.trace
    assert trace is not None
    assert len(trace.prompts) == found.prompts_proposed == plain.prompts_proposed
    assert Counter(one["dropped"] for one in trace.prompts if one["dropped"]) == found.dropped == plain.dropped
    assert set(found.dropped) >= reasons
    ((sent, gone),) = watched.parts
    decoded = [
        [place(p) for p in trace.prompts if p["dropped"] is None and p["round"] == n + 1] for n in range(len(sent))
    ]
    assert decoded == sent
    assert sum(map(len, decoded)) == found.prompts_decoded
    dropped_by = [sum(p["dropped"] is not None and p["round"] <= n for p in trace.prompts) for n in range(len(gone))]
    assert dropped_by == gone
    places = [tuple(place(prompt)) for prompt in trace.prompts]
    assert len(set(places)) == len(places)
    assert len(trace.maps) == maps
    for shown in trace.maps:
        assert shown.crop_box == [0, 0, 320, 240]
        assert 0 <= shown.confidence.min() < shown.confidence.max() <= 1
    assert {tuple(p.get("box") or p["point_coords"][0]) for p in found.records} <= set(places)


def test_parts_are_traced_in_pixels_of_the_photo_and_rounds_counted_on(tiny: Sam, scene: np.ndarray) -> None:
    options = {"round_size": 64, "things": 0}
    generator = AutoMaskGenerator(tiny, prompts="aop", crop_n_layers=1, strategy_options=options)
    strategy = Watched(generator.strategies[0])
    generator.strategies = [strategy] * 2
    trace = generator.label(scene, trace=True).trace
    assert trace is not None
    assert trace.maps[0].crop_box == [0, 0, 320, 240]
    assert len(trace.maps) == 5
    rounds = 0
    for shown, (sent, _) in zip(trace.maps, strategy.parts, strict=True):
        for prompts in sent:
            rounds += bool(prompts)
            expected = (np.array(prompts, np.float32) + np.array(shown.crop_box[:2], np.float32)).tolist()
            assert [place(p) for p in trace.prompts if p["round"] == rounds and p["dropped"] is None] == expected
    assert rounds == max(prompt["round"] for prompt in trace.prompts) >= 5


def test_photos_labelled_together_have_traces_of_their_own(tiny: Sam, scene: np.ndarray) -> None:
    generator = AutoMaskGenerator(tiny, prompts="aop", strategy_options={"round_size": 4, "times": 1})
    photos = [scene, scene[::-1].copy(), scene[:, ::-1].copy()]
    found = generator.label_together(photos, traced=[True, False, True])
    assert found[1].trace is None
    for photo, labelled in zip(photos[::2], found[::2], strict=True):
        alone = generator.label(photo, trace=True).trace
        assert [{**p, "confidence": 0} for p in labelled.trace.prompts] == [
            {**p, "confidence": 0} for p in alone.prompts
        ]
    with pytest.raises(ValueError, match="shorter"):
        generator.label_together(photos, traced=[True])


def test_fates_by_hand() -> None:
    fates = Fates(trace := Trace())
    points = Prompts.from_points(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0.5, 0.25, 0.75]))
    fates.enter((10, 20, 110, 70))
    fates.show(np.zeros((2, 3), np.float32))
    fates.drop(points[:2], "early")
    fates.drop(points[:0], "nothing")
    fates.send(points[:0])
    fates.send(points[2:])
    fates.enter((0, 0, 50, 50))
    fates.send(Prompts.from_boxes(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([0.125])))
    assert trace.prompts == [
        {"point_coords": [11, 22], "box": None, "confidence": 0.5, "round": 0, "dropped": "early"},
        {"point_coords": [13, 24], "box": None, "confidence": 0.25, "round": 0, "dropped": "early"},
        {"point_coords": [15, 26], "box": None, "confidence": 0.75, "round": 1, "dropped": None},
        {"point_coords": None, "box": [1, 2, 3, 4], "confidence": 0.125, "round": 2, "dropped": None},
    ]
    assert [shown.crop_box for shown in trace.maps] == [[10, 20, 100, 50]]
    assert (fates.decoded, fates.dropped) == (2, {"early": 2})
