from __future__ import annotations

import pytest
import torch

from aopsam.detector.network import (
    ASPECTS,
    DIRECTIONS,
    REACH,
    SIZE,
    BoxDetector,
    level_count,
    levels_of,
    likeness,
    priors,
)


def _priors_one_by_one(rows: int, columns: int, count: int) -> torch.Tensor:
    found, step, height, width = [], 0.5, 2 * rows, 2 * columns
    for _ in range(count):
        for row in range(height):
            for column in range(width):
                for aspect in ASPECTS:
                    side = SIZE * step
                    found.append([(column + 0.5) * step, (row + 0.5) * step, side * aspect**0.5, side / aspect**0.5])
        step, height, width = 2 * step, (height + 1) // 2, (width + 1) // 2
    return torch.tensor(found)


def test_priors_go_by_level_row_column_and_aspect() -> None:
    torch.testing.assert_close(priors(levels_of(3, 5, 3)), _priors_one_by_one(3, 5, 3))


def test_the_coarsest_level_sees_the_whole_photo() -> None:
    assert [levels_of(cells, cells, level_count(cells))[-1].rows for cells in (4, 8, 32, 64)] == [4, 8, 8, 8]


def test_an_untrained_detector_answers_with_its_priors_and_low_scores() -> None:
    torch.manual_seed(0)
    detector = BoxDetector(6, levels=3, width=8).eval()
    logits, boxes = detector(torch.randn(2, 6, 5, 7))
    start = priors(levels_of(5, 7, 3))
    assert logits.shape == (2, len(start))
    assert boxes.shape == (2, len(start), 4)
    assert (logits.sigmoid() < 0.1).all()
    torch.testing.assert_close(boxes[0, :, 2:] - boxes[0, :, :2], start[:, 2:], rtol=0.2, atol=0)


def test_an_answer_belongs_to_its_own_position() -> None:
    """The scores of the one position that the weights are made to tell apart rise, at its place among the answers."""
    detector = BoxDetector(4, levels=2, width=8).eval()
    for level, layer in enumerate(detector.answer):
        torch.nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.weight[0, 0] = 1.0  # score of the first aspect from the first feature
        features = [torch.zeros(1, 8, 8, 12), torch.zeros(1, 8, 4, 6)]
        features[level][0, 0, 2, 3] = 9.0
        logits = detector.boxes(features).logits[0]
        place = levels_of(4, 6, 2)[level]
        assert int(logits.argmax()) == place.start + (2 * place.columns + 3) * len(ASPECTS)
        torch.nn.init.zeros_(layer.weight)


def test_likeness_as_one_by_one() -> None:
    torch.manual_seed(0)
    keys = torch.randn(1, 3, 9, 12)  # an odd side: the last position has one key on that axis
    found = likeness(keys)
    assert found.shape == (1, len(DIRECTIONS) * len(REACH), 5, 6)
    for row in range(5):
        for column in range(6):
            own = keys[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((1, 2))
            expected = []
            for reach in REACH:
                for down, right in DIRECTIONS:
                    y, x = (2 * at + {-1: 1 - reach, 0: 0, 1: reach}[d] for at, d in ((row, down), (column, right)))
                    inside = 0 <= y < 9 and 0 <= x < 12
                    expected.append(torch.cosine_similarity(own, keys[0, :, y, x], dim=0) if inside else 0.0)
            assert found[0, :, row, column].tolist() == pytest.approx([float(one) for one in expected], abs=1e-5)
