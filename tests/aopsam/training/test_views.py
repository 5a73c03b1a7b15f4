"""Pictures for two models: SAM's own preprocessing, the same view at two sizes, nothing of the padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from torch.nn import functional as F

from aopsam.training.views import Frame, normalised, random_crop, random_views, resized, shown, stack, view
from tests.helpers.small_sams import bare

WHOLE = Frame(128, 128, 1.0)


def photo(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    coarse = torch.rand(1, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (smooth[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def test_a_whole_photo_looks_as_sam_preprocesses_it(small_sam: Sam) -> None:
    rgb = photo(0)
    picture = view(rgb, WHOLE)
    assert picture.cells.tolist() == [[6, 8]]
    pixels = normalised(small_sam, picture.student, picture.cells * 16)
    expected = small_sam.preprocess(torch.from_numpy(rgb).permute(2, 0, 1)[None].float())
    assert torch.allclose(pixels, expected)


def test_both_models_see_the_same_view() -> None:
    picture = view(photo(1, 160, 240), Frame(128, 64, 1.0), zoom=1.7, place=(0.3, 0.8), flip=True)
    assert picture.teacher.shape[-1] == 64
    half = F.avg_pool2d(picture.student.float(), 2)
    assert (half - picture.teacher.float()).abs().mean() < 2
    rows, columns = (picture.cells[0] * 16).tolist()
    assert not picture.student[..., rows:, :].any()
    assert not picture.student[..., :, columns:].any()


def test_a_part_of_a_frame_shows_the_photo_at_the_frames_scale() -> None:
    rgb = photo(2, 128, 128)
    part = view(rgb, Frame(64, 64, 0.5), place=(0, 1))
    assert part.cells.tolist() == [[4, 4]]
    assert np.array_equal(part.student[0].permute(1, 2, 0).numpy(), rgb[64:, :64])


@pytest.mark.parametrize("hw", [(10, 400), (400, 10), (1, 1), (33, 57)])
def test_photos_of_any_shape_fill_at_least_a_cell(hw: tuple[int, int]) -> None:
    picture = view(np.full((*hw, 3), 200, np.uint8), WHOLE, zoom=0.7)
    assert (picture.cells >= 1).all()
    there = shown(picture.cells * 16, 128)
    assert torch.equal((picture.student > 0).all(1, keepdim=True), there)


def test_a_batch_is_a_function_of_its_number() -> None:
    photos = [bare(photo(seed)) for seed in range(5)]
    batches = [random_views(photos, WHOLE, seed=3, index=index, count=2, zoom=(1.0, 2.0)) for index in (7, 8, 7)]
    assert torch.equal(batches[0].student, batches[2].student)
    assert not torch.equal(batches[0].student, batches[1].student)


def test_resizing_takes_the_photos_part_alone() -> None:
    embedding = torch.arange(8.0).expand(1, 2, 8, 8).clone()
    embedding[..., 6:, :] = torch.nan
    found = resized(embedding, torch.tensor([[3, 4]]), 4)
    assert torch.equal(found[0, 0, :3], torch.tensor([0.5, 2.5, 4.5, 6.5]).expand(3, 4))
    assert not found[..., 3:, :].any()
    assert torch.equal(resized(embedding, torch.tensor([[6, 8]]), 8)[..., :6, :], embedding[..., :6, :])
    finer = resized(embedding, torch.tensor([[12, 16]]), 16)
    assert torch.allclose(finer[0, 0, 5, 1:-1], torch.arange(1, 15) / 2 - 0.25)


def test_stacked_views_keep_one_picture_where_both_models_see_the_same() -> None:
    same = stack([view(photo(0), WHOLE), view(photo(1), WHOLE)])
    assert same.teacher is same.student
    assert same.student.shape == (2, 3, 128, 128)


FILLED = Frame(128, 64, 1.0, fills=True)


def test_a_stretched_photo_fills_both_squares_as_the_model_reads_it() -> None:
    rgb = photo(3, 96, 160)
    picture = view(rgb, FILLED)
    assert picture.cells.tolist() == [[8, 8]]
    assert (picture.student.shape, picture.teacher.shape) == ((1, 3, 128, 128), (1, 3, 64, 64))
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    read = F.interpolate(pixels, (128, 128), mode="bilinear", align_corners=False)
    assert (picture.student - read).abs().mean() < 2
    assert (F.avg_pool2d(picture.student.float(), 2) - picture.teacher.float()).abs().mean() < 2
    mirrored = view(rgb, FILLED, flip=True)
    assert torch.equal(mirrored.student, picture.student.flip(-1))


def test_crops_of_stretched_pictures_are_maes() -> None:
    rng = np.random.default_rng(0)
    wide = np.zeros((300, 400, 3), np.uint8)
    boxes = np.array([random_crop(wide, rng, (1.0, 5**0.5)) for _ in range(400)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes >= 0).all()
    assert (boxes[:, [2, 3]] <= [400, 300]).all()
    areas, ratios = width * height / (300 * 400), width / height
    assert areas.min() >= 0.2
    assert areas.min() < 0.25
    assert (ratios >= 3 / 4 - 1e-9).all()
    assert (ratios <= 4 / 3 + 1e-9).all()
    assert ratios.min() < 0.8
    assert 0.45 < areas.mean() < 0.55  # 0.6 as drawn; the largest fit less often
    assert random_crop(np.zeros((10, 400, 3), np.uint8), rng, (1.0, 1.0)) == (0, 0, 400, 10)


def test_random_stretched_pictures_are_crops_of_the_photo_and_some_are_mirrored() -> None:
    across = np.tile(np.arange(160, dtype=np.uint8), (120, 1))[..., None].repeat(3, 2)
    drawn = random_views([bare(across)], FILLED, seed=0, index=0, count=16, zoom=(1.0, 2.24))
    assert drawn.student.shape == (16, 3, 128, 128)
    rises = drawn.student[:, 0, 64, -1].int() - drawn.student[:, 0, 64, 0].int()
    assert (rises > 40).any()
    assert (rises < -40).any()
    assert (drawn.cells == 8).all()


def test_a_coarser_grid_has_the_mean_of_what_a_cell_covers() -> None:
    embedding = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    found = resized(embedding, torch.tensor([[4, 4]]), 4)
    torch.testing.assert_close(found, F.avg_pool2d(embedding, 4))
