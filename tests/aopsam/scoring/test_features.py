"""Numbers of masks that are known: a rectangle and a disc, from a point and from a box."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from aopsam.sam.decode import DecodedMasks
from aopsam.sam.prompts import Prompts
from aopsam.sam.things import Things
from aopsam.scoring.features import FEATURES, mask_features

PHOTO = SimpleNamespace(
    things=None,
    model=SimpleNamespace(mask_threshold=0.5, image_encoder=SimpleNamespace(img_size=512)),
    input_hw=(256, 512),
    hw=(512, 1024),
    embedding=torch.zeros(1, 256, 32, 32),
)
"""A photo of 512 × 1024 px, of which a position of 64 × 128 low-resolution ones is 8 × 8 px; more rows are padding."""


def logits(mask: np.ndarray, inside: float = 4.0, outside: float = -6.0) -> torch.Tensor:
    return torch.from_numpy(np.where(mask, inside, outside).astype(np.float32)) + PHOTO.model.mask_threshold


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((68, 128), bool)
    mask[top:bottom, left:right] = True
    return mask


def measured(masks: list[torch.Tensor], prompts: Prompts, estimates: torch.Tensor) -> list[dict[str, float]]:
    index = torch.tensor([(n, m) for n in range(len(prompts)) for m in range(estimates.shape[1])])[: len(masks)]
    found = mask_features(PHOTO, prompts, DecodedMasks(estimates, index, torch.stack(masks)))  # type: ignore[arg-type]
    assert found.shape == (len(masks), len(FEATURES))
    return [dict(zip(FEATURES, row, strict=True)) for row in found.tolist()]


def test_a_rectangle_from_a_point() -> None:
    estimates = torch.tensor([[0.5, 0.9, 0.7]])
    soft = logits(rectangle(10, 20, 30, 60))
    soft[10:15, 20:60] = PHOTO.model.mask_threshold + 0.75  # a quarter of it is unsure
    prompts = Prompts.from_points(np.array([[8 * 39.5 + 80, 8 * 19.5]]))
    first, second, empty = measured(
        [soft, logits(rectangle(0, 0, 64, 128)), logits(rectangle(0, 0, 0, 0))], prompts, estimates
    )
    expected = {
        "estimate": 0.5,
        "stable_half": 1,
        "stable_one": 0.75,
        "stable_two": 0.75,
        "side": (800 / (64 * 128)) ** 0.5,
        "log_area": np.log(801),
        "of_box": 1,
        "compactness": 4 * np.pi * 800 / (116**2 + 1),
        "width": 40 / 128,
        "height": 20 / 64,
        "at_border": 0,
        "sure_inside": 0.75 * 4 + 0.25 * 0.75,
        "sure_outside": 6,
        "unsure": 0.25,
        "off_centre": 10 / 800**0.5,
        "is_box": 0,
        "fills_box": 0,
        "is_drawn": 0,
        "unchanged": 1,
    }
    assert {name: first[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert first["mean_inside"] == pytest.approx(0.75 * 0.982014 + 0.25 * 0.679179, rel=1e-5)
    assert second["estimate"] == pytest.approx(0.9)
    assert second["at_border"] == 1  # padding is no part of the photo
    assert second["side"] == 1
    assert all(np.isfinite(list(empty.values())))
    assert empty["log_area"] == 0


def test_a_disc_from_a_box() -> None:
    y, x = np.mgrid[:68, :128]
    disc = (x - 40) ** 2 + (y - 32) ** 2 <= 12**2
    prompts = Prompts.from_boxes(np.array([[8 * 27, 8 * 19, 8 * 53, 8 * 45]]))
    (found,) = measured([logits(disc)], prompts, torch.tensor([[0.8]]))
    assert found["is_box"] == 1
    assert found["fills_box"] == pytest.approx(disc.sum() / 26**2)
    assert found["off_centre"] == pytest.approx(0, abs=0.05)
    perimeter = (disc & ~ndimage.binary_erosion(disc, np.ones((3, 3)))).sum()
    assert found["compactness"] == pytest.approx(4 * np.pi * disc.sum() / (perimeter**2 + 1))
    assert found["of_box"] == pytest.approx(np.pi / 4, abs=0.08)


def test_what_was_drawn_is_measured_and_compared_with_what_was_decoded() -> None:
    decoded = torch.stack([logits(rectangle(10, 20, 30, 60)), logits(rectangle(10, 20, 30, 60))])
    drawn = torch.stack([logits(rectangle(10, 20, 30, 40)), logits(rectangle(0, 0, 0, 0))])
    masks = DecodedMasks(torch.tensor([[0.5, 0.9]]), torch.tensor([[0, 0], [0, 1]]), decoded)
    prompts = Prompts.from_points(np.array([[320, 160]]))
    found = mask_features(PHOTO, prompts, masks, drawn)  # type: ignore[arg-type]
    first, gone = (dict(zip(FEATURES, row, strict=True)) for row in found.tolist())
    assert (first["is_drawn"], first["unchanged"], first["width"]) == (1, 0.5, 20 / 128)
    assert (gone["is_drawn"], gone["unchanged"], gone["log_area"]) == (1, 0, 0)
    assert (first["estimate"], gone["estimate"]) == pytest.approx((0.5, 0.9))


def test_things_around_and_inside_a_mask() -> None:
    # A position is 8 × 8 px. The mask's box is 40 × 20 of them; the first thing has its left half, the second is it and
    # as much again to the right, the third lies elsewhere.
    boxes = torch.tensor([[20.0, 10, 40, 30], [20, 10, 100, 30], [0, 40, 10, 50]]) * 8
    photo = SimpleNamespace(**{**vars(PHOTO), "things": Things(boxes, torch.tensor([0.9, 0.6, 1.0]))})
    prompts, decoded = Prompts.from_points(np.array([[320, 160]])), torch.tensor([[0, 0], [0, 1]])
    masks = torch.stack([logits(rectangle(10, 20, 30, 60)), logits(rectangle(0, 0, 0, 0))])
    found = mask_features(photo, prompts, DecodedMasks(torch.ones(1, 3), decoded, masks))  # type: ignore[arg-type]
    first, empty = (dict(zip(FEATURES, row, strict=True)) for row in found.tolist())
    assert first["is_thing"] == pytest.approx(0.9 / 2)
    assert first["in_thing"] == pytest.approx(0.6)
    assert first["around_thing"] == pytest.approx(0.9)
    assert (empty["is_thing"], empty["in_thing"], empty["around_thing"]) == (0, 0, 0)
    (alone,) = measured([masks[0]], prompts, torch.ones(1, 3))
    assert (alone["is_thing"], alone["in_thing"], alone["around_thing"]) == (0, 0, 0)


def test_no_mask_at_all() -> None:
    none = DecodedMasks(torch.zeros(0, 3), torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 68, 128))
    assert mask_features(PHOTO, Prompts.from_points(np.zeros((0, 2))), none).shape == (0, len(FEATURES))  # type: ignore[arg-type]
