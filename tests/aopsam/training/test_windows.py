"""Windows keep photo, target and prompt aligned, and are a function of their generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aopsam.masks import rle
from aopsam.training import windows
from aopsam.training.annotated import Annotated
from aopsam.training.decode import POINT
from aopsam.training.windows import Batch, make_batch

RED, GREEN = (230, 20, 20), (20, 200, 40)


def scene() -> Annotated:
    """A red disc and a green bar on grey, 120 x 90."""
    y, x = np.mgrid[:90, :120]
    masks = [(x - 40) ** 2 + (y - 45) ** 2 < 20**2, (abs(x - 95) < 8) & (abs(y - 40) < 30)]
    rgb = np.full((90, 120, 3), 110, np.uint8)
    for mask, colour in zip(masks, (RED, GREEN), strict=True):
        rgb[mask] = colour
    rles = [dict(rle.encode(m)) for m in masks]
    points = np.array([[40, 45], [95, 40]], dtype=np.float64)
    return Annotated("scene", rgb, rles, points, np.array([m.sum() for m in masks], dtype=np.float64))


def batch(seed: int, size_px: int = 256, scale: tuple[float, float] = (0.6, 1.6)) -> Batch:
    return make_batch(
        [scene()],
        np.random.default_rng(seed),
        windows=3,
        size_px=size_px,
        frame_px=512,
        prompts=8,
        scale=scale,
        box_share=0.4,
    )


@pytest.mark.parametrize("seed", range(6))
def test_photo_target_and_prompt_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "jitter", lambda rgb, rng: rgb)
    out = batch(seed)
    assert out.rgb.shape == (3, 3, 256, 256)
    assert out.targets.shape == (len(out.is_box), 64, 64)
    for n, window in enumerate(out.prompts.window.tolist()):
        target = out.targets[n].numpy()
        blocks = out.rgb[window].float().reshape(3, 64, 4, 64, 4).mean((2, 4)).numpy()
        inside = blocks[:, target > 0.99].mean(1) if (target > 0.99).any() else None
        local = out.prompts.points_px[n].numpy() - out.cells[window].numpy() * 16
        if inside is not None:
            red = inside[0] > inside[1]
            across = blocks[0] - blocks[1] if red else blocks[1] - blocks[0]
            assert across[target > 0.99].min() > across[target < 0.01].max()
        if out.is_box[n]:
            ys, xs = np.nonzero(target > 0.5)
            extent = np.array([[xs.min(), ys.min()], [xs.max() + 1, ys.max() + 1]]) * 4
            assert np.abs(local - extent).max() <= 0.1 * (extent[1] - extent[0]).max() + 5
        else:
            x, y = (local[0] + 0.5) // 4
            assert target[int(y), int(x)] > 0
            assert out.prompts.labels[n].tolist() == [POINT, -1]


def test_colours_change_and_a_few_photos_turn_grey() -> None:
    plain = np.full((20, 30, 3), (200, 60, 90), np.uint8)
    changed = [windows.jitter(plain, np.random.default_rng(seed)) for seed in range(60)]
    assert all(photo.shape == plain.shape and photo.dtype == np.uint8 for photo in changed)
    assert all((photo != plain).any() for photo in changed)
    spread = np.array([np.ptp(photo.astype(int), axis=2).mean() for photo in changed])
    assert 1 <= (spread < 40).sum() <= 15
    assert (spread > 40).sum() >= 45


def test_cells_keep_windows_inside_the_frame() -> None:
    for seed in range(20):
        cells = batch(seed).cells
        assert cells.min() >= 0
        assert cells.max() <= (512 - 256) // 16


def test_whole_frames_start_at_the_corner_as_at_inference() -> None:
    out = batch(0, size_px=512, scale=(1.0, 1.0))
    assert out.cells.tolist() == [[0, 0]] * 3
    assert out.inside.tolist() == [[512, 384]] * 3
    assert out.rgb[:, :, 384:].max() == 0


def test_same_generator_same_batch() -> None:
    one, two, other = batch(3), batch(3), batch(4)
    assert torch.equal(one.rgb, two.rgb)
    assert torch.equal(one.prompts.points_px, two.prompts.points_px)
    assert torch.equal(one.targets, two.targets)
    assert not torch.equal(one.rgb, other.rgb)


def square(side: int, mask: tuple[int, int, int], name: str = "square") -> Annotated:
    """A grey photo of side × side pixels with one square mask: left, top, side."""
    left, top, size = mask
    drawn = np.zeros((side, side), bool)
    drawn[top : top + size, left : left + size] = True
    middle = np.array([[left + size // 2, top + size // 2]], dtype=np.float64)
    rgb = np.full((side, side, 3), 110, np.uint8)
    return Annotated(name, rgb, [dict(rle.encode(drawn))], middle, np.array([size**2], dtype=np.float64))


def windows_of(photos: list[Annotated], size_px: int = 256) -> Batch:
    recipe = {"windows": 3, "frame_px": 512, "prompts": 4, "scale": (0.65, 1.6), "box_share": 0.5}
    return make_batch(photos, np.random.default_rng(0), size_px=size_px, **recipe)


@pytest.mark.parametrize("size_px", [256, 512])
@pytest.mark.parametrize("photo", [square(1600, (700, 700, 9)), square(100, (0, 0, 1)), square(2, (0, 0, 2))])
def test_photos_without_a_mask_to_prompt_for_are_refused(photo: Annotated, size_px: int) -> None:
    with pytest.raises(ValueError, match="no mask of 2 photos is large enough"):
        windows_of([photo, photo], size_px)


def test_rare_masks_are_found() -> None:
    bare = square(1600, (700, 700, 2))
    corner = square(1600, (0, 0, 16))  # one random window in 20,000 holds it
    drawn = windows_of([bare, bare, bare, corner])
    assert len(drawn.cells) == 3
    assert (drawn.targets.amax((1, 2)) > 0.5).all()
    assert drawn.targets.sum((1, 2)).min() * 16 >= windows.MIN_AREA_PX * 0.8


@pytest.mark.parametrize("seed", range(4))
def test_stretched_photos_keep_photo_target_and_prompt_aligned(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "jitter", lambda rgb, rng: rgb)
    out = make_batch(
        [scene()],
        np.random.default_rng(seed),
        windows=3,
        size_px=128,
        frame_px=128,
        prompts=8,
        scale=(0.65, 1.6),
        box_share=0.4,
        stretch=True,
    )
    assert out.inside.tolist() == [[128, 128]] * 3
    assert not out.cells.any()
    for n, window in enumerate(out.prompts.window.tolist()):
        target = out.targets[n].numpy()
        blocks = out.rgb[window].float().reshape(3, 32, 4, 32, 4).mean((2, 4)).numpy()
        red = blocks[0] - blocks[1] if blocks[0][target > 0.9].mean() > 180 else blocks[1] - blocks[0]
        assert red[target > 0.99].min() > red[target < 0.01].max()
        place = out.prompts.points_px[n].numpy()
        if out.is_box[n]:
            ys, xs = np.nonzero(target > 0.5)
            extent = np.array([[xs.min(), ys.min()], [xs.max() + 1, ys.max() + 1]]) * 4
            assert np.abs(place - extent).max() <= 0.1 * (extent[1] - extent[0]).max() + 5
        else:
            x, y = (place[0] + 0.5) // 4
            assert target[int(y), int(x)] > 0


def test_a_known_pixel_of_a_wide_photo_lies_where_stretching_puts_it() -> None:
    """A disc of 20 px at (40, 45) of 120 x 90: 42.7 and 64 in 128 x 128, 21.3 wide and 28.4 high from its middle."""
    window = windows.Window.cut(scene(), np.random.default_rng(0), 128, 128, (1.0, 1.0), stretch=True)
    unflipped = replace(window, flip=False)
    assert window.scale == pytest.approx((128 / 120, 128 / 90))
    assert unflipped.to_frame(np.array([40.0, 45.0])) == pytest.approx([40 * 128 / 120, 64])
    target = unflipped.target(unflipped.mask(0))
    ys, xs = np.nonzero(target > 127)
    assert [xs.min() * 4, xs.max() * 4 + 4] == pytest.approx([20 * 128 / 120, 60 * 128 / 120], abs=4)
    assert [ys.min() * 4, ys.max() * 4 + 4] == pytest.approx([25 * 128 / 90, 65 * 128 / 90], abs=4)


def test_rare_masks_of_stretched_photos_are_found() -> None:
    drawn = make_batch(
        [square(1600, (0, 0, 100))],
        np.random.default_rng(0),
        windows=2,
        size_px=128,
        frame_px=128,
        prompts=2,
        scale=(0.65, 1.6),
        box_share=0.0,
        stretch=True,
    )
    assert drawn.targets.sum((1, 2)).min() * 16 >= windows.MIN_AREA_PX * 0.8
