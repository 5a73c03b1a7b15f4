from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.detector.inference import detect
from aopsam.detector.network import BoxDetector
from aopsam.sam.encode import encode
from tests.helpers.made_detector import ToldDetector


def _detect(sam: Sam, boxes: list[list[float]], scores: list[float], hw: tuple[int, int] = (96, 128), **options: float):
    photo = encode(sam, np.zeros((*hw, 3), np.uint8))
    return detect(ToldDetector(sam, boxes, scores), photo, **options)


def test_boxes_come_in_original_pixels_by_falling_score(small_sam: Sam) -> None:
    # 128 px hold 8 cells: a cell is 32 px of a photo whose long side is 256.
    boxes, scores = _detect(small_sam, [[1, 1, 2, 3], [4, 2, 7, 4]], [0.3, 0.8], hw=(192, 256))
    np.testing.assert_allclose(boxes[:2], [[128, 64, 224, 128], [32, 32, 64, 96]], rtol=1e-5)
    assert scores[:2] == pytest.approx([0.8, 0.3])
    assert (scores[2:] < 0.01).all()


def test_nothing_comes_of_the_padding_and_boxes_end_with_the_photo(small_sam: Sam) -> None:
    # The photo fills 6 of 8 rows of cells.
    boxes, scores = _detect(small_sam, [[1, 5, 3, 7.5], [5, 4.5, 8.5, 6.5]], [0.9, 0.8])
    assert scores[0] == pytest.approx(0.8)
    np.testing.assert_allclose(boxes[0], [80, 72, 128, 96], rtol=1e-5)
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [128, 96]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_a_box_like_a_better_one_goes(small_sam: Sam) -> None:
    told = [[1, 1, 3, 3], [1, 1.5, 3, 3.5]], [0.9, 0.8]  # IoU 0.6
    assert (_detect(small_sam, *told, nms_thresh=0.7)[1][:2] > 0.5).all()
    assert (_detect(small_sam, *told, nms_thresh=0.5)[1] > 0.5).sum() == 1


def test_by_default_an_iou_of_three_quarters_is_a_repeat(small_sam: Sam) -> None:
    def sure(shift: float) -> int:
        # Two boxes 4 cells wide, one moved by `shift`, have an IoU of (4 - shift) / (4 + shift).
        boxes = [[1.0, 1.0, 5.0, 4.0], [1 + shift, 1.0, 5 + shift, 4.0]]
        return int((_detect(small_sam, boxes, [0.9, 0.8])[1] > 0.5).sum())

    assert sure(0.62) == 2  # IoU 0.73
    assert sure(0.52) == 1  # IoU 0.77


def test_the_number_of_boxes_is_bounded(small_sam: Sam) -> None:
    boxes, scores = _detect(small_sam, [[1, 1, 2, 3], [4, 2, 7, 4]], [0.3, 0.8], max_boxes=1)
    assert len(boxes) == len(scores) == 1
    assert scores[0] == pytest.approx(0.8)


def test_other_embeddings_are_refused(small_sam: Sam) -> None:
    photo = encode(small_sam, np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="embedding of 256 channels, the detector expects 8"):
        detect(BoxDetector(8, levels=2, width=8).eval(), photo)


def test_photos_of_one_pixel_and_of_odd_shapes_have_boxes_inside(small_sam: Sam) -> None:
    torch.manual_seed(0)
    detector = BoxDetector(levels=2, width=8).eval()
    for height, width in ((1, 1), (1, 500), (301, 7)):
        boxes, scores = detect(detector, encode(small_sam, np.zeros((height, width, 3), np.uint8)))
        assert len(boxes) == len(scores) > 0
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= np.array([width, height]) * (1 + 1e-5)).all()
