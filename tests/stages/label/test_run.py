"""Labelling on Ray: every image gets its row, whatever dies on the way."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import listing
from schemas.labels import SCHEMA, Reason
from stages.engine.resources import Resources, choose_resources
from stages.label.account import Account
from stages.label.folder import done_images, passing_failures, write_unit
from stages.label.retry import label_again
from stages.label.row import blank_row, with_reason
from stages.label.run import choose_rows_per_file, label_listing
from stages.results.read import read_labels
from tests.helpers.labellers import Blank, InPairs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def _listing(count: int) -> pa.Table:
    names = [f"{i:03}.jpg" for i in range(count)]
    rows = [{"image_id": n, "uri": n, "file_name": n, "path": n.encode(), "kind": "file"} for n in names]
    return pa.Table.from_pylist(rows, schema=listing.SCHEMA)


def _label(count: int, folder: Path, **arguments: object) -> Account:
    resources = Resources(actors=2, threads=1, device="cpu")
    done = list(label_listing(_listing(count), str(folder), partial(Blank, **arguments), resources, 4))
    return Account(*(sum(getattr(part, name) for part in done) for name in ("rows", "masks", "failed")))


def _reasons(folder: Path) -> Counter[str]:
    rows = pa.concat_tables(read_labels(str(folder), ["image_id", "reason"]))
    ids = rows.column("image_id").to_pylist()
    assert len(ids) == len(set(ids))
    return Counter(rows.column("reason").to_pylist())


def test_every_image_gets_one_row_and_a_file_holds_a_unit_the_first_ones_smaller(tmp_path: Path) -> None:
    assert _label(10, tmp_path) == Account(rows=10, masks=0, failed=0)
    assert _reasons(tmp_path) == {"no_mask": 10}
    assert sorted(pq.read_metadata(path).num_rows for path in tmp_path.glob("*.parquet")) == [1, 2, 3, 4]


def test_an_actor_opens_the_next_unit_beside_the_one_it_labels(tmp_path: Path) -> None:
    resources = Resources(actors=1, threads=1, device="cpu")
    done = list(label_listing(_listing(2), str(tmp_path), InPairs, resources, 1))
    assert sum(part.rows for part in done) == 2


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    _label(10, tmp_path)
    files = sorted(tmp_path.iterdir())
    stamps = {path: path.stat().st_mtime_ns for path in files}
    files[0].unlink()
    missing = 10 - len(done_images(str(tmp_path)))
    assert _label(10, tmp_path).rows == missing
    assert sorted(tmp_path.iterdir()) == files
    assert {path: path.stat().st_mtime_ns for path in files[1:]} == {path: stamps[path] for path in files[1:]}
    assert _label(10, tmp_path).rows == 0


def test_a_photo_that_kills_the_worker_becomes_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    assert _label(9, tmp_path, fatal=("002.jpg",)) == Account(rows=9, masks=0, failed=1)
    assert _reasons(tmp_path) == {"no_mask": 8, "worker_died": 1}


def test_rows_of_failed_photos_are_made_again_in_their_file(tmp_path: Path) -> None:
    made = [blank_row(row) for row in _listing(4).to_pylist()]
    reasons = (Reason.WORKER_DIED, Reason.NO_MASK, Reason.NOT_FOUND, Reason.EMPTY_FILE)
    rows = [with_reason(row, reason, "") for row, reason in zip(made, reasons, strict=True)]
    name = write_unit(pa.Table.from_pylist(rows, schema=SCHEMA), str(tmp_path))
    failed = passing_failures(str(tmp_path))
    assert failed.keys() == {"000.jpg", "002.jpg"}
    resources = Resources(actors=1, threads=1, device="cpu")
    assert sum(part.rows for part in label_again(_listing(4), str(tmp_path), failed, Blank, resources)) == 2
    assert _reasons(tmp_path) == {"no_mask": 3, "empty_file": 1}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert pq.read_table(tmp_path / name).column("image_id").to_pylist() == [row["image_id"] for row in made]


def test_resources_that_the_user_left_open() -> None:
    assert (choose_rows_per_file(5), choose_rows_per_file(10**6)) == (4, 256)
    chosen = choose_resources()
    assert (chosen.device, chosen.readers) == ("cpu", 2)
    assert choose_resources(units=1).actors == 1
    assert choose_resources(3, 1) == Resources(actors=3, threads=1, device="cpu")
