"""Pictures for two models: SAM's own preprocessing, the same view at two sizes, nothing of the padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from torch.nn import functional as F

from aopsam.training.views import Frame, normalised, random_views, resized, shown, stack, view
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
