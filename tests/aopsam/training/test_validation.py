"""Prompts of held-out photos are answered as everything mode answers them, whatever way the model reads photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.masks import rle
from aopsam.sam.decode import decode_prompts, upscale
from aopsam.sam.encode import encode
from aopsam.sam.prompts import Prompts
from aopsam.training.thresholds import choose_thresholds
from aopsam.training.validation import prompted_iou
from tests.helpers.free_photos import free_photos
from tests.helpers.small_sams import small, small_efficient_sam


@pytest.mark.parametrize("sam", [small(0), small_efficient_sam(0, 128)], ids=["padded", "stretched"])
@pytest.mark.parametrize("kind", ["point", "box"])
def test_prompted_iou_is_that_of_decoded_prompts(sam: Sam, kind: str) -> None:
    photo = free_photos()[1]
    truth = torch.from_numpy(np.stack([rle.decode(mask) for mask in photo.rles]))
    xywh = np.array([rle.bbox_xywh(mask) for mask in photo.rles])
    boxes = Prompts.from_boxes(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))
    encoded = encode(sam, photo.rgb)
    asked = boxes if kind == "box" else Prompts.from_points(photo.points_px)
    logits, estimates = decode_prompts(encoded, asked, multimask=True)
    found, found_estimates = prompted_iou(sam, photo, kind)
    for number, each in enumerate(truth):
        masks = upscale(encoded, logits[number]) > 0
        expected = (masks & each).sum((-1, -2)) / (masks | each).sum((-1, -2))
        assert found[number] == pytest.approx(expected.numpy(), abs=2e-3)
    assert found_estimates == pytest.approx(estimates.numpy(), abs=1e-4)


def test_thresholds_are_chosen_for_stretched_photos() -> None:
    chosen = choose_thresholds(small_efficient_sam(0, 128), free_photos()[:1])
    assert set(chosen) == {"pred_iou_thresh", "stability_score_thresh", "box_nms_thresh"}
    assert 0 <= float(chosen["stability_score_thresh"]) <= 1
