from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aopsam.masks import rle
from stages.config.selection import Selection
from stages.results.export import EXPORTS, export_labels
from stages.results.export.selection import Chosen, select
from tests.helpers.made_labels import disc, label_row, mask_record, write_labels
from tests.helpers.made_run import made_run

SIZE = (60, 80)


def row(*parents: int | None) -> dict[str, Any]:
    """A photo with five discs: 0 in 1 in 2; 3 apart; 4 half in 2."""
    discs = [(40, 30, 5), (40, 30, 10), (40, 30, 20), (70, 50, 6), (60, 30, 8)]
    scores = (0.9, 0.5, 0.7, 0.8, 0.6)
    masks = [mask_record(disc(*SIZE, *xyr), xyr[:2], score) for xyr, score in zip(discs, scores, strict=True)]
    for mask, parent in zip(masks, parents, strict=False):
        mask["parent"] = parent
    return label_row("a", "a", SIZE[1], SIZE[0], masks)


def numbers(**options: Any) -> list[int]:
    return [mask.number for mask in select(row(), Selection(**options))]


def test_filters_by_score_area_and_count() -> None:
    assert numbers() == [0, 1, 2, 3, 4]
    assert numbers(min_score=0.7) == [0, 2, 3]
    areas = [mask["area"] for mask in row()["masks"]]
    assert numbers(min_area=areas[3]) == [1, 2, 3, 4]
    assert numbers(max_area=areas[1] - 1) == [0, 3, 4]
    assert numbers(max_masks=2) == [0, 3]
    assert numbers(max_masks=2, max_area=areas[1], min_score=0.55) == [0, 3]


def test_nested_links_parts_to_wholes_that_are_left() -> None:
    assert [mask.parent for mask in select(row(), Selection(overlap="nested"))] == [1, 2, None, None, None]
    assert [mask.parent for mask in select(row(), Selection(min_score=0.6))] == [2, None, None, None]
    # Links of the labels are kept, and passed on where a parent is left out.
    linked = row(1, 3, None, None, None)
    assert [mask.parent for mask in select(linked, Selection())] == [1, 3, None, None, None]
    assert [mask.parent for mask in select(linked, Selection(min_score=0.6))] == [3, None, None, None]


def test_largest_leaves_out_what_lies_in_a_larger_one() -> None:
    assert numbers(overlap="largest") == [2, 3, 4]
    assert numbers(overlap="largest", max_area=400) == [1, 3, 4]


def test_flat_gives_each_pixel_to_the_smallest() -> None:
    before = select(row(), Selection())
    flat = select(row(), Selection(overlap="flat"))
    bitmaps = [rle.decode(mask.record["segmentation"]) for mask in flat]
    assert np.sum(bitmaps, axis=0).max() == 1
    assert [mask.area for mask in flat] == [int(bitmap.sum()) for bitmap in bitmaps]
    assert flat[0].area == before[0].area
    assert flat[1].area == before[1].area - before[0].area
    assert [mask.record["area"] for mask in flat] == [mask.area for mask in flat]
    assert {mask.parent for mask in flat} == {None}
    rims = [mask_record(disc(*SIZE, 40, 30, radius), (40, 30)) for radius in (10, 10.5)]
    both = label_row("a", "a", SIZE[1], SIZE[0], rims)
    assert [mask.number for mask in select(both, Selection(overlap="flat"))] == [0, 1]
    assert [mask.number for mask in select(both, Selection(overlap="flat", min_area=100))] == [0]


def test_a_cropped_mask_is_its_box() -> None:
    for mask in select(row(), Selection()):
        left, top, width, height = mask.bbox_xywh
        whole = rle.decode(mask.record["segmentation"])
        np.testing.assert_array_equal(mask.cropped(), whole[top : top + height, left : left + width])
        assert mask.cropped().sum() == mask.area == mask.runs.area


def test_a_mask_of_another_size_than_its_photo_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'a': mask 0: RLE size \[60, 80\], the image has \[60, 81\]"):
        select(row() | {"width": 81}, Selection())


def test_counts_of_what_is_left_out(tmp_path: Path) -> None:
    out, _ = made_run(tmp_path)
    exported = export_labels(str(out), "coco", str(tmp_path / "x"), Selection(min_score=0.65, min_masks=1))
    assert (exported.images, exported.annotations, exported.masks_left_out) == (4, 16, 12)
    assert dict(exported.left_out) == {"failed": 1, "too few masks": 1}
    assert str(exported).endswith("(left out: 1 failed, 1 too few masks, 12 masks)")


def test_photos_that_are_gone_or_changed_are_left_out_with_a_line(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    (tmp_path / "images" / "a.jpg").unlink()
    (tmp_path / "images" / "sub" / "grey.png").write_bytes(b"another")
    exported = export_labels(str(out), "webdataset", str(tmp_path / "x"), Selection())
    assert (exported.images, exported.left_out["photo gone or changed"]) == (3, 2)
    assert "a.jpg: not_found" in str(exported).splitlines()[1]
    assert hashlib.sha256(Path(rows[1]["uri"]).read_bytes()).hexdigest() == rows[1]["content_sha256"]


def test_numbers_stay_whatever_is_selected(tmp_path: Path) -> None:
    out, _ = made_run(tmp_path)

    def ids(selection: Selection) -> set[tuple[int, int, str, int]]:
        return {
            (photo.number, photo.first_mask + mask.number, photo.row["file_name"], mask.number)
            for photo in Chosen(str(out), selection).photos()
            for mask in photo.masks
        }

    few, every = ids(Selection(min_score=0.75, min_masks=2)), ids(Selection())
    assert few < every
    assert len({number for _, number, _, _ in every}) == 28


@pytest.mark.parametrize("to", EXPORTS)
def test_any_format_writes_labels_without_a_photo_to_show(to: str, tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    for path in (out / "labels").iterdir():
        path.unlink()
    write_labels(rows[5:], out / "labels" / "labels-a.parquet")
    exported = export_labels(str(out), to, str(tmp_path / "x"), Selection())
    assert (exported.images, exported.annotations, dict(exported.left_out)) == (0, 0, {"failed": 1})
    assert any((tmp_path / "x").rglob("*.*"))
