"""The label actor: the same rows however it is called."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.ledger import Labelled
from aopsam.everything.options import GeneratorOptions
from aopsam.masks import rle
from aopsam.prompting import Decoded
from aopsam.prompting.fates import Fates
from aopsam.prompting.grid import Grid
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts
from schemas import labels
from schemas.labels import MODEL_STAGES, SCHEMA
from stages.config.label_config import LabelConfig
from stages.corpus.listing import list_images
from stages.label.actor import LabelPhotos, in_groups, is_traced, make_generator
from stages.label.job import LabelJob
from stages.label.prefetch import AHEAD_PX, Opened
from stages.label.row import labels_table

CONFIG = LabelConfig(prompts="grid-2", max_pixels=240 * 320)


@pytest.fixture
def photos(tmp_path: Path, scene: np.ndarray) -> Path:
    for number, (height, width) in enumerate([(240, 320), (120, 320), (240, 100)]):
        Image.fromarray(scene[:height, :width]).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    Image.new("RGB", (400, 400)).save(tmp_path / "large.png")
    return tmp_path


def _content(table: pa.Table) -> list[dict[str, Any]]:
    names = [name for name in table.column_names if not name.startswith("seconds_")]
    return table.select(names).to_pylist()


def test_a_photo_of_twelve_bits_is_labelled_and_its_row_says_so(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 4095, 4096).astype(np.uint16).reshape(64, 64)).save(tmp_path / "12 bits.png")
    (row,) = LabelPhotos(CONFIG, str(tmp_path))(list_images(str(tmp_path))).to_pylist()
    assert row["status"] in ("ok", "empty")
    assert row["message"] == "its 16-bit values fit 12 bits, and are taken as such"


def test_rows_are_the_same_whatever_is_opened_ahead_and_whoever_calls(photos: Path) -> None:
    manifest = list_images(str(photos))
    one_by_one = LabelPhotos(CONFIG, str(photos))
    expected = [one_by_one(manifest.slice(place, 1)) for place in range(manifest.num_rows)]
    label = LabelPhotos(CONFIG, str(photos), readers=3)
    with ThreadPoolExecutor(2) as callers:
        units = list(callers.map(label, [manifest.slice(0, 2), manifest.slice(2, 1), manifest.slice(3)]))
    together = pa.concat_tables(units)
    assert together.schema == SCHEMA
    assert _content(together) == _content(pa.concat_tables(expected))
    assert {row["file_name"]: row["reason"] for row in together.to_pylist() if row["status"] != "ok"} == {
        "broken.jpg": "corrupt_image",
        "large.png": "too_many_pixels",
    }


def test_seconds_are_those_spent_on_the_photo(photos: Path) -> None:
    for row in LabelPhotos(CONFIG, str(photos))(list_images(str(photos))).to_pylist():
        assert row["seconds_read"] >= 0
        assert row["seconds_wait"] >= 0
        labelled = row["status"] == "ok"
        for stage in ("photo", *MODEL_STAGES):
            assert (row[f"seconds_{stage}"] is not None) == labelled, (row["file_name"], stage)


class _Fragile(Grid):
    """A grid that a photo of 120 rows breaks."""

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        if photo.hw[0] == 120:
            raise RuntimeError("no\nluck")
        return super().rounds(photo, fates)


def test_rows_of_photos_labelled_together_are_those_of_each(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the photos breaks the strategy, one is broken and one too large."""
    listing, found = list_images(str(photos)), []
    for at_once in (1, 3):
        label = LabelPhotos(CONFIG, str(photos), at_once=at_once)
        label.generator.strategies = [_Fragile.per_side(2)]
        groups: list[int] = []
        monkeypatch.setattr(label.generator, "label_together", partial(_noted, label.generator, groups))
        rows = label(listing).to_pylist()
        assert max(groups) == at_once
        assert all((row["seconds_encode"] or 0) > 0 for row in rows if row["status"] == "ok")
        found.append(rows)
    one_by_one, together = found
    assert Counter(row["status"] for row in together) == {"ok": 2, "failed": 2, "rejected": 1}
    for row, expected in zip(together, one_by_one, strict=True):
        for mask, other in zip(row["masks"], expected["masks"], strict=True):
            for name in ("predicted_iou", "stability_score", "score"):
                assert mask.pop(name) == pytest.approx(other.pop(name), abs=1e-5)
        seconds = {name for name in row if name.startswith("seconds_")}
        assert {name: row[name] for name in row if name not in seconds} == {
            name: expected[name] for name in row if name not in seconds
        }
    broken = next(row for row in together if row["file_name"] == "1.png")
    assert (broken["status"], broken["message"], broken["width"]) == ("failed", "RuntimeError: no luck", 320)


def _noted(
    generator: AutoMaskGenerator, groups: list[int], images: Sequence[np.ndarray], *how: Any
) -> list[Labelled | Exception]:
    groups.append(len(images))
    return AutoMaskGenerator.label_together(generator, images, *how)


def test_groups_are_bounded_by_photos_and_by_pixels() -> None:
    sizes = [AHEAD_PX - 1, 2, 3, 4, 5, AHEAD_PX + 1, 6]
    groups = in_groups((Opened({}, None, pixels) for pixels in sizes), 3)
    assert [[photo.pixels for photo in group] for group in groups] == [
        [AHEAD_PX - 1],
        [2, 3, 4],
        [5],
        [AHEAD_PX + 1],
        [6],
    ]
    waiting = iter([Opened({}, None, 1)] * 2)
    assert len(next(in_groups(waiting, 1))) == 1
    assert len(list(waiting)) == 1  # a full group does not wait for the photo after it


def test_the_encoders_precision_and_runtime_are_the_configurations() -> None:
    half = make_generator(LabelConfig(prompts="grid-2", encoder_precision="bfloat16")).model
    assert next(half.image_encoder.parameters()).dtype == torch.bfloat16
    assert next(half.mask_decoder.parameters()).dtype == torch.float32
    with pytest.raises(ValueError, match="choose from float32, bfloat16, float16, auto"):
        LabelConfig(encoder_precision="int8")


def test_what_comes_after_decoding_is_the_configurations(photos: Path) -> None:
    options = GeneratorOptions(duplicates="mask-nms", refine="prose", overlap="flat", tile_size=200, tile_whole=False)
    config = LabelConfig(prompts="grid-3", options=options)
    manifest = list_images(str(photos)).slice(0, 1)
    row = LabelPhotos(config, str(photos))(manifest).to_pylist()[0]
    assert row["prompts_decoded"] == 4 * 9  # four tiles
    assert row["refinements"] > 0
    assert row["masks_dropped"] > 0
    pixels = np.stack([rle.decode(mask["segmentation"]) for mask in row["masks"]])
    assert pixels.sum(axis=0).max() == 1
    plain = LabelPhotos(LabelConfig(prompts="grid-3"), str(photos))(manifest).to_pylist()[0]
    assert (plain["prompts_decoded"], plain["refinements"], plain["masks_dropped"]) == (9, 0, 0)
    assert any(mask["parent"] is not None for mask in plain["masks"])


def test_an_actor_keeps_the_memory_that_it_frees(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr("stages.label.actor.keep_freed_memory", lambda: kept.append(True))
    LabelPhotos(CONFIG, str(photos))
    assert kept == [True]


def test_a_column_that_nobody_fills_is_named_before_anything_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "SCHEMA", SCHEMA.append(pa.field("made_up", pa.float32())))
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"'made_up' of schemas/labels\.py is filled nowhere in stages/label/row\.py"):
        LabelJob.prepare(CONFIG, str(photos), str(out), 1)
    assert not out.exists()


def test_a_column_that_the_schema_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"'made_up' is no column of schemas/labels\.py"):
        labels_table([{"made_up": 1.0, "status": "failed"}])


def test_a_share_of_the_photos_is_traced_and_masks_are_the_same(photos: Path) -> None:
    listing = list_images(str(photos))
    plain = LabelPhotos(CONFIG, str(photos))(listing).to_pylist()
    share = sorted(int(row["image_id"][:8], 16) for row in plain if row["status"] == "ok")[1] / 2**32
    rows = LabelPhotos(LabelConfig(prompts="aop"), str(photos), trace=share)(listing).to_pylist()
    assert {row["trace"] for row in plain} == {None}
    assert sum(row["trace"] is not None for row in rows) == 1
    (row,) = (row for row in rows if row["trace"] is not None)
    assert int(row["image_id"][:8], 16) < share * 2**32
    prompts = row["trace"]["prompts"]
    assert len(prompts) == row["prompts_proposed"]
    assert sum(prompt["dropped"] is None for prompt in prompts) == row["prompts_decoded"]
    (shown,) = row["trace"]["maps"]
    grey = np.asarray(Image.open(io.BytesIO(shown["png"])))
    rgb = np.asarray(Image.open(photos / row["file_name"]))
    generator = make_generator(LabelConfig(prompts="aop"))
    torch.set_num_threads(1)  # as the actor has: sums of more threads differ in their last digits
    found = generator.label(rgb, trace=True)
    assert [mask["segmentation"] for mask in row["masks"]] == [r["segmentation"] for r in found.records]
    expected = found.trace.maps[0].confidence
    assert np.abs(grey / 255 * shown["highest"] - expected).max() <= shown["highest"] / 509
    assert shown["highest"] == pytest.approx(expected.max())
    for told, prompt in zip(prompts, found.trace.prompts, strict=True):
        assert told == {**prompt, "confidence": pytest.approx(prompt["confidence"])}


def test_all_or_none_are_traced() -> None:
    for image_id in ("0" * 32, "f" * 32):
        assert is_traced(image_id, 1.0)
        assert not is_traced(image_id, 0.0)
