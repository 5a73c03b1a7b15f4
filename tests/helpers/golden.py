"""Golden values of reference implementations: weights drawn from names alone, a photo, and samples of the answers.

What a `tests/make_golden_*.py` stores in `tests/data/NAME_golden.npz` from the reference, tests compare with ours.
"""

from __future__ import annotations

import json
import zlib
from functools import cache
from typing import Any

import numpy as np
import torch

from aopsam.sam.decode import decode_prompts
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts
from tests.helpers import ROOT

DATA = ROOT / "tests" / "data"
PHOTO = np.random.RandomState(0).randint(0, 256, (6, 8, 3), np.uint8).repeat(50, axis=0).repeat(50, axis=1)
"""(300, 400, 3) uint8: squares of one colour each."""
POINTS = np.array([[120.0, 200.0], [390.5, 10.0]], np.float32)
BOXES = np.array([[40.0, 60.0, 250.0, 280.0], [300.0, 5.0, 399.0, 120.0]], np.float32)

SQUARE_PX = {
    "efficient_sam_ti": 512,
    "efficient_sam_s": 256,
    "sam2_hiera_t": 512,
    "sam2_hiera_s": 256,
    "sam2_hiera_b+": 256,
    "sam2_hiera_l": 256,
}
"""Side of the square that golden values of models for 1024 px are made in: no weight depends on it, and it is quick."""

Shapes = dict[str, list[int]]
_PERIOD = 1_000_003


@cache
def _noise() -> np.ndarray:
    """Normal numbers; of prime count, so that no row of a matrix repeats another."""
    return np.random.RandomState(1).standard_normal(_PERIOD).astype(np.float32)


def random_state(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Weights that depend on each tensor's name and shape alone, on any version of PyTorch."""
    return {name: _random(name, shape) for name, shape in shapes.items()}


def _random(name: str, shape: list[int]) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    start, count = zlib.crc32(name.encode()) % _PERIOD, int(np.prod(shape))
    periods = -(-(start + count) // _PERIOD)
    noise = torch.from_numpy(np.tile(_noise(), periods)[start : start + count].reshape(shape))
    if name.endswith("running_var"):
        return 0.5 + noise.abs()
    if "pos_embed" in name or "positional" in name or len(shape) == 1:  # norms, biases, tables
        is_norm = len(shape) == 1 and name.endswith("weight")
        return noise if "pos" in name else is_norm + 0.1 * noise
    return noise / float(np.sqrt(np.prod(shape[1:])))


def resize_square(image_encoder: Any, prompt_encoder: Any, size: int) -> None:
    """Let a model read a square of `size` px: the same fields in the references and here."""
    image_encoder.img_size = size
    prompt_encoder.input_image_size = (size, size)
    prompt_encoder.image_embedding_size = (size // 16, size // 16)


def samples(embedding: torch.Tensor, answers: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, np.ndarray]:
    """A few numbers of an embedding (1, C, h, w) and of logits (N, M, h, w) and predicted IoU (N, M) by name."""
    cells = embedding.shape[-1] // 8
    values = {
        "embedding": embedding[0, ::32, ::cells, ::cells],
        "channel_mean": embedding.mean(dim=(0, 2, 3)),
        "channel_std": embedding.std(dim=(0, 2, 3)),
    }
    step = 4 * embedding.shape[-1] // 9
    for name, (logits, iou) in answers.items():
        values |= {f"{name}_logits": logits[..., ::step, ::step], f"{name}_iou": iou}
    return {name: value.float().numpy() for name, value in values.items()}


def ours(photo: EncodedPhoto) -> dict[str, np.ndarray]:
    """`samples` of what this project makes of `PHOTO`: three masks and one for each point and for each box."""
    points, boxes = Prompts.from_points(POINTS), Prompts.from_boxes(BOXES)
    answers = {
        f"{kind}_{'several' if several else 'single'}": decode_prompts(photo, prompts, multimask=several)
        for kind, prompts in (("points", points), ("boxes", boxes))
        for several in (True, False)
    }
    return samples(photo.embedding, answers)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Equal to 1e-4. Of masks, only what shows the photo is made here; the references draw the padding too."""
    assert set(found) == set(expected)
    for name, values in found.items():
        reference = expected[name]
        if name.endswith("_logits"):
            reference = reference[..., : values.shape[-2], : values.shape[-1]]
        np.testing.assert_allclose(values, reference, atol=1e-4, rtol=1e-4, err_msg=name)


def load(name: str) -> tuple[Shapes, dict[str, np.ndarray]]:
    """Names and shapes of a published file's weights, and the reference's `samples`."""
    with np.load(DATA / f"{name}_golden.npz") as file:
        values = {key: file[key] for key in file.files}
    return json.loads(str(values.pop("shapes"))), values


def save(name: str, shapes: Shapes, values: dict[str, np.ndarray]) -> None:
    """Write what `load` reads."""
    np.savez_compressed(DATA / f"{name}_golden.npz", shapes=np.array(json.dumps(shapes)), **values)
