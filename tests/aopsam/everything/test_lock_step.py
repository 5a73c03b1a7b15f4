"""Photos labelled together against the plain loop, which labels one after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import pytest
from segment_anything.modeling import Sam

from aopsam.everything import lock_step
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.ledger import Labelled
from aopsam.masks import rle
from aopsam.prompting import Decoded, Strategy
from aopsam.prompting.fates import Fates
from aopsam.sam.decode import DecodedMasks, Round, decode_together
from aopsam.sam.encode import EncodedPhoto, encode, encode_together
from aopsam.sam.prompts import Prompts

OPEN = {"output_mode": "coco_rle", "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


@pytest.fixture(scope="module")
def photos(scene: np.ndarray) -> list[np.ndarray]:
    return [scene, scene[:100, 40:300], scene[::-1, :150]]


@pytest.fixture(scope="module")
def encoded(tiny: Sam, photos: list[np.ndarray]) -> list[EncodedPhoto]:
    return [encode(tiny, photo) for photo in photos[:2]]


@pytest.fixture
def in_common(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Prompts of each photo in runs of the decoder for several."""
    runs = []

    def noted(rounds: Sequence[Round]) -> list[DecodedMasks]:
        runs.append([len(asked.prompts) for asked in rounds])
        return decode_together(rounds)

    monkeypatch.setattr(lock_step, "decode_together", noted)
    return runs


def _facts(labelled: Labelled | Exception) -> tuple[Any, ...]:
    assert isinstance(labelled, Labelled)
    prompts = [(record["point_coords"], record.get("box"), record["parent"]) for record in labelled.records]
    counts = labelled.prompts_decoded, labelled.refinements, labelled.dropped, labelled.masks_dropped
    return prompts, *counts


def _segmentations(labelled: Labelled | Exception) -> list[Any]:
    assert isinstance(labelled, Labelled)
    return [record["segmentation"] for record in labelled.records]


def _scores(labelled: Labelled | Exception, name: str) -> list[float]:
    assert isinstance(labelled, Labelled)
    return [record[name] for record in labelled.records]


@pytest.mark.parametrize(
    ("prompts", "options", "shared"),
    [
        ("grid-5", {}, False),  # as many prompts as go at once on a CPU: each photo's by themselves
        ("aop", {"things": 0, "round_size": 5}, True),
        ("attention", {"max_prompts": 5}, True),
        ("oas-box", {"max_boxes": 4}, True),
        ("efficient-sam2", {"max_prompts": 5}, True),
        ("mobile-sam-v2", {"max_boxes": 4}, True),
    ],
)
def test_masks_are_those_of_a_photo_alone(
    tiny: Sam,
    photos: list[np.ndarray],
    encoded: list[EncodedPhoto],
    in_common: list[list[int]],
    prompts: str,
    options: dict,
    shared: bool,
) -> None:
    generator = AutoMaskGenerator(tiny, prompts=prompts, strategy_options=options, output_mode="coco_rle", redraw=False)
    odd = photos[0].astype(np.float32)
    first, failed, second = generator.label_together([photos[0], odd, photos[1]])
    assert in_common[0] == [max(options.values())] * 2 if shared else in_common == []
    assert isinstance(failed, ValueError)
    assert "float32" in str(failed)
    for together, photo in zip((first, second), encoded, strict=True):
        alone = generator.label(photo.rgb, photo)
        assert alone.records
        assert _facts(together) == _facts(alone)
        assert _segmentations(together) == _segmentations(alone)
        for name in ("predicted_iou", "stability_score", "score"):
            assert _scores(together, name) == pytest.approx(_scores(alone, name), abs=1e-3)


def test_masks_drawn_once_more_are_those_of_a_photo_alone(
    tiny: Sam, photos: list[np.ndarray], encoded: list[EncodedPhoto]
) -> None:
    """Their logits are kept in half precision, which turns a rounding into a pixel here and there."""
    generator = AutoMaskGenerator(tiny, prompts="aop", strategy_options={"round_size": 5}, output_mode="binary_mask")
    for together, photo in zip(generator.label_together(photos[:2]), encoded, strict=True):
        alone = generator.label(photo.rgb, photo)
        assert isinstance(together, Labelled)
        assert _scores(together, "score") == pytest.approx(_scores(alone, "score"), abs=0.01)
        for one, other in zip(together.records, alone.records, strict=True):
            both = [record["segmentation"] for record in (one, other)]
            assert np.logical_and(*both).sum() >= 0.98 * np.logical_or(*both).sum()


@pytest.mark.parametrize(
    "options",
    [{"tile_size": 200}, {"crop_n_layers": 1}, {"refine": "prose", "min_mask_region_area": 9}],
    ids=["tiles", "crops", "refined"],
)
def test_parts_and_second_questions_take_part(
    small_sam: Sam, photos: list[np.ndarray], in_common: list[list[int]], options: dict
) -> None:
    """Random weights: a pixel may lie within rounding of the threshold."""
    generator = AutoMaskGenerator(small_sam, prompts="grid-1", **OPEN, **options)
    for together, photo in zip(generator.label_together(photos), photos, strict=True):
        alone = generator.label(photo)
        assert _facts(together) == _facts(alone)
        for one, other in zip(_segmentations(together), _segmentations(alone), strict=True):
            mask, expected = rle.decode(one), rle.decode(other)
            assert (mask & expected).sum() >= 0.99 * (mask | expected).sum()
    assert len(in_common) > 1
    assert max(map(len, in_common)) == 3


def test_batches_are_the_plain_loop(small_sam: Sam, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = AutoMaskGenerator(small_sam, prompts="grid-4", **OPEN)
    expected = [generator.generate(photo) for photo in photos]
    groups, whole = [], generator.label_together

    def noted(images: Sequence[np.ndarray]) -> list[Labelled | Exception]:
        groups.append(len(images))
        return whole(images)

    monkeypatch.setattr(generator, "label_together", noted)
    for at_once in (1, 2, 8):
        found = generator.generate_batch(photos, at_once)
        assert [[r["segmentation"] for r in one] for one in found] == [
            [r["segmentation"] for r in one] for one in expected
        ]
    assert groups == [1, 1, 1, 2, 1, 3]  # on a CPU one by one, unless told otherwise
    with pytest.raises(ValueError, match="uint8"):
        generator.generate_batch([photos[0], photos[0][..., 0]], 2)
    with pytest.raises(ValueError, match="at_once=0; expected a whole number of at least 1"):
        generator.generate_batch(photos, 0)


class _Short(Strategy):
    """A round of two points, and for a photo of 100 rows an error in place of a second."""

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        yield Prompts.from_points(np.array([[60, 70], [120, 30]]))
        if photo.hw[0] == 100:
            raise RuntimeError("no luck")
        yield Prompts.from_points(np.array([[20, 20]]))


def test_a_photo_that_fails_takes_no_other_along(
    small_sam: Sam, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a strategy, in a batch of the encoder and in a run of the decoder, whatever the other photos then wait for."""
    generator = AutoMaskGenerator(small_sam, prompts="grid-1", **OPEN)
    generator.strategies = [_Short()]

    def outcomes() -> list[str]:
        found = generator.label_together(photos)
        return [str(one) if isinstance(one, Exception) else str(one.prompts_decoded) for one in found]

    assert outcomes() == ["3", "no luck", "3"]

    def narrow(model: Sam, images: Sequence[np.ndarray]) -> list[EncodedPhoto]:
        if any(image.shape[1] == 150 for image in images):
            raise MemoryError("too narrow")
        return encode_together(model, images)

    monkeypatch.setattr(lock_step, "encode_together", narrow)
    assert outcomes() == ["3", "no luck", "too narrow"]

    def broken(rounds: Sequence[Round]) -> list[DecodedMasks]:
        raise RuntimeError("not together")

    monkeypatch.setattr(lock_step, "decode_together", broken)
    assert outcomes() == ["3", "no luck", "too narrow"]


def test_work_is_announced_with_the_seconds_of_its_photo(small_sam: Sam, photos: list[np.ndarray]) -> None:
    generator = AutoMaskGenerator(small_sam, prompts="grid-4", **OPEN)
    announced: list[float] = []
    found = generator.label_together(photos, announced.append)
    spent = [sum(one.seconds.values()) for one in found if isinstance(one, Labelled)]
    assert announced[:3] == [0.0, 0.0, 0.0]
    assert 0 < max(announced) <= max(spent)
    assert len(announced) > 3 * 3  # at the start, before and after encoding and decoding
