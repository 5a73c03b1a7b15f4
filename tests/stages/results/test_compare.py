from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.results.compare import compare_labels, difference
from tests.helpers.made_gallery import index_of, made_run, photo_of
from tests.helpers.made_labels import disc, label_row, mask_record, unlabelled_row, write_labels


def row(*discs: tuple[float, float, float], name: str = "a.png") -> dict[str, Any]:
    masks = [mask_record(disc(60, 80, x, y, radius), (x, y)) for x, y, radius in discs]
    return label_row(name, name, 80, 60, masks)


LEFT, RIGHT, RIGHT_SMALLER, FAR = (20, 30, 10), (60, 30, 10), (60, 30, 8), (40, 50, 5)


def test_the_same_masks_in_any_order_agree() -> None:
    found = difference(row(LEFT, RIGHT), row(RIGHT, LEFT), 0.5)
    assert (found.agreement, found.both, found.only) == (1.0, 2, (0, 0))
    assert found.partners == ([(1, 1.0), (0, 1.0)], [(1, 1.0), (0, 1.0)])
    assert difference(row(), row(), 0.5).agreement == 1.0


def test_masks_of_one_side_and_pairs_that_differ() -> None:
    found = difference(row(LEFT, RIGHT), row(FAR, RIGHT_SMALLER), 0.5)
    iou = disc(60, 80, *RIGHT_SMALLER).sum() / disc(60, 80, *RIGHT).sum()
    assert found.only == (1, 1)
    assert [partner and partner[0] for partner in found.partners[0]] == [None, 1]
    assert found.agreement == pytest.approx(iou / 3)
    strict = difference(row(LEFT, RIGHT), row(FAR, RIGHT_SMALLER), float(np.nextafter(iou, 1)))
    assert (strict.both, strict.only, strict.agreement) == (0, (2, 2), 0.0)


def test_a_mask_has_one_partner_at_most() -> None:
    found = difference(row(RIGHT), row(RIGHT_SMALLER, RIGHT), 0.1)
    assert found.partners == ([(1, 1.0)], [None, (0, 1.0)])


def test_photos_that_one_lacks_or_that_are_others_have_nothing_in_common() -> None:
    other = row(LEFT) | {"content_sha256": "0" * 64}
    failed = unlabelled_row("a.png", "a.png", "failed", "corrupt_image", "cut short")
    assert (difference(row(LEFT), None, 0.5).kind, difference(row(LEFT), None, 0.5).agreement) == ("only in A", 0.0)
    assert difference(None, row(LEFT), 0.5).kind == "only in B"
    assert (difference(row(LEFT), other, 0.5).kind, difference(row(LEFT), other, 0.5).both) == ("another photo", 0)
    assert difference(row(LEFT), failed, 0.5).status == ("ok", "failed")
    assert difference(row(LEFT), failed, 0.5).only == (1, 0)


def test_a_malformed_mask_names_its_photo() -> None:
    broken = row(LEFT)
    broken["masks"][0]["segmentation"]["counts"] = "0"
    with pytest.raises(ValueError, match=r"a\.png: RLE"):
        difference(row(LEFT), broken, 0.5)


def two_runs(folder: Path) -> tuple[Path, Path, Path]:
    """(images, A, B): in B the photos come in another order, a.png lacks a mask, sub/b.png its row."""
    images, ours, rows = made_run(folder)
    _, theirs, others = made_run(folder, "other")
    others[0]["masks"] = others[0]["masks"][1:]
    for mask in others[0]["masks"]:
        mask["parent"] = None
    write_labels(
        list(reversed([one for one in others if one["file_name"] != "sub/b.png"])), theirs / "labels/x.parquet"
    )
    assert len(rows) == 7
    return images, ours, theirs


def test_the_largest_differences_come_first_in_the_table_and_on_the_page(tmp_path: Path) -> None:
    images, ours, theirs = two_runs(tmp_path)
    compared = compare_labels(str(ours), str(theirs), 0.5, str(images), str(tmp_path / "page"), 60)
    assert [one.name for one in compared.differences[:2]] == ["sub/b.png", "a.png"]
    assert compared.only == (5, 0)
    lines = compared.table(rows=2).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["photo", "A", "B", "both", "only", "A", "only", "B", "agreement"],
        ["sub/b.png", "4", "0", "0", "4", "0", "0.000", "only", "in", "A"],
        ["a.png", "4", "3", "3", "1", "0", "0.750"],
    ]
    assert lines[3] == "7 photos: 7 masks in both (IoU >= 0.5), 5 only in A, 0 only in B; mean agreement 0.821"
    photos = index_of(tmp_path / "page")
    assert [photo["name"] for photo in photos] == [
        one.name.replace("\n", "\\n").replace("\u202e", "\\u202e") for one in compared.differences
    ]
    assert photos[1]["values"] == [0, 0, 0, 0.75, 3, 1, 0]
    a, b = photo_of(tmp_path / "page", photos[1]["key"])["sides"]
    assert [mask.get("partner") for mask in a] == [None, [0, 1.0], [1, 1.0], [2, 1.0]]
    assert [mask.get("partner") for mask in b] == [[1, 1.0], [2, 1.0], [3, 1.0]]
    assert a[1]["colour"] == b[0]["colour"] != a[0]["colour"]


def test_two_rows_of_an_image_are_refused(tmp_path: Path) -> None:
    _, ours, rows = made_run(tmp_path)
    write_labels([rows[0], rows[0]], ours / "labels" / "y.parquet")
    with pytest.raises(ValueError, match="2 rows too many"):
        compare_labels(str(ours), str(ours), 0.5, None, None, 60)
