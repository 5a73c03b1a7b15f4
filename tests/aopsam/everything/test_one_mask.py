"""One mask a prompt against a slow plain selection from the three."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.everything import lock_step
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.prompting import Decoded, Strategy
from aopsam.prompting.fates import Fates
from aopsam.sam.decode import DecodedMasks, Round, best_of_each, decodable_together, decode_prompts, decode_together
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts

LOOSE = {"output_mode": "coco_rle", "duplicates": "none", "pred_iou_thresh": 0.3, "stability_score_thresh": 0.5}


@pytest.fixture(scope="module")
def photo(tiny: Sam, scene: np.ndarray) -> EncodedPhoto:
    return encode(tiny, scene)


def _plain_best(records: list[dict], key: str) -> list[tuple]:
    """Return the first record of the highest value of each point."""
    best: dict[tuple, dict] = {}
    for record in records:
        point = tuple(record["point_coords"][0])
        if point not in best or record[key] > best[point][key]:
            best[point] = record
    return sorted((point, record["segmentation"]["counts"]) for point, record in best.items())


@pytest.mark.parametrize("key", ["predicted_iou", "score"])
def test_it_is_the_best_of_the_three_by_what_masks_rank_by(photo: EncodedPhoto, key: str) -> None:
    """The stability score is let pass, since of each point one mask is chosen before it; before it is drawn once more,
    too."""
    options = LOOSE | {"rank_by": key, "stability_score_thresh": 0.0, "redraw": False}
    three, one = (
        AutoMaskGenerator(photo.model, prompts="grid-4", **options, masks_per_prompt=masks).label(photo.rgb, photo)
        for masks in (3, 1)
    )
    found = sorted((tuple(r["point_coords"][0]), r["segmentation"]["counts"]) for r in one.records)
    assert found == _plain_best(three.records, key)
    assert len(found) < len(three.records)
    assert max(Counter(point for point, _ in found).values()) == 1
    if key == "score":
        assert found != _plain_best(three.records, "predicted_iou")


def test_the_choice_comes_before_the_stability_score(photo: EncodedPhoto) -> None:
    """A prompt whose best mask is unstable has none, not its second."""
    options = LOOSE | {"rank_by": "predicted_iou"}
    every, stable = (
        AutoMaskGenerator(photo.model, prompts="grid-6", masks_per_prompt=1, **options | {"stability_score_thresh": s})
        for s in (0.0, 0.9)
    )
    before, after = (generator.label(photo.rgb, photo).records for generator in (every, stable))
    expected = [record["segmentation"]["counts"] for record in before if record["stability_score"] >= 0.9]
    assert [record["segmentation"]["counts"] for record in after] == expected
    assert 0 < len(expected) < len(before)


def test_the_token_is_the_decoders_output_for_one_mask(photo: EncodedPhoto) -> None:
    options = LOOSE | {"rank_by": "predicted_iou", "stability_score_thresh": 0.0, "pred_iou_thresh": 0.0}
    generator = AutoMaskGenerator(photo.model, prompts="grid-2", masks_per_prompt=1, single_mask="token", **options)
    estimates = sorted(record["predicted_iou"] for record in generator.label(photo.rgb, photo).records)
    points = np.array([[80, 60], [240, 60], [80, 180], [240, 180]])
    _, expected = decode_prompts(photo, Prompts.from_points(points), multimask=False)
    assert expected.shape == (4, 1)
    assert estimates == pytest.approx(sorted(expected[:, 0].tolist()), abs=1e-5)


def test_rounds_of_one_and_of_three_masks_are_not_decoded_together(photo: EncodedPhoto) -> None:
    points = Prompts.from_points(np.array([[80, 60]]))
    rounds = [Round(photo, points, multimask=multimask) for multimask in (None, False, True, False)]
    assert decodable_together(rounds, 16) == [[0, 2], [1, 3]]
    assert [made.predicted_iou.shape for made in decode_together([rounds[1], rounds[3]])] == [(1, 1), (1, 1)]


class _Listens(Strategy):
    """Two points; keeps what it hears of them."""

    heard: Decoded

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        self.heard = yield Prompts.from_points(np.array([[70, 60], [220, 70]]))


@pytest.mark.parametrize(("options", "several"), [({}, 3), ({"single_mask": "token"}, 1)])
def test_a_strategy_hears_of_one_mask_a_prompt(photo: EncodedPhoto, options: dict[str, Any], several: int) -> None:
    generator = AutoMaskGenerator(
        photo.model, prompts="grid-1", masks_per_prompt=1, **LOOSE | {"rank_by": "predicted_iou"} | options
    )
    generator.strategies = [listens := _Listens()]
    generator.label(photo.rgb, photo)
    _, expected = decode_prompts(photo, listens.heard.prompts, multimask=several == 3)
    assert listens.heard.predicted_iou.shape == (2, 1)
    assert listens.heard.predicted_iou[:, 0].tolist() == pytest.approx(expected.amax(dim=1).tolist(), abs=1e-5)
    assert len(listens.heard.kept_logits) == 2


def test_the_best_by_another_quality_has_its_own_estimate() -> None:
    estimates = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4], [0.5, 0.5, 0.6]])
    index = torch.tensor([[0, 0], [0, 1], [2, 0], [2, 1]])
    logits = torch.arange(4.0).view(4, 1, 1)
    made, rows = best_of_each(DecodedMasks(estimates, index, logits), torch.tensor([0.1, 0.7, 0.3, 0.3]))
    assert rows.tolist() == made.logits.flatten().tolist() == [1, 2]  # of equal ones the first
    assert made.index.tolist() == [[0, 0], [2, 0]]
    assert made.predicted_iou[:, 0].tolist() == pytest.approx([0.8, 0.4, 0.5])  # none passed of the second: its highest


def test_refinement_compares_the_best_with_the_best(photo: EncodedPhoto) -> None:
    """With three masks a prompt it compares one level of detail; with one, whichever of the second three is best."""
    options = LOOSE | {"rank_by": "predicted_iou", "stability_score_thresh": 0.0, "masks_per_prompt": 1}
    plain, refined = (
        AutoMaskGenerator(photo.model, prompts="grid-4", **options, refine=refine).label(photo.rgb, photo)
        for refine in (None, "formula")
    )
    before = {tuple(r["point_coords"][0]): r["predicted_iou"] for r in plain.records}
    after = {tuple(r["point_coords"][0]): r["predicted_iou"] for r in refined.records}
    assert before.keys() == after.keys()
    assert refined.refinements == len(before)
    assert all(after[point] >= before[point] for point in before)
    assert any(after[point] > before[point] for point in before)


@pytest.mark.parametrize("points", ["added", "alone"])
def test_refinements_points_join_the_first_or_stand_alone(
    photo: EncodedPhoto, monkeypatch: pytest.MonkeyPatch, points: str
) -> None:
    asked: list[Round] = []
    plain = lock_step.decode_passing

    def noted(photo: EncodedPhoto, prompts: Prompts, **options: Any) -> DecodedMasks:
        asked.append(Round(photo, prompts, multimask=options["multimask"]))
        return plain(photo, prompts, **options)

    monkeypatch.setattr(lock_step, "decode_passing", noted)
    generator = AutoMaskGenerator(
        photo.model, prompts="grid-2", refine="formula", refine_points=points, refine_boundary="positive", **LOOSE
    )
    generator.label(photo.rgb, photo)
    first, second = asked
    assert len(second.prompts) > 0
    expected = {"added": [1, 1, 1, -1], "alone": [1, 1, -1]}[points]
    assert second.prompts.labels.tolist() == [expected] * len(second.prompts)
    of_grid = {tuple(point) for point in first.prompts.coords_px[:, 0].tolist()}
    asked_with = {tuple(point) for point in second.prompts.coords_px[:, 0].tolist()}
    assert (asked_with <= of_grid) == (points == "added")


@pytest.mark.parametrize("points", ["added", "alone"])
def test_a_box_is_refined_to_one_mask(photo: EncodedPhoto, points: str) -> None:
    options = LOOSE | {"stability_score_thresh": 0.0, "pred_iou_thresh": 0.0, "rank_by": "predicted_iou"}
    generator = AutoMaskGenerator(
        photo.model,
        prompts="oas-box",
        strategy_options={"max_boxes": 4},
        refine="formula",
        refine_points=points,
        **options,
    )
    labelled = generator.label(photo.rgb, photo)
    assert (labelled.refinements, len(labelled.records)) == (4, 4)
