"""The strategies: what they propose, in which order, and what comes back to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_all_layer_point_grids

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.prompting import Decoded, make_strategy
from aopsam.prompting.aop import SURE, AutoPrompts
from aopsam.prompting.fates import Fates
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts
from aopsam.sam.things import Things


@pytest.fixture(scope="module")
def photo(tiny: Sam, scene: np.ndarray) -> EncodedPhoto:
    return encode(tiny, scene)


def _all_points(name: str, photo: EncodedPhoto, **options: object) -> np.ndarray:
    options = {"things": 0} | options if name == "aop" else options
    (prompts,) = make_strategy(name, photo.model, **options).rounds(photo, Fates())
    return prompts.coords_px[:, 0]


def test_grid_is_sams_grid(photo: EncodedPhoto) -> None:
    expected = build_all_layer_point_grids(8, 0, 1)[0] * [320, 240]
    assert _all_points("grid-8", photo) == pytest.approx(expected)


def test_random_is_seeded_differs_between_photos_and_stays_inside(photo: EncodedPhoto, tiny: Sam) -> None:
    points = _all_points("random-50", photo)
    assert (points >= 0).all()
    assert (points < [320, 240]).all()
    assert (points == _all_points("random-50", photo)).all()
    assert (points != _all_points("random-50", photo, seed=1)).any()
    other = encode(tiny, np.ascontiguousarray(photo.rgb[:, ::-1]))
    assert (points != _all_points("random-50", other)).any()


def _run(strategy: AutoPrompts, photo: EncodedPhoto, iou: float) -> tuple[list[int], Counter[str]]:
    """Drive a strategy by hand: every prompt yields one mask of its own surroundings, of this predicted IoU."""
    fates, sizes = Fates(), []
    rounds = strategy.rounds(photo, fates)
    prompts = next(rounds)
    while True:
        sizes.append(len(prompts))
        logits = torch.full((len(prompts), 128, 128), -1.0)
        for row, (x, y) in enumerate(prompts.coords_px[:, 0] * (128 / 320)):
            logits[row, max(0, int(y) - 3) : int(y) + 4, max(0, int(x) - 3) : int(x) + 4] = 1.0
        decoded = Decoded(prompts, torch.full((len(prompts), 1), iou), logits)
        try:
            prompts = rounds.send(decoded)
        except StopIteration:
            return sizes, fates.dropped


def _peaks(photo: EncodedPhoto) -> int:
    """All that the samplings below come up with."""
    return len(_all_points("aop", photo, adaptive_filtering=False, threshold=0.0, spacing=1))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [("covered", "lies in kept masks and resembles them"), ("scaled", "resembles a kept mask")],
)
def test_aop_rounds_account_for_every_prompt(photo: EncodedPhoto, rule: str, reason: str) -> None:
    options = {"round_size": 4, "threshold": 0.0, "spacing": 1, "times": 1, "elimination": rule}
    sizes, dropped = _run(make_strategy("aop", photo.model, things=0, **options), photo, iou=0.3)
    assert len(sizes) > 1
    assert max(sizes) <= 4
    assert sum(sizes) + dropped.total() == _peaks(photo)
    assert dropped[reason] > 0


def test_a_lower_bar_drops_more(photo: EncodedPhoto) -> None:
    def decoded(**options: object) -> int:
        options = {"elimination": "covered", "threshold": 0.0, "spacing": 1, "round_size": 4} | options
        return sum(_run(make_strategy("aop", photo.model, things=0, **options), photo, 0.8)[0])

    assert decoded(elimination="equation") <= decoded(elimination="scaled")
    assert decoded(likeness=-1.0, times=1) < decoded(likeness=1.1, times=1)
    assert decoded(likeness=-1.0, times=1) <= decoded(likeness=-1.0, times=3)


def test_aop_without_filtering_is_one_round_by_falling_confidence(photo: EncodedPhoto) -> None:
    strategy = make_strategy("aop", photo.model, things=0, adaptive_filtering=False, threshold=0.0, spacing=2)
    (prompts,) = strategy.rounds(photo, Fates())
    assert (np.diff(prompts.confidence) <= 0).all()
    assert len(prompts) > 5


def test_aop_caps_its_prompts(photo: EncodedPhoto) -> None:
    strategy = make_strategy(
        "aop", photo.model, things=0, adaptive_filtering=False, threshold=0.0, spacing=1, max_prompts=5
    )
    (prompts,) = strategy.rounds(photo, Fates())
    assert len(prompts) == 5


def test_aop_chooses_confident_places_in_one_round_and_within_a_budget(photo: EncodedPhoto) -> None:
    def chosen(**options: object) -> Prompts:
        (prompts,) = make_strategy("aop", photo.model, things=0, elimination="diverse", **options).rounds(
            photo, Fates()
        )
        return prompts

    free, ten, many = chosen(), chosen(max_decoded=10), chosen(max_decoded=300)
    assert len(free) > 10
    assert (len(ten), len(many)) == (10, 300)
    assert (free.coords_px == many.coords_px[: len(free)]).all()
    assert (ten.coords_px == free.coords_px[:10]).all()
    assert len(np.unique(many.coords_px[:, 0], axis=0)) == 300
    assert len(chosen(least_value=2.0)) < len(free) < len(chosen(least_value=0.3))
    assert len(chosen(max_decoded=300, max_prompts=5)) == 5


@pytest.mark.parametrize(
    "options", [{"adaptive_filtering": False}, {"elimination": "covered"}, {"elimination": "scaled", "k": 50.0}]
)
def test_aop_keeps_its_budget_under_every_rule(photo: EncodedPhoto, options: dict[str, object]) -> None:
    budget = {"max_decoded": 6, "threshold": 0.0, "spacing": 1, "round_size": 4}
    sizes, dropped = _run(make_strategy("aop", photo.model, things=0, **options, **budget), photo, iou=0.3)
    assert sum(sizes) == 6
    assert dropped["beyond max_decoded"] > 0
    assert sum(sizes) + dropped.total() == _peaks(photo)


@pytest.mark.parametrize("rule", ["covered", "scaled", "diverse"])
def test_aop_asks_for_the_surest_things_first(photo: EncodedPhoto, rule: str) -> None:
    assert photo.things is not None
    options = {"elimination": rule, "things": 3, "max_decoded": 8, "threshold": 0.0, "spacing": 1, "round_size": 4}
    strategy = make_strategy("aop", photo.model, **options)
    rounds = strategy.rounds(photo, Fates())
    asked = [next(rounds)]
    assert asked[0].are_boxes
    assert asked[0].places_px == pytest.approx(photo.things.boxes_px[:3].numpy())
    assert asked[0].confidence == pytest.approx(photo.things.scores[:3].numpy())
    decoded = Decoded(asked[0], torch.full((3, 1), 0.5), torch.full((1, 96, 128), -1.0))
    for prompts in iter(lambda: _next(rounds, decoded), None):
        assert not prompts.are_boxes
        asked.append(prompts)
    assert sum(map(len, asked)) == 8
    assert {"predictor", "thing_head"} <= set(strategy.weights())
    strategy = make_strategy("aop", photo.model, **options | {"max_decoded": 2})
    (only,) = (prompts for prompts in strategy.rounds(photo, Fates()) if len(prompts))
    assert only.are_boxes
    assert len(only) == 2


@pytest.mark.filterwarnings("error")
def test_aop_has_nothing_to_choose_where_no_place_is_confident(photo: EncodedPhoto) -> None:
    options = {"elimination": "diverse", "adaptive_sampling": False, "things": 0, "threshold": 1.0}
    assert [len(prompts) for prompts in make_strategy("aop", photo.model, **options).rounds(photo, Fates())] == [0]


def test_aop_decodes_no_thing_that_is_hardly_one(photo: EncodedPhoto) -> None:
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0], [80.0, 20.0, 120.0, 90.0], [5.0, 5.0, 50.0, 90.0]])
    made = replace(photo)
    made.__dict__["things"] = Things(boxes, torch.tensor([0.6, SURE, SURE - 0.01]))
    first = next(make_strategy("aop", photo.model, things=30).rounds(made, Fates()))
    assert first.places_px == pytest.approx(boxes[:2].numpy())


def _next(rounds: Generator[Prompts, Decoded, None], decoded: Decoded) -> Prompts | None:
    try:
        return rounds.send(decoded)
    except StopIteration:
        return None


def test_the_bundled_tiny_finds_things_for_another_sam(small_sam: Sam, tiny: Sam, scene: np.ndarray) -> None:
    first = next(make_strategy("aop", small_sam, things=3).rounds(encode(small_sam, scene), Fates()))
    own = encode(tiny, scene).things
    assert own is not None
    assert first.places_px == pytest.approx(own.boxes_px[:3].numpy(), rel=1e-3, abs=0.1)


def test_aop_chooses_among_components_where_nothing_is_sampled(photo: EncodedPhoto) -> None:
    options = {"things": 0, "adaptive_sampling": False, "threshold": 0.05, "max_decoded": 100}
    (chosen,) = make_strategy("aop", photo.model, **options, elimination="diverse").rounds(photo, Fates())
    (all_of_them,) = make_strategy("aop", photo.model, **options, adaptive_filtering=False).rounds(photo, Fates())
    assert 0 < len(chosen) < 100
    assert sorted(chosen.coords_px[:, 0].tolist()) == sorted(all_of_them.coords_px[:, 0].tolist())


def test_aop_chooses_among_peaks_and_centres_of_boxes(photo: EncodedPhoto) -> None:
    strategy = make_strategy("aop", photo.model, things=0, elimination="diverse", max_decoded=500)
    (chosen,) = strategy.rounds(photo, Fates())
    peaks = _all_points("aop", photo, adaptive_filtering=False, threshold=0.0)
    centers = _all_points("oas-center", photo)
    from_map = {tuple(point) for point in peaks.round(2).tolist()}
    others = np.array([point for point in chosen.coords_px[:, 0] if tuple(point.round(2).tolist()) not in from_map])
    assert len(others) > 100
    assert (np.abs(others[:, None] - centers).max(axis=2).min(axis=1) < 0.01).all()
    assert len(chosen) - len(others) > 5
    assert set(strategy.weights()) == {"predictor", "detector"}
    assert strategy.weights()["detector"] == make_strategy("oas-center", photo.model).weights()["detector"]
    assert set(make_strategy("aop", photo.model, things=0).weights()) == {"predictor"}


def test_a_photo_is_encoded_once_for_a_predictor_and_a_detector_of_another_sam(
    small_sam: Sam, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(sam: Sam, rgb: np.ndarray) -> EncodedPhoto:
        read.append(sam.name)
        return encode(sam, rgb)

    monkeypatch.setattr("aopsam.prompting.embedding_source.encode", noted)
    strategy = make_strategy("aop", small_sam, things=0, elimination="diverse", max_decoded=5)
    (chosen,) = strategy.rounds(encode(small_sam, scene), Fates())
    assert (read, len(chosen)) == (["tiny"], 5)


def test_a_budget_below_one_is_refused(photo: EncodedPhoto) -> None:
    with pytest.raises(ValueError, match="max_decoded=0; expected a whole number of at least 1"):
        make_strategy("aop", photo.model, things=0, max_decoded=0)
    with pytest.raises(ValueError, match="max_decoded=63 is below the 8² points"):
        make_strategy("hierarchical", photo.model, max_decoded=63)


def test_points_scale_to_original_pixels(photo: EncodedPhoto) -> None:
    strategy = make_strategy("aop", photo.model, things=0, adaptive_filtering=False, threshold=0.0, spacing=1)
    (prompts,) = strategy.rounds(photo, Fates())
    points = prompts.coords_px[:, 0]
    assert (points > 0).all()
    assert (points < [320, 240]).all()
    assert points[:, 0].max() > 200


def test_hierarchical_asks_again_only_where_nothing_is_settled(photo: EncodedPhoto) -> None:
    fates = Fates()
    rounds = make_strategy("hierarchical", photo.model, sparse=2, dense=8).rounds(photo, fates)
    first = next(rounds)
    assert first.coords_px[:, 0] == pytest.approx(build_all_layer_point_grids(2, 0, 1)[0] * [320, 240])
    logits = torch.full((2, 128, 128), -1.0)
    logits[0, :96, :64] = 9.0  # the left half: the photo fills 96 rows
    logits[1, :96, 64:] = 8.0  # the right half, not surely enough
    second = rounds.send(Decoded(first, torch.full((4, 3), 0.9), logits))
    whole = build_all_layer_point_grids(8, 0, 1)[0] * [320, 240]
    assert second.coords_px[:, 0] == pytest.approx(whole[whole[:, 0] > 160])
    assert fates.dropped["inside a confident mask"] == 32
    with pytest.raises(StopIteration):
        rounds.send(Decoded(second, torch.zeros(32, 3), logits[:0]))


def test_hierarchical_spends_what_is_left_of_its_budget_evenly(photo: EncodedPhoto) -> None:
    fates = Fates()
    rounds = make_strategy("hierarchical", photo.model, sparse=2, dense=4, max_decoded=8).rounds(photo, fates)
    second = rounds.send(Decoded(next(rounds), torch.zeros(4, 3), torch.zeros(0, 128, 128)))
    whole = build_all_layer_point_grids(4, 0, 1)[0] * [320, 240]
    assert second.coords_px[:, 0] == pytest.approx(whole[::4])
    assert fates.dropped["beyond max_decoded"] == 12
    rounds = make_strategy("hierarchical", photo.model, sparse=2, dense=4, max_decoded=4).rounds(photo, Fates())
    first = next(rounds)
    with pytest.raises(StopIteration):
        rounds.send(Decoded(first, torch.zeros(4, 3), torch.zeros(0, 128, 128)))


def test_hierarchical_without_a_mask_asks_everywhere(photo: EncodedPhoto) -> None:
    rounds = make_strategy("hierarchical", photo.model, sparse=2, dense=4).rounds(photo, Fates())
    assert len(rounds.send(Decoded(next(rounds), torch.zeros(4, 3), torch.zeros(0, 128, 128)))) == 16


def test_the_bundled_tiny_proposes_for_a_sam_without_a_predictor(small_sam: Sam, tiny: Sam, scene: np.ndarray) -> None:
    assert make_strategy("aop", tiny, things=0).proposer.source.sam is None
    proposer = make_strategy("aop", small_sam, things=0).proposer
    assert proposer.source.sam.name == "tiny"
    own = make_strategy("aop", tiny, things=0).proposer.confidence(encode(tiny, scene))
    np.testing.assert_allclose(proposer.confidence(encode(small_sam, scene)), own, rtol=1e-4)
    assert AutoMaskGenerator(small_sam, prompts="aop").label(scene).prompts_decoded > 0
