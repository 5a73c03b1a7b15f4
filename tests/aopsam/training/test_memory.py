"""Photos in memory: halved masks give the targets of whole ones, and sources are drawn by their shares."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from aopsam.masks import rle
from aopsam.training import memory
from aopsam.training.annotated import Annotated
from aopsam.training.memory import BARE_PX, DrawnPhotos, KeptPhotos, dense_batch, half_target
from aopsam.training.windows import Window, make_batch


def photo(width: int = 200, height: int = 121, name: str = "a") -> Annotated:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    masks = [(x - 90) ** 2 + (y - 60) ** 2 < 40**2, (x > 120) & (y > 50)]
    rles = [dict(rle.encode(mask)) for mask in masks]
    areas = np.array([rle.area(one) for one in rles], np.float64)
    points = np.array([[90.0, 60.0], [150.0, 90.0]])
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Annotated(name, rgb, rles, points, areas, np.full((height // 2, width // 2), 255, np.uint8))


def bare(width: int = 200, height: int = 100, name: str = "bare") -> Annotated:
    edges = np.zeros((height // 2, width // 2), np.uint8)
    return Annotated(name, np.zeros((height, width, 3), np.uint8), [], np.zeros((0, 2)), np.zeros(0), edges)


SIZES = {"size_px": 128, "frame_px": 256, "scale": (0.8, 1.2)}


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("width", [200, 201])
def test_halved_masks_give_the_targets_of_whole_ones(flip: bool, width: int) -> None:
    window = Window(KeptPhotos([[photo(width)]])[0], flip, (1.4, 1.4), (37, 10), 128, (0, 0), (128, 128))
    for index in range(2):
        exact = window.target(window.mask(index)).astype(int)
        assert np.abs(exact - half_target(window, index)).mean() < 3


def test_dense_batches_are_windows_of_make_batch_with_their_targets() -> None:
    photos = KeptPhotos([[photo()]])
    dense = dense_batch(photos, np.random.default_rng(0), windows=1, masks=2, **SIZES)
    prompted = make_batch(photos, np.random.default_rng(0), windows=1, prompts=2, box_share=0.0, **SIZES)
    assert dense.cells.tolist() == prompted.cells.tolist()
    assert torch.equal(dense.prompts.window, prompted.prompts.window)
    assert torch.equal(dense.edges, prompted.edges)
    assert (dense.targets - prompted.targets).abs().mean() < 0.02


def test_edges_lie_where_the_photo_shows_them() -> None:
    edges = np.zeros((60, 100), np.uint8)
    edges[:, :50] = 255
    one = photo()
    there = Annotated("a", one.rgb, one.rles, one.points_px, one.areas_px, edges)
    for flip in (False, True):
        found = Window(there, flip, (1.0, 1.0), (60, 0), 128, (0, 0), (128, 100)).edges()
        left, right = found[:25, :8], found[:25, 12:]
        assert (left.min(), right.max()) == ((0, 1) if flip else (1, 0)) or (left.mean() > 0.99) != flip
        assert (found[25:] == -1).all()
    assert (Window(photo(name="b"), False, (1.0, 1.0), (0, 0), 64, (0, 0), (64, 64)).edges() == 1).all()
    without = Annotated("a", one.rgb, one.rles, one.points_px, one.areas_px)
    assert (Window(without, False, (1.0, 1.0), (0, 0), 64, (0, 0), (64, 64)).edges() == -1).all()


@pytest.mark.parametrize("dense", [True, False])
def test_photos_without_annotations_teach_edges_alone(dense: bool) -> None:
    photos = DrawnPhotos(KeptPhotos([[photo()], [bare()]]), [1.0, 3.0])
    rng = np.random.default_rng(0)
    if dense:
        batch = dense_batch(photos, rng, windows=12, masks=4, **SIZES)
    else:
        batch = make_batch(photos, rng, windows=12, prompts=4, box_share=0.5, **SIZES)
    prompted = set(batch.prompts.window.tolist())
    assert 0 in prompted
    assert 2 <= len(prompted) <= 9
    for window in range(12):
        known = batch.edges[window][batch.edges[window] >= 0]
        assert len(known)
        assert (known == float(window in prompted)).all()


def test_sources_are_drawn_by_their_shares() -> None:
    kept = KeptPhotos([[photo(name="a"), photo(name="b")], [photo(name="c")], [photo(name="d")]])
    assert len(kept) == 4
    names = Counter(one.id for one in DrawnPhotos(kept, [1.5, 0.5, 1.0]))
    assert names == {"a": 6, "b": 6, "c": 2, "d": 4}
    assert len(DrawnPhotos(kept, [0.3, 0.3, 0.3])) == 4


class Counted(list[Annotated]):
    asked = 0

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        self.asked += 1
        return super().__getitem__(index)


def test_photos_are_decoded_once_and_large_bare_ones_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Counted([photo(), bare(2000, 1000)])
    kept = KeptPhotos([[], source])
    assert [one.id for one in kept[:]] == ["a", "bare"]
    assert kept[-1].rgb.shape == (BARE_PX // 2, BARE_PX, 3)
    assert kept[0] is kept[0]
    assert source.asked == 2
    with pytest.raises(IndexError):
        kept[2]
    monkeypatch.setattr(memory, "KEPT_BYTES", 0)
    forgetful = KeptPhotos([source])
    assert forgetful[0] is not forgetful[0]
    np.testing.assert_array_equal(forgetful[0].rgb, kept[0].rgb)


def test_what_is_decoded_stays_when_the_photos_move_on() -> None:
    names = {name: photo(name=name) for name in "abcde"}
    kept = KeptPhotos([[names["a"], names["b"], names["c"]], [names["d"]]])
    decoded = [*kept[:]]
    moved = kept.moved([[names["c"], names["e"]], [names["d"]]], [2, 0])
    assert [one.id for one in moved] == ["c", "e", "d"]
    assert moved[0] is decoded[2]
    assert moved[2] is decoded[3]
    assert all(moved[1] is not one for one in decoded)
    assert moved._bytes == sum(one.rgb.nbytes for one in moved)
