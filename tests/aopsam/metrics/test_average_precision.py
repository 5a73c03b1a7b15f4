"""Average precision and recall against pycocotools' own evaluation of the same masks, crowds and sizes among them."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aopsam.masks import rle
from aopsam.metrics import METRICS, PRECISIONS, SIZES, AveragePrecision, Comparison, rank

HW = (200, 240)


def box(place: np.ndarray) -> rle.RLE:
    x, y, wide, high = np.abs(place)
    mask = np.zeros(HW, bool)
    mask[int(y) : int(y + high) + 1, int(x) : int(x + wide) + 1] = True
    return rle.encode(mask)


def sides(rng: np.random.Generator, count: int) -> np.ndarray:
    """Small, medium and large."""
    return rng.choice([12.0, 50.0, 130.0], (count, 1)) * rng.uniform(0.7, 1.3, (count, 2))


def photo(seed: int, truths: int, spare: int) -> Comparison:
    """Ground truth, predictions near a ground-truth mask (some twice) and anywhere, and a crowd in a corner."""
    rng = np.random.default_rng(seed)
    places = np.concatenate([rng.uniform(0, 180, (truths, 2)), sides(rng, truths)], axis=1)
    anywhere = np.concatenate([rng.uniform(0, 180, (spare, 2)), sides(rng, spare)], axis=1)
    near = np.repeat(places, 2, axis=0) + rng.normal(size=(2 * truths, 4)) * 2
    predicted = [box(place) for place in rng.permutation(np.concatenate([near, anywhere]))]
    scores = np.sort(rng.random(len(predicted)))[::-1]
    masks = [box(place) for place in places]
    declared = np.array([rle.area(mask) for mask in masks]) * rng.choice([0.5, 1.0, 2.0], truths)
    return Comparison(predicted, masks, scores, declared, [box(np.array([120, 100, 100, 80]))] if seed % 2 else [])


PHOTOS = [photo(0, 12, 20), photo(1, 9, 40), photo(2, 0, 5), photo(3, 4, 0), photo(4, 3, 120), photo(6, 0, 0)]


def coco_evaluation(photos: list[Comparison], most: list[int]) -> COCOeval:
    truth, answers = [], []
    for number, each in enumerate(photos):
        assert each.declared_areas is not None
        regions = [(mask, float(area), 0) for mask, area in zip(each.truths, each.declared_areas, strict=True)]
        for mask, area, crowd in [*regions, *((crowd, 8000.0, 1) for crowd in each.crowds)]:
            entry = {"id": len(truth) + 1, "image_id": number, "category_id": 1, "iscrowd": crowd}
            truth.append(entry | {"segmentation": mask, "area": area})
        for mask, score in zip(each.predicted, each.scores.tolist(), strict=True):
            answers.append({"image_id": number, "category_id": 1, "segmentation": mask, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images = [{"id": number, "width": HW[1], "height": HW[0]} for number in range(len(photos))]
        coco.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1}]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(answers), "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = most
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


@pytest.mark.parametrize("most", [7, 100])
def test_precision_as_pycocotools(most: int) -> None:
    precision = coco_evaluation(PHOTOS, [most]).eval["precision"]  # thresholds, recalls, categories, sizes, most
    for place, size in enumerate(PRECISIONS.values()):
        ours = AveragePrecision([rank(each, size, most) for each in PHOTOS])()
        assert 0 < ours < 1
        assert ours == pytest.approx(precision[:, :, 0, place, 0].mean(), abs=1e-9)


def test_the_whole_summary_as_pycocotools_prints_it() -> None:
    evaluation = coco_evaluation(PHOTOS, [10, 100, 1000])
    recall = evaluation.eval["recall"]  # thresholds, categories, sizes, most
    for place, size in enumerate((None, *SIZES)):
        counts = [int(each.truths_of(size).sum()) for each in PHOTOS]
        for column, most in enumerate((10, 100, 1000)):
            metric = METRICS[f"ar_{most}" if size is None else f"ar_{most}_{size}"]
            values = [metric.of(each) for each in PHOTOS]
            ours = sum(n * v for n, v in zip(counts, values, strict=True) if v is not None) / sum(counts)
            assert ours == pytest.approx(recall[:, 0, place, column].mean(), abs=1e-9)


def test_a_photo_that_counts_twice_is_a_photo_that_is_there_twice() -> None:
    ranked = [rank(each) for each in PHOTOS]
    times = np.array([2, 0, 1, 1, 3, 1])
    repeated = [each for each, count in zip(ranked, times, strict=True) for _ in range(count)]
    assert AveragePrecision(ranked)(times) == pytest.approx(AveragePrecision(repeated)(), abs=1e-3)


def test_hand_made_cases() -> None:
    left, right = box(np.array([0, 0, 99, 99])), box(np.array([120, 0, 99, 99]))
    scores = np.array([0.9, 0.8])
    assert AveragePrecision([rank(Comparison([left, right], [left, right], scores))])() == pytest.approx(1)
    # The best-ranked is wrong: precision 1/2 at every recall.
    assert AveragePrecision([rank(Comparison([right, left], [left], scores))])() == pytest.approx(0.5)
    # Half of the masks found: precision 1 up to recall 0.5, 51 of 101 points.
    assert AveragePrecision([rank(Comparison([left], [left, right], scores[:1]))])() == pytest.approx(51 / 101)
    # On a crowd it is no mistake.
    on_crowd = Comparison([right, left], [left], scores, crowds=[right])
    assert AveragePrecision([rank(on_crowd)])() == pytest.approx(1)


def test_nothing() -> None:
    some = box(np.array([0, 0, 50, 50]))
    assert AveragePrecision([rank(Comparison([], [some]))])() == 0
    assert np.isnan(AveragePrecision([rank(Comparison([some], [], np.ones(1)))])())
    assert np.isnan(AveragePrecision([])())


def test_hundreds_of_masks() -> None:
    some = box(np.array([0, 0, 50, 50]))
    many = Comparison([some] * 300, [some] * 300, np.linspace(1, 0, 300))
    assert (rank(many).ground_truths, rank(many, "small").ground_truths, len(rank(many).scores)) == (300, 0, 100)
    assert METRICS["ar_1000_medium"].of(many) == 1


def test_predictions_out_of_order_are_refused() -> None:
    some = box(np.array([0, 0, 50, 50]))
    with pytest.raises(ValueError, match="best first"):
        rank(Comparison([some, some], [some], np.array([0.1, 0.2])))
