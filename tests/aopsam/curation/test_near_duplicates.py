from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pytest
from PIL import Image

from aopsam.curation import near_duplicates
from aopsam.curation.fingerprint import fine_detail, fingerprint, mirrored
from aopsam.curation.near_duplicates import DUPLICATE, duplicate_groups
from aopsam.photos.decode import open_photo
from tests.helpers.free_photos import SAMPLES
from tests.helpers.made_scenes import made_scene
from tests.helpers.planted_copies import COPIES, encoded, planted_copy


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """Different photos: made-up scenes, the project's samples, similar scenes, and nearly blank walls."""
    made = [made_scene(seed).rgb for seed in range(6)]
    free = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(SAMPLES.glob("*.jpg"))]
    return made + free + [_beach(seed) for seed in range(4)] + [_wall(seed) for seed in range(4)]


def _beach(seed: int) -> np.ndarray:
    """The same sky, sea and sand each time; who walks there differs."""
    rng = np.random.default_rng(seed)
    rgb = np.repeat(np.linspace(120, 220, 240)[:, None, None], 320, axis=1) * np.array([0.8, 0.9, 1.0])
    rgb[120:] = (200, 180, 140)
    for _ in range(5):
        row, column = rng.integers(90, 200), rng.integers(10, 290)
        rgb[row : row + 30, column : column + 12] = rng.integers(0, 255, 3)
    return (rgb + rng.normal(0, 3, rgb.shape)).clip(0, 255).astype(np.uint8)


def _wall(seed: int) -> np.ndarray:
    """One grey that darkens towards the corners, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:240j, -1:1:320j]
    return (200 - 30 * (x**2 + y**2)[..., None] + rng.normal(0, 3, (240, 320, 3))).clip(0, 255).astype(np.uint8)


def _groups(files: Iterable[bytes]) -> list[int]:
    files = list(files)
    prints = np.stack([fingerprint(open_photo(file, 10**8).rgb) for file in files])
    return duplicate_groups(prints, [hashlib.sha256(file).digest() for file in files]).tolist()


def test_different_photos_are_no_duplicates(photos: list[np.ndarray]) -> None:
    assert _groups(map(encoded, photos)) == list(range(len(photos)))


@pytest.mark.parametrize("kind", COPIES)
def test_planted_copies_are_found(photos: list[np.ndarray], kind: str) -> None:
    with_detail = photos[:-4]  # of the walls nothing but noise could be told apart
    files = [*map(encoded, with_detail), *(planted_copy(photo, kind) for photo in with_detail)]
    assert _groups(files) == [*range(len(with_detail)), *range(len(with_detail))]


def test_the_same_file_is_a_duplicate_even_of_a_flat_photo() -> None:
    white, black = encoded(np.full((64, 64, 3), 255, np.uint8)), encoded(np.zeros((64, 64, 3), np.uint8))
    assert _groups([white, black, white]) == [0, 1, 0]


def test_blocks_find_what_all_pairs_find(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    prints = rng.normal(0, 20, (40, 32, 32)).astype(np.float16)
    for copy, photo in ((7, 31), (30, 12), (8, 30), (39, 0)):  # one chain of three among them
        prints[copy] = mirrored(prints[photo][None])[0] if copy % 2 else prints[photo]
    monkeypatch.setattr(near_duplicates, "BLOCK", 6)
    found = duplicate_groups(prints, [bytes([number]) for number in range(40)])

    straight, turned = fine_detail(prints), fine_detail(mirrored(prints))
    linked = np.maximum(straight @ straight.T, straight @ turned.T) >= DUPLICATE
    slow = list(range(40))
    for first, second in np.argwhere(linked).tolist():
        slow = [slow[first] if number == slow[second] else number for number in slow]
    same = np.array(slow)[:, None] == np.array(slow)
    np.testing.assert_array_equal(found[:, None] == found, same)
    assert found[0] == 0
    assert len(set(found.tolist())) == 36
