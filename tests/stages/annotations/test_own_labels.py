"""Labels of a run as annotations: where the photos are, which rows count, what a mask weighs."""

from __future__ import annotations

import hashlib
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from aopsam.predictor.frame import FRAME_SIZE
from stages.annotations.own_labels import weights
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.corpus.listing import list_images
from stages.prompt_maps.target import photo_target
from tests.helpers.made_labels import disc, label_row, mask_record, unlabelled_row, write_labels
from tests.helpers.made_shard import jpeg

HW = (96, 128)
SCORES = (0.2, 0.4)


def labelled(out: Path, images: Path) -> str:
    """A run over `images`: two masks on every photo, the second surer; returns OUT."""
    listing = list_images(str(images))
    rows = []
    for listed in listing.to_pylist():
        masks = [
            mask_record(disc(*HW, x, 50, 10), (x + 3, 50), predicted_iou=score)
            for x, score in zip((30, 90), SCORES, strict=True)
        ]
        rows.append(label_row(listed["file_name"], listed["uri"], HW[1], HW[0], masks))
        with Path(listed["path"].decode()).open("rb") as file:
            file.seek(listed["offset"] or 0)
            content = file.read(listed["length"] or -1)
        rows[-1] |= {"image_id": listed["image_id"], "content_sha256": hashlib.sha256(content).hexdigest()}
    rows.append(unlabelled_row("gone.jpg", "gone.jpg", "failed", "not_found", ""))
    write_labels(rows, out / "labels" / "a.parquet")
    pq.write_table(listing, out / "images.parquet")
    (out / "manifest.json").write_text(json.dumps({"configuration": {"images": str(images)}}))
    return str(out)


def photos(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "sub/b.jpg")):
        (folder / name).write_bytes(jpeg(number, HW))
    return folder


def read(out: str, images: str | None = None) -> tuple[list, list[str]]:
    problems: list[str] = []
    (shard,) = list_shards(out)
    return list(read_annotated(shard, problems.append, images)), problems


def test_labels_become_annotations_the_surest_first(tmp_path: Path) -> None:
    images = photos(tmp_path / "images")
    samples, problems = read(labelled(tmp_path / "out", images))
    assert [sample.id for sample in samples] == ["a", "sub/b"]
    assert samples[0].jpeg == (images / "a.jpg").read_bytes()
    assert [annotation["weight"] for annotation in samples[0].annotations] == [1.0, pytest.approx(0.5)]
    assert problems == [f"file://{tmp_path}/out/labels/a.parquet: 1 images without masks (1 failed)"]


@pytest.mark.parametrize(("source", "x"), [("interior", 30), ("recorded", 33)])
def test_the_peak_of_a_prompt_is_the_weight_of_its_mask(tmp_path: Path, source: Any, x: int) -> None:
    (sample, _), _ = read(labelled(tmp_path / "out", photos(tmp_path / "images")))
    target = photo_target(sample.annotations, HW, pytest.fail, source=source).map
    scale = FRAME_SIZE / HW[1]
    assert target[int(50 * scale), int(x * scale)] == pytest.approx(0.5)
    assert target[int(50 * scale), int((x + 60) * scale)] == 1


def test_photos_in_a_tar_have_the_ids_of_its_members(tmp_path: Path) -> None:
    images = photos(tmp_path / "images")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(images / "sub" / "b.jpg", "./b.jpg")
    (sample,), _ = read(labelled(tmp_path / "out", tmp_path / "x.tar"))
    assert (sample.id, sample.jpeg) == ("b", (images / "sub" / "b.jpg").read_bytes())


def test_a_changed_and_a_missing_photo_cost_themselves(tmp_path: Path) -> None:
    images = photos(tmp_path / "images")
    (images / "c.jpg").write_bytes(jpeg(3, HW))
    out = labelled(tmp_path / "out", images)
    (images / "a.jpg").write_bytes(b"another")
    (images / "c.jpg").unlink()
    samples, problems = read(out)
    assert [sample.id for sample in samples] == ["sub/b"]
    assert "a.jpg: the photo has changed since it was labelled" in problems[0]
    assert "c.jpg: not_found" in problems[1]


def test_photos_that_moved_are_found_where_images_says(tmp_path: Path) -> None:
    images = photos(tmp_path / "images")
    out = labelled(tmp_path / "out", images)
    moved = images.rename(tmp_path / "moved")
    assert len(read(out)[0]) == 0
    assert [sample.id for sample in read(out, str(moved))[0]] == ["a", "sub/b"]


def test_labels_without_their_listing_say_what_to_give(tmp_path: Path) -> None:
    out = labelled(tmp_path / "out", photos(tmp_path / "images"))
    (tmp_path / "out" / "images.parquet").unlink()
    samples, problems = read(out)
    assert not samples
    assert "give --images" in problems[0]


def test_a_weight_is_a_share_of_the_photos_highest_score() -> None:
    def mask(iou: float | None, stability: float = 1.0, score: float | None = None) -> dict[str, Any]:
        return {"predicted_iou": iou, "stability_score": stability, "score": score}

    assert weights([mask(0.3, 0.5), mask(0.3), mask(-1.0), mask(None), mask(math.nan)]) == [0.5, 1.0, 0.0, 0.0, 0.0]
    assert weights([mask(-0.5), mask(-1.0)]) == [1.0, 1.0]
    assert weights([mask(0.9, 1.0, 0.2), mask(0.1, 0.1, 0.8)]) == [0.25, 1.0]
    assert weights([]) == []
