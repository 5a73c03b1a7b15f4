from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.labels import Reason, Status
from stages.results.read import find_labels
from stages.results.verify import STATUS_OF, Verified, verify_listing
from tests.helpers.made_labels import listing, made_out, made_rows, write_labels


def verify(listed: list[dict[str, Any]], labels: Path, report: Callable[[str], None]) -> Verified:
    files = find_labels(str(labels))
    return verify_listing(listing(listed), files, files.paths, report)


def verified(rows: list[dict[str, Any]], listed: list[dict[str, Any]], folder: Path) -> tuple[Verified, list[str]]:
    lines: list[str] = []
    write_labels(rows, folder / "labels" / "x.parquet")
    return verify(listed, folder, lines.append), lines


def test_a_good_run(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    assert verify(rows, out, pytest.fail) == Verified(images=7, masks=12, mismatches=0)
    assert verify(rows, out / "labels", pytest.fail).masks == 12


def test_rows_and_images_are_one_to_one(tmp_path: Path) -> None:
    rows = made_rows(tmp_path / "images")
    result, lines = verified([*rows[1:], rows[2]], rows[:6], tmp_path)
    assert result.mismatches == 3
    assert lines == [
        f"huge.png: row {rows[6]['image_id']} belongs to no image of the listing",
        "a.png: 0 rows, must be 1",
        "c #1.png: 2 rows, must be 1",
    ]
    _, lines = verified(rows, [*rows, rows[0]], tmp_path)
    assert "the listing: 1 image ids occur twice" in lines


MASK_DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "area": ({"area": 1}, "mask 1: area 1, the RLE has"),
    "box too wide": (
        {"bbox": [53.0, 33.0, 15.0, 14.0]},
        "mask 1: bbox [53.0, 33.0, 15.0, 14.0], the RLE has",
    ),
    "no box": ({"bbox": None}, "mask 1: bbox None"),
    "of another image": ({"segmentation": {"size": [120, 80], "counts": "PX2"}}, "RLE size [120, 80], the image has"),
    "runs": ({"segmentation": {"size": [80, 120], "counts": "123"}}, "mask 1: RLE runs add up to 6"),
    "no counts": ({"segmentation": {"size": [80, 120], "counts": None}}, "mask 1: RLE counts must be"),
    "no segmentation": ({"segmentation": None}, "RLE size None"),
    "nan": ({"predicted_iou": float("nan")}, "mask 1: predicted_iou nan"),
    "infinite": ({"stability_score": float("inf")}, "mask 1: stability_score inf"),
    "score": ({"score": float("nan")}, "mask 1: score nan"),
    "no stability": ({"stability_score": None}, "mask 1: stability_score None"),
    "point outside": ({"point_coords": [[121.0, 3.0]]}, "mask 1: point [121.0, 3.0] lies outside 120 x 80"),
    "no prompt": ({"point_coords": None}, "mask 1: neither point_coords nor box"),
    "half a box": ({"box": [1.0, 2.0]}, "mask 1: box [1.0, 2.0]"),
    "crop outside": ({"crop_box": [0.0, 0.0, 121.0, 80.0]}, "mask 1: crop_box [0.0, 0.0, 121.0, 80.0] lies outside"),
    "parent elsewhere": ({"parent": 7}, "mask 1: parent 7 is not a larger mask of the row"),
    "smaller parent": ({"parent": 0}, "mask 1: parent 0 is not a larger mask of the row"),
    "no crop": ({"crop_box": None}, "mask 1: crop_box None"),
}


@pytest.mark.parametrize("name", MASK_DAMAGE)
def test_a_damaged_mask_is_one_line(name: str, tmp_path: Path) -> None:
    changes, expected = MASK_DAMAGE[name]
    rows = made_rows(tmp_path / "images")
    damaged = copy.deepcopy(rows)
    damaged[0]["masks"][1] |= changes
    result, lines = verified(damaged, rows, tmp_path)
    assert result.mismatches == len(lines) == 1
    assert lines[0].startswith("a.png: ")
    assert expected in lines[0]


ROW_DAMAGE: dict[str, tuple[int, dict[str, Any], str]] = {
    "ok without masks": (0, {"masks": []}, "status ok with 0 masks"),
    "status unknown": (0, {"status": "fine"}, "'fine'"),
    "reason unknown": (5, {"reason": "because"}, "'because'"),
    "reason of another status": (5, {"reason": "hidden_name"}, "status failed does not go with reason hidden_name"),
    "no width": (0, {"width": None}, "size 80 x None"),
    "no digest": (3, {"content_sha256": None}, "content_sha256 None"),
    "negative": (3, {"prompts_decoded": -1}, "0 masks of -1 prompts decoded, 40 proposed"),
    "fewer proposed than decoded": (0, {"prompts_proposed": 0}, "prompts decoded, 0 proposed"),
    "masks of no prompt": (0, {"prompts_decoded": 0}, "masks of 0 prompts decoded"),
}


@pytest.mark.parametrize("name", ROW_DAMAGE)
def test_a_damaged_row_is_one_line(name: str, tmp_path: Path) -> None:
    place, changes, expected = ROW_DAMAGE[name]
    rows = made_rows(tmp_path / "images")
    damaged = [row | changes if number == place else row for number, row in enumerate(rows)]
    _, lines = verified(damaged, rows, tmp_path)
    assert len(lines) == 1
    assert expected in lines[0]


def test_masks_on_an_image_that_is_not_ok(tmp_path: Path) -> None:
    rows = made_rows(tmp_path / "images")
    failed = rows[0] | {"status": "failed", "reason": "read_error"}
    assert verified([failed, *rows[1:]], rows, tmp_path)[1] == ["a.png: status failed with 4 masks"]


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    rows = made_rows(tmp_path / "images")
    _, lines = verified([rows[0]], [rows[0], rows[1] | {"file_name": "\x1b[2Jx\n\u202egpj.exe"}], tmp_path)
    assert lines == ["\\x1b[2Jx\\n\\u202egpj.exe: 0 rows, must be 1"]


def test_an_unreadable_file_is_a_mismatch_and_the_others_are_still_read(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    lines: list[str] = []
    (out / "labels" / "run_0-0.parquet").write_bytes(b"PAR1")
    result = verify(rows, out, lines.append)
    assert (result.mismatches, result.masks) == (5, 0)
    assert lines[0].startswith("unreadable table: ")
    assert "run_0-0.parquet" in lines[0]


def test_every_reason_has_its_status() -> None:
    assert set(STATUS_OF) == set(Reason)
    assert set(STATUS_OF.values()) == set(Status)
