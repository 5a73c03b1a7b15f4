"""Before any training, the model answers a prompt with the region under it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from torch.nn import functional as F

from aopsam.masks import rle
from aopsam.sam.encoders.tiny import DESCRIPTOR, descriptor_channel, descriptors
from aopsam.training.annotated import Annotated
from aopsam.training.build_sam import build_sam
from aopsam.training.initial_decoder.layout import NEAR_CHANNEL, READ_CHANNELS, SIDE_CHANNELS
from aopsam.training.recipes import SamRecipe
from aopsam.training.validation import prompted_iou


@pytest.fixture(scope="module")
def sam() -> Sam:
    return build_sam(SamRecipe()).eval()


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    """(1, 256, 32, 32): smooth random descriptors of mean 0 and unit length, nothing else."""
    noise = torch.randn(1, DESCRIPTOR, 32, 32, generator=torch.Generator().manual_seed(0))
    values = F.interpolate(noise, scale_factor=4.0, mode="bicubic")
    values = F.normalize(values - values.mean(1, keepdim=True), dim=1)
    packed = torch.zeros(1, 256, 32, 32)
    for number in range(DESCRIPTOR):
        for position in range(16):
            down, across = divmod(position, 4)
            packed[:, descriptor_channel(number, position)] = values[:, number, down::4, across::4]
    assert torch.equal(descriptors(packed), values)
    return packed


@torch.no_grad()
def decoded(sam: Sam, embedding: torch.Tensor, **prompt: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Return outputs of the tested modules by name, for prompts in frame pixels."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: seen.__setitem__(name, output)

    transformer = sam.mask_decoder.transformer
    hooks = [
        transformer.layers[0].norm4.register_forward_hook(keep("cells")),
        transformer.norm_final_attn.register_forward_hook(keep("tokens")),
    ]
    sparse, dense = sam.prompt_encoder(**{"points": None, "boxes": None, "masks": None} | prompt)
    sam.mask_decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)
    for hook in hooks:
        hook.remove()
    return seen


def test_a_click_reads_the_descriptor_under_it(sam: Sam, embedding: torch.Tensor) -> None:
    points = torch.rand(64, 1, 2, generator=torch.Generator().manual_seed(1)) * 480 + 16
    read = decoded(sam, embedding, points=(points, torch.ones(64, 1)))["tokens"][:, 2, READ_CHANNELS]
    around = F.avg_pool2d(descriptors(embedding), 3, 1, 1)[0]
    x, y = (points[:, 0] / 4).long().T
    alike = F.cosine_similarity(read, around[:, y, x].T)
    assert alike.median() > 0.9
    assert (alike > 0.7).float().mean() > 0.9
    far = F.cosine_similarity(read, around[:, (y + 64) % 128, x].T)
    assert far.abs().mean() < 0.4


def test_cells_know_how_near_a_click_is(sam: Sam, embedding: torch.Tensor) -> None:
    cells = decoded(sam, embedding, points=(torch.tensor([[[100.0, 300.0]]]), torch.ones(1, 1)))["cells"]
    near = cells[0, :, NEAR_CHANNEL].view(32, 32)
    assert divmod(int(near.argmax()), 32) == (18, 6)
    assert near[18, 20] < 0.5 * near[18, 6]
    assert cells[0, :, SIDE_CHANNELS].abs().max() < 0.1 * near.max()


def test_cells_know_the_sides_of_a_box(sam: Sam, embedding: torch.Tensor) -> None:
    box = torch.tensor([[96.0, 160.0, 320.0, 224.0]])
    cells = decoded(sam, embedding, boxes=box)["cells"]
    middle = torch.arange(32) * 16 + 8.0
    for side, (inside, axis) in enumerate(((middle > 96, 0), (middle < 320, 0), (middle > 160, 1), (middle < 224, 1))):
        drawn = cells[0, :, SIDE_CHANNELS.start + side].view(32, 32)
        drawn = drawn.mean(0) if axis == 0 else drawn.mean(1)
        assert torch.equal(drawn > drawn.max() / 2, inside)


def test_a_box_reads_what_lies_inside(sam: Sam, embedding: torch.Tensor) -> None:
    corners = torch.rand(32, 2, generator=torch.Generator().manual_seed(2)) * 300 + 32
    boxes = torch.cat([corners, corners + 80 + corners.flip(1) / 8], dim=1)
    read = decoded(sam, embedding, boxes=boxes)["tokens"][:, 2, READ_CHANNELS]
    inside = [descriptors(embedding)[0, :, y0:y1, x0:x1].mean((1, 2)) for x0, y0, x1, y1 in (boxes / 4).long().tolist()]
    assert F.cosine_similarity(read, torch.stack(inside)).median() > 0.8


class Border(torch.nn.Module):
    """Stands for a trained edge head: the border of a mask (512, 512)."""

    def __init__(self, mask: np.ndarray) -> None:
        super().__init__()
        share = F.avg_pool2d(torch.from_numpy(mask)[None, None].float(), 4)
        self.logits = 16 * (F.max_pool2d(share, 3, 1, 1) + F.max_pool2d(-share, 3, 1, 1)) - 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


@pytest.mark.parametrize(("kind", "wanted", "share"), [("point", 0.7, 0.7), ("box", 0.85, 1.0)])
def test_a_decoder_before_training_finds_a_plain_region(sam: Sam, kind: str, wanted: float, share: float) -> None:
    rgb = np.full((512, 512, 3), 60, np.uint8)
    mask = np.zeros((512, 512), bool)
    mask[120:320, 150:330] = True
    sam = copy.deepcopy(sam)
    sam.image_encoder.edge = Border(mask)
    rgb[mask] = (200, 190, 120)
    points = np.array([(x, y) for x in range(170, 320, 40) for y in range(140, 310, 40)], dtype=np.float64)
    areas = np.full(len(points), mask.sum(), dtype=np.float64)
    photo = Annotated("plain", rgb, [dict(rle.encode(mask))] * len(points), points, areas)
    ious, _ = prompted_iou(sam, photo, kind)
    assert (ious.max(1) > wanted).mean() >= share


def test_same_recipe_same_weights() -> None:
    one, two = build_sam(SamRecipe()).state_dict(), build_sam(SamRecipe()).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
