"""The label actor: the same rows however it is called."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from aopsam.everything.options import GeneratorOptions
from aopsam.masks import rle
from schemas import labels
from schemas.labels import MODEL_STAGES, SCHEMA
from stages.config.label_config import LabelConfig
from stages.corpus.listing import list_images
from stages.label.actor import LabelPhotos, make_generator
from stages.label.job import LabelJob
from stages.label.row import labels_table

CONFIG = LabelConfig(prompts="grid-2", max_pixels=240 * 320)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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


def test_a_nearly_black_photo_is_labelled_and_its_row_says_so(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 4095, 4096).astype(np.uint16).reshape(64, 64)).save(tmp_path / "12 bits.png")
    (row,) = LabelPhotos(CONFIG, str(tmp_path))(list_images(str(tmp_path))).to_pylist()
    assert row["status"] in ("ok", "empty")
    assert row["message"].startswith("nearly black")


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


def test_a_photo_that_breaks_the_model_is_a_row_and_the_next_ones_are_labelled(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = LabelPhotos(CONFIG, str(photos))
    whole = label.generator.label

    def fragile(rgb: np.ndarray) -> Any:
        if rgb.shape[:2] == (120, 320):
            raise RuntimeError("no\nluck")
        return whole(rgb)

    monkeypatch.setattr(label.generator, "label", fragile)
    rows = {row["file_name"]: row for row in label(list_images(str(photos))).to_pylist()}
    assert (rows["1.png"]["status"], rows["1.png"]["message"]) == ("failed", "RuntimeError: no luck")
    assert rows["1.png"]["width"] == 320
    assert rows["2.png"]["status"] == "ok"


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
