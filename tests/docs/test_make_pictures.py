"""The pictures of docs/how_it_works.md can be drawn again, tell what the run did, and stay small."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw
from segment_anything.modeling import Sam

import aopsam
from docs.make_pictures import OF_README_PX, draw_masks, draw_pictures
from tests.helpers import ROOT


def test_captions_add_up_to_the_prompts_of_the_run(
    tiny: Sam, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[str] = []
    write = ImageDraw.ImageDraw.text

    def kept(self: ImageDraw.ImageDraw, xy: tuple[int, int], text: str, *rest: object) -> None:
        captions.append(text)
        write(self, xy, text, *rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", kept)
    pictures = draw_pictures(scene, tiny, grid=2)
    labelled = aopsam.AutoMaskGenerator(tiny).label(scene)
    counts = [tuple(map(int, re.findall(r"(\d+) (?:decoded|dropped)", text))) for text in captions if "round" in text]
    assert sum(decoded for decoded, _ in counts) == labelled.prompts_decoded
    assert sum(dropped for _, dropped in counts) == labelled.prompts_proposed - labelled.prompts_decoded
    assert f"aop: {labelled.prompts_decoded} prompts, {len(labelled.records)} masks" in captions
    assert any(text.startswith("grid-2: 4 prompts, ") for text in captions)
    assert set(pictures) == {"map", "rounds", "masks"}


def test_masks_lie_on_the_photos_side_by_side(tiny: Sam, scene: np.ndarray) -> None:
    tall = np.ascontiguousarray(scene[:, : scene.shape[1] // 2])
    picture = np.asarray(draw_masks([scene, tall], tiny))
    plain = [
        np.asarray(Image.fromarray(rgb).resize((round(rgb.shape[1] * OF_README_PX / rgb.shape[0]), OF_README_PX)))
        for rgb in (scene, tall)
    ]
    first = plain[0].shape[1]
    assert picture.shape == (OF_README_PX, first + 6 + plain[1].shape[1], 3)
    assert (picture[:, first : first + 6] == 255).all()
    for part, rgb in zip((picture[:, :first], picture[:, first + 6 :]), plain, strict=True):
        changed = (np.abs(part.astype(int) - rgb).max(2) > 20).mean()
        assert 0.2 < changed < 1


def test_pictures_of_the_page_are_small_and_all_shown() -> None:
    pictures = sorted((ROOT / "docs").glob("aop_*.jpg"))
    page = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\((aop_\w+\.jpg)\)", page)) == [path.name for path in pictures]
    assert sum(path.stat().st_size for path in pictures) < 300_000
    for path in pictures:
        with Image.open(path) as opened:
            assert opened.width > 600
