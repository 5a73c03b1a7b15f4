"""What the head sees and where it draws; the bundled one on photos is in tests/aopsam/everything/test_redrawn.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from aopsam.mask_head.crops import OUTSIDE, box_maps, colours_of, cut, look, put_back, regions
from aopsam.mask_head.network import (
    COARSE,
    COLOUR_SHRINKAGE,
    NEAR,
    OF_FEATURES,
    SHRINKAGE,
    SIDE,
    MaskHead,
    Seen,
    around_point,
    contrast,
    figure_and_ground,
)
from aopsam.mask_head.redraw import MASKS_AT_ONCE, redraw
from aopsam.mask_head.weights import find_mask_head
from aopsam.sam.encode import EncodedPhoto, encode, square_of
from aopsam.sam.encoders.tiny import descriptor_channel, descriptors
from aopsam.sam.registry import load_sam
from tests.helpers.made_scenes import made_scene


@pytest.fixture(scope="module")
def photo() -> EncodedPhoto:
    return encode(load_sam("tiny"), made_scene(0).rgb)


POINT = torch.tensor([[10.0, 20.0]])


def _blob(rows: slice, columns: slice, hw: tuple[int, int]) -> torch.Tensor:
    logits = torch.full(hw, -3.0)
    logits[rows, columns] = 3.0
    return logits


class Adds(MaskHead):
    """Head that adds the same everywhere."""

    def __init__(self, change: float) -> None:
        super().__init__()
        self.amount = change

    def forward(self, seen: Seen) -> torch.Tensor:
        return torch.full_like(seen.logits, self.amount)


def test_a_mask_is_seen_within_its_own_box_and_a_prompted_one_within_the_prompts() -> None:
    logits = _blob(slice(20, 30), slice(40, 60), (64, 96))[None]
    assert regions(logits, POINT).tolist() == [[35, 17.5, 65, 32.5]]
    assert regions(logits, torch.tensor([[40.0, 20.0, 44.0, 40.0]])).tolist() == [[39.5, 17.5, 44.5, 42.5]]
    one = _blob(slice(9, 10), slice(5, 6), (64, 96))[None]
    assert regions(one, POINT).tolist() == [[2.5, 6.5, 8.5, 12.5]]


def test_what_is_cut_out_lies_where_it_was() -> None:
    ramp = torch.arange(40.0)[None] + 100 * torch.arange(24.0)[:, None]
    parts = torch.tensor([[4.0, 2.0, 36.0, 18.0], [10.0, 10.0, 14.0, 14.0]])
    for maps in (ramp[None, None], ramp.expand(2, 1, -1, -1)):
        found = cut(maps, parts, 8)
        for part, (x0, y0, x1, y1) in zip(found[:, 0], parts.tolist(), strict=True):
            x, y = (a + (np.arange(8) + 0.5) / 8 * (b - a) - 0.5 for a, b in ((x0, x1), (y0, y1)))
            np.testing.assert_allclose(part, x[None] + 100 * y[:, None], rtol=1e-4)
    doubled = F.interpolate(ramp[None, None], scale_factor=2.0, mode="nearest")
    coarse = cut(doubled[..., ::2, ::2], 4 * parts[:1], 8, cells=4)
    torch.testing.assert_close(coarse, cut(ramp[None, None], parts[:1], 8))


def test_what_is_drawn_is_put_back_where_it_was_cut_out() -> None:
    smooth = F.interpolate(
        torch.randn(1, 1, 6, 8, generator=torch.Generator().manual_seed(0)), (48, 64), mode="bicubic"
    )
    parts = torch.tensor([[10.0, 8.0, 42.0, 40.0]])
    back = put_back(MaskHead(), torch.zeros(1, 48, 64), cut(smooth, parts, SIDE)[:, 0], parts)
    torch.testing.assert_close(back[0, 9:39, 11:41], smooth[0, 0, 9:39, 11:41], atol=0.02, rtol=0)
    seen = torch.zeros(48, 64, dtype=torch.bool)
    seen[8:40, 10:42] = True
    assert (back[0] == OUTSIDE).eq(~seen).all()


def test_the_prompts_box_is_shown() -> None:
    parts = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    assert not box_maps(POINT, parts).any()
    inside, there = box_maps(torch.tensor([[4.0, 8.0, 20.0, 16.0]]), parts)[0]
    assert there.min() == 1
    expected = torch.zeros(SIDE, SIDE)
    expected[8 * SIDE // 32 : 16 * SIDE // 32, 4 * SIDE // 32 : 20 * SIDE // 32] = 1
    assert torch.equal(inside, expected)


def test_it_sees_descriptors_the_other_channels_of_the_embedding_and_features() -> None:
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(1, 256, 16, 16, generator=generator)
    features = torch.randn(1, OF_FEATURES, 64, 64, generator=generator)
    whole = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    seen = look(embedding, features, torch.zeros(1, 3, 128, 128), torch.zeros(1, 64, 64), POINT, whole)
    torch.testing.assert_close(seen.descriptors, cut(descriptors(embedding), whole, SIDE))
    torch.testing.assert_close(seen.features, F.interpolate(features, (SIDE, SIDE), mode="area"))
    taken = {descriptor_channel(number, position) for number in range(12) for position in range(16)}
    others = [channel for channel in range(256) if channel not in taken]
    torch.testing.assert_close(seen.context, F.interpolate(embedding[:, others], (COARSE, COARSE), mode="area"))


def test_it_sees_the_photos_colours_where_the_mask_lies(photo: EncodedPhoto) -> None:
    height, width = photo.hw
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, width // 2 :] = (255, 0, 128)
    square, (rows, columns) = square_of(photo.model, rgb)
    part = torch.tensor([[columns / 8 - 10.0, 4.0, columns / 8 + 10.0, 20.0]])
    seen = _look(photo, colours_of(square), POINT, part).colours[0]
    assert seen.shape == (3, SIDE, SIDE)
    left, right = (square[0, :, rows // 2, x, None, None] for x in (columns // 4, 3 * columns // 4))
    torch.testing.assert_close(seen[:, :, : SIDE // 2 - 2], left.expand(-1, SIDE, SIDE // 2 - 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[:, :, SIDE // 2 + 2 :], right.expand(-1, SIDE, SIDE // 2 - 2), atol=1e-4, rtol=0)


def test_colours_features_and_the_prompts_point_change_what_is_drawn(photo: EncodedPhoto) -> None:
    head = find_mask_head(photo.model)
    assert head is not None
    rows, columns = (4 * cells for cells in photo.mask_cells)
    logits = _blob(slice(8, 40), slice(10, 50), (rows, columns))[None]
    assert photo.features is not None
    grey = replace(photo, rgb=np.full_like(photo.rgb, 128))
    plain = replace(photo, features=torch.zeros_like(photo.features))
    drawn = redraw(head, photo, logits, POINT) > 0
    for other, point in (grey, POINT), (plain, POINT), (photo, POINT + 30):
        assert not torch.equal(drawn, redraw(head, other, logits, point) > 0)


def test_the_point_is_where_the_prompt_lay(photo: EncodedPhoto) -> None:
    part = torch.tensor([[8.0, 4.0, 40.0, 36.0]])
    colours = colours_of(square_of(photo.model, photo.rgb)[0])
    seen = _look(photo, colours, torch.tensor([[16.5, 12.5]]), part)
    near, wide, like, other = around_point(seen)
    row, column = 8, 8  # of 32 x 32 places, one a logit
    for nearness, deviation in zip((near, wide), NEAR, strict=True):
        assert nearness[0, row, column] == nearness.max() == 1
        assert nearness[0, row, column + 4] == pytest.approx(np.exp(-((4 / 32) ** 2) / (2 * deviation**2)), rel=1e-4)
    descriptor, colour = seen.descriptors[0, :, row, column], seen.colours[0, :, row, column]
    torch.testing.assert_close(like[0], 3 * torch.einsum("c,chw->hw", descriptor, seen.descriptors[0]))
    apart = (seen.colours[0] - colour[:, None, None]).square().mean(0)
    torch.testing.assert_close(other[0], (apart + 1e-4).sqrt())
    box = torch.tensor([[16.0, 12.0, 20.0, 20.0]])
    for told in around_point(seen._replace(point=_look(photo, colours, box, part).point)):
        assert not told.any()


def _look(photo: EncodedPhoto, colours: torch.Tensor, prompts: torch.Tensor, part: torch.Tensor) -> Seen:
    features = torch.zeros(1, OF_FEATURES, 128, 128)
    return look(photo.embedding, features, colours, torch.zeros(1, 128, 128), prompts, part)


@pytest.mark.parametrize("of_colours", [False, True])
def test_the_discriminants_are_those_of_textbooks(of_colours: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    found, inside = torch.randn(2, 3, 6, 5, generator=generator), torch.rand(2, 6, 5, generator=generator)
    shrinkage = COLOUR_SHRINKAGE if of_colours else SHRINKAGE
    score, *to_means = contrast(found, inside, shrinkage) if of_colours else figure_and_ground(found, inside)
    for number in range(2):
        x = found[number].flatten(1).double().numpy()
        weights = [w.flatten().double().numpy() + 1e-4 for w in (inside[number], 1 - inside[number])]
        means = [(x * w).sum(1) / w.sum() for w in weights]
        middle = (means[0] + means[1]) / 2
        both = sum(w / w.sum() for w in weights) / 2
        spread = np.cov(x, aweights=both, ddof=0)
        shrunk = spread + (shrinkage * np.trace(spread) / 3 + 1e-3) * np.eye(3)
        direction = np.linalg.inv(shrunk) @ (means[0] - means[1])
        expected = direction @ (x - middle[:, None])
        expected /= expected.std(ddof=1) + 1e-3
        np.testing.assert_allclose(score[number].flatten(), expected, atol=1e-4)
        for told, mean in zip(to_means, means, strict=True):
            alike = ((x - mean[:, None]) ** 2).mean(0) ** 0.5 if of_colours else 3 * mean @ x
            np.testing.assert_allclose(told[number].flatten(), alike, atol=1e-3 if of_colours else 1e-4)


def test_an_untrained_head_leaves_masks_as_they_are(photo: EncodedPhoto) -> None:
    rows, columns = (4 * cells for cells in photo.mask_cells)
    logits = torch.stack([_blob(slice(8 + n, 40), slice(10, 50), (rows, columns)) for n in range(MASKS_AT_ONCE + 2)])
    torch.manual_seed(0)
    after = redraw(MaskHead().train(), photo, logits, POINT.expand(len(logits), 2))
    assert after.shape == logits.shape
    assert torch.equal(after > 0, logits > 0)
    with pytest.raises(ValueError, match=r"encode the photo with aopsam\.sam\.encode\.encode"):
        redraw(MaskHead(), replace(photo, features=None), logits, POINT)
    assert redraw(MaskHead(), photo, logits[:0], POINT[:0]).shape == (0, rows, columns)


def test_boxes_are_in_pixels_of_the_photo(photo: EncodedPhoto) -> None:
    rows, columns = (4 * cells for cells in photo.mask_cells)
    logits = _blob(slice(8, 40), slice(10, 50), (rows, columns))[None]
    per_logit = max(photo.hw) / 128
    box = torch.tensor([[20.0, 12.0, 36.0, 28.0]]) * per_logit
    filled = redraw(Adds(50.0), photo, logits, box)[0] > 0
    y, x = (torch.nonzero(filled.any(dim))[:, 0] for dim in (1, 0))
    assert (x.min(), x.max() + 1, y.min(), y.max() + 1) == (18, 38, 10, 30)


class Keeps(Adds):
    """Head that keeps what it sees, and changes nothing."""

    def forward(self, seen: Seen) -> torch.Tensor:
        self.seen = seen
        return super().forward(seen)


def test_points_are_in_pixels_of_the_photo(photo: EncodedPhoto) -> None:
    rows, columns = (4 * cells for cells in photo.mask_cells)
    logits = torch.stack([_blob(slice(8, 40), slice(left, 50), (rows, columns)) for left in (10, 26)])
    head, places = Keeps(0.0), torch.tensor([[20.0, 12.0], [36.0, 28.0]])
    redraw(head, photo, logits, places * max(photo.hw) / 128)
    corners = torch.tensor([[0.0, 0.0], [20.0, 0.0]])  # one and a half times the masks' sides, around their middles
    torch.testing.assert_close(head.seen.extent, torch.tensor([[60.0, 48.0], [36.0, 48.0]]))
    torch.testing.assert_close(corners + head.seen.point * head.seen.extent, places, atol=0.05, rtol=0)


def test_a_mask_that_would_vanish_stays_and_the_threshold_counts(photo: EncodedPhoto) -> None:
    rows, columns = (4 * cells for cells in photo.mask_cells)
    logits = _blob(slice(8, 40), slice(10, 50), (rows, columns))[None]
    assert torch.equal(redraw(Adds(-50.0), photo, logits, POINT), logits)
    model = load_sam("tiny")
    model.mask_threshold = 1.0
    moved = redraw(MaskHead(), replace(photo, model=model), logits, POINT)
    assert torch.equal(moved > 1.0, logits > 1.0)
    assert moved.min() == OUTSIDE + 1
