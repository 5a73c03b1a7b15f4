"""Things are found where a head says, in pixels of the photo; the bundled head finds a cup and a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks import rle
from aopsam.sam.encode import encode, encode_together
from aopsam.sam.encoders.nanodet import Trunk
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.sam.things import (
    BINS,
    BUNDLED,
    CLASSES,
    ThingHead,
    Things,
    boxes_of,
    find_thing_head,
    find_things,
    load_thing_head,
    positions,
    save_thing_head,
)
from tests.helpers.free_photos import free_photos
from tests.helpers.made_edges import save_random_nanodet

SIDE = 64


class _Told(nn.Module):
    """Says at some positions how sure it is of which class, and how many strides away the sides of the box are."""

    def __init__(self, said: dict[int, tuple[int, float, tuple[int, int, int, int]]]) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        count = len(positions(SIDE))
        self.scores = torch.full((1, CLASSES, count), -9.0)
        self.distances = torch.zeros(1, 4, BINS, count)
        for place, (kind, score, sides) in said.items():
            self.scores[0, kind, place] = torch.tensor(score).logit()
            for side, bins in enumerate(sides):
                self.distances[0, side, bins, place] = 99.0

    def forward(self, at8: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scores, self.distances


def found(
    said: dict[int, tuple[int, float, tuple[int, int, int, int]]],
    input_hw: tuple[int, int] = (64, 64),
    hw: tuple[int, int] = (64, 64),
) -> Things:
    return find_things(_Told(said), torch.zeros(1, 128, SIDE // 8, SIDE // 8), input_hw, hw)  # type: ignore[arg-type]


def test_boxes_come_in_original_pixels_by_falling_score() -> None:
    # Of 64 px stride 8 has 8 × 8 positions, stride 16 has 4 × 4, stride 32 has 2 × 2. Number 9 lies at (12, 12), the
    # first of stride 16 at (8, 8), the last of stride 32 at (48, 48).
    boxes, scores = found({9: (3, 0.5, (1, 0, 1, 2)), 83: (79, 0.9, (1, 1, 0, 0))}, hw=(128, 128))
    assert scores.tolist() == pytest.approx([0.9, 0.5])
    assert boxes.tolist() == [[32, 32, 96, 96], [8, 24, 40, 56]]
    assert boxes_of(torch.zeros(1, 4, BINS, 84), SIDE)[0, 64].tolist() == pytest.approx([8 - 80, 8 - 80, 88, 88])


def test_nothing_comes_of_the_padding_and_boxes_end_with_the_photo() -> None:
    # 40 of 64 rows show the photo: stride 8 has its last row there at 36, and 48 lies below.
    boxes, scores = found({33: (0, 0.6, (9, 1, 9, 9)), 41: (0, 0.8, (1, 1, 1, 1))}, (40, 64), (80, 128))
    assert scores.tolist() == pytest.approx([0.6])
    assert boxes.tolist() == [[0, 56, 128, 80]]


def test_a_box_like_a_better_one_and_one_without_a_score_go() -> None:
    near = {9: (0, 0.8, (1, 1, 1, 1)), 10: (1, 0.7, (2, 1, 0, 1)), 50: (1, 0.01, (1, 1, 1, 1))}
    boxes, scores = found(near)
    assert scores.tolist() == pytest.approx([0.8])
    assert boxes.tolist() == [[4, 4, 20, 20]]
    assert found({}).boxes_px.shape == (0, 4)


def test_an_untaught_head_is_nanodets(tmp_path: Path) -> None:
    published = load_file(save_random_nanodet(tmp_path / "nanodet.safetensors"))
    state = {name: tensor.float() for name, tensor in published.items()}
    head, trunk = ThingHead(), Trunk()
    head.load_nanodet(state)
    trunk.load_nanodet(state)

    def convolved(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], 1, weight.shape[-1] // 2)

    def up(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return like + F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)

    with torch.no_grad():
        _, (_, *levels) = trunk(torch.randn(2, 3, 64, 64))
        scores, distances = head(levels[0])
        c8, c16, c32 = (convolved(level, f"lateral.{number}") for number, level in enumerate(levels))
        p16 = up(c32, c16)
        p8 = up(p16, c8)
        n16 = up(p8, p16)
        first = 0
        for number, level in enumerate((p8, n16, up(n16, c32))):
            plain = convolved(F.leaky_relu(convolved(level, f"heads.{number}.0"), 0.1), f"heads.{number}.1").flatten(2)
            last = first + plain.shape[2]
            torch.testing.assert_close(scores[..., first:last], plain[:, :CLASSES])
            torch.testing.assert_close(distances[..., first:last].flatten(1, 2), plain[:, CLASSES:])
            first = last
        assert scores.shape[2] == first == len(positions(64))
        head.adapt[2].weight.data.normal_()  # type: ignore[operator]
        assert not torch.equal(head(levels[0])[0], scores)
    with pytest.raises(ValueError, match=r"not NanoDet's weights: stages.2.down.weight is missing"):
        head.load_nanodet({})


def test_the_bundled_head_finds_a_cup_and_a_person(tiny: Sam) -> None:
    photos = {photo.id: photo for photo in free_photos()}
    for name, mask in (("coffee", 2), ("astronaut", 3)):
        photo = photos[name]
        things = encode(tiny, photo.rgb).things
        assert things is not None
        boxes, scores = things
        assert (scores[:-1] >= scores[1:]).all()
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([*photo.rgb.shape[1::-1]] * 2)).all()
        x, y, width, height = rle.bbox_xywh(photo.rles[mask])
        middle = torch.tensor([x + width / 2, y + height / 2])
        surest = boxes[0]
        assert ((surest[:2] < middle) & (middle < surest[2:])).all()
        assert scores[0] > 0.3


def test_things_are_those_of_each_photo_in_company(tiny: Sam) -> None:
    photos = [photo.rgb for photo in free_photos()][:2]
    for rgb, together in zip(photos, encode_together(tiny, photos), strict=True):
        alone, other = encode(tiny, rgb).things, together.things
        assert alone is not None
        assert other is not None
        torch.testing.assert_close(alone.boxes_px[:5], other.boxes_px[:5], atol=0.1, rtol=1e-3)


def test_other_weights_have_no_things(small_sam: Sam, scene: np.ndarray) -> None:
    assert encode(small_sam, scene).things is None
    photo = encode(assemble(TinyEncoder(64)), scene)
    assert photo.trunk is not None
    assert photo.trunk.shape == (1, 128, 8, 8)
    assert photo.things is None


def test_a_head_of_ones_own_in_place_of_the_bundled_one(tmp_path: Path, tiny: Sam) -> None:
    rgb = free_photos()[0].rgb
    photo, bundled = encode(tiny, rgb), find_thing_head(tiny)
    assert bundled is not None
    assert photo.with_thing_head(None) is photo.with_thing_head(bundled) is photo
    head = load_thing_head(BUNDLED)
    for weights in head.heads.parameters():
        weights.data.mul_(0.95)
    save_thing_head(head, tmp_path / "own.safetensors")
    own = find_thing_head(tiny, str(tmp_path / "own.safetensors"))
    assert own is not None
    things = photo.with_thing_head(own).things
    assert things is not None
    options = {"prompts": "aop", "strategy_options": {"things": 9}, "score_thresh": 0.0}
    generator = AutoMaskGenerator(tiny, thing_head=str(tmp_path / "own.safetensors"), **options)
    assert generator.thing_head is not None
    assert generator.thing_head.sha256 == own.sha256
    for maker, is_own in ((generator, True), (AutoMaskGenerator(tiny, **options), False)):
        boxes = [record["box"] for record in maker.generate(rgb) if "box" in record]
        assert boxes
        assert all((things.boxes_px[:9] - torch.tensor(box)).abs().amax(1).min() < 0.1 for box in boxes) == is_own
    head.sam_sha256 = "ab"
    save_thing_head(head, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"a thing head of tiny \(ab\), not of tiny"):
        AutoMaskGenerator(tiny, thing_head=str(tmp_path / "other.safetensors"))


def test_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    torch.manual_seed(1)
    head = ThingHead()
    head.sam, head.sam_sha256 = "tiny", "ab"
    save_thing_head(head, tmp_path / "things.safetensors", {"recipe_seed": "1"})
    again = load_thing_head(tmp_path / "things.safetensors")
    assert (again.sam, again.sam_sha256, len(again.sha256)) == ("tiny", "ab", 64)
    assert not again.training
    assert all(
        torch.equal(tensor, head.state_dict()[name].half()) for name, tensor in again.half().state_dict().items()
    )
    with pytest.raises(FileNotFoundError, match=r"no such thing head; train one with pipelines/train_thing_head.py"):
        load_thing_head(tmp_path / "gone.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a thing head of save_thing_head: metadata lacks 'sam'"):
        load_thing_head(tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", {"sam": "tiny", "sam_sha256": ""})
    with pytest.raises(ValueError, match="not the tensors of a thing head"):
        load_thing_head(tmp_path / "other.safetensors")


def test_the_bundled_head_belongs_to_the_bundled_tiny(tiny: Sam) -> None:
    assert load_thing_head(BUNDLED).sam_sha256 == tiny.sha256
