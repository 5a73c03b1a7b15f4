from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_convert, box_iou

from aopsam.detector.assignment import NEAR, assign, near_priors, pair_iou
from aopsam.detector.network import levels_of, priors

LEVELS = levels_of(8, 12, 3)


def _objects(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([12.0, 8.0])
    half = torch.rand(count, 2, generator=generator) * 2 + 0.3
    return torch.cat([centre - half, centre + half], dim=1)


def test_pair_iou_is_the_diagonal_of_all_pairs() -> None:
    a, b = _objects(20, seed=1), _objects(20, seed=2)
    torch.testing.assert_close(pair_iou(a, b), box_iou(a, b).diagonal())


def test_near_priors_hold_the_best_of_all_priors() -> None:
    objects = _objects(40)
    near = near_priors(objects, LEVELS)
    assert near.shape == (40, NEAR)
    assert all(len(set(row)) == NEAR for row in near.tolist())
    every = box_iou(objects, box_convert(priors(LEVELS), "cxcywh", "xyxy"))
    assert (every.gather(1, near).max(1).values == every.max(1).values).all()


def test_an_answer_goes_to_the_object_that_its_box_is_most_like() -> None:
    torch.manual_seed(0)
    objects = _objects(30)
    start = box_convert(priors(LEVELS), "cxcywh", "xyxy")
    boxes = start + 0.1 * torch.randn_like(start)
    near = near_priors(objects, LEVELS)
    expected: dict[int, tuple[int, float]] = {}
    for number, box in enumerate(objects):
        for answer in near[number].tolist():
            iou = float(box_iou(boxes[answer][None], box[None]))
            if iou >= expected.get(answer, (0, 0.0))[1]:
                expected[answer] = number, iou
    taught = assign(boxes, objects, near)
    assert taught.answers.tolist() == sorted(expected)
    assert taught.objects.tolist() == [expected[answer][0] for answer in taught.answers.tolist()]
    assert taught.iou.tolist() == pytest.approx([expected[answer][1] for answer in taught.answers.tolist()], abs=1e-6)


def test_a_photo_without_objects_teaches_nothing() -> None:
    nothing = torch.zeros(0, 4)
    assert len(assign(torch.zeros(10, 4), nothing, near_priors(nothing, LEVELS)).answers) == 0
