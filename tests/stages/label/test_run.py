"""Labelling on Ray: every image gets its row, whatever dies on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.labels import SCHEMA, Reason
from stages.corpus.listing import list_images
from stages.engine.resources import Resources, choose_resources
from stages.engine.steps import Stage
from stages.label.account import Account
from stages.label.flow import Flow, News, join_news
from stages.label.folder import passing_failures, usable_files, write_unit
from stages.label.retry import label_again
from stages.label.row import blank_row, with_reason
from stages.label.run import Labelling, label_corpus
from stages.results.read import read_labels
from tests.helpers.labellers import Blank, BlankOpened, InPairs, Opener
from tests.helpers.listings import make_tar, put
from tests.helpers.made_labels import done_images

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

TWO = Resources(actors=2, threads=1, device="cpu", most=2)


def _label(
    folder: Path, label: Callable[[], Stage] = Blank, resources: Resources = TWO, rows: int | None = 4
) -> tuple[Account, News]:
    labelling = Labelling(label, partial(Opener, str(folder / "photos")), BlankOpened)
    flow = Flow(str(folder / "photos"), str(folder / "out"), usable_files(f"{folder}/out/labels"), rows_a_unit=rows)
    told = list(label_corpus(flow, labelling, resources))
    accounts = [one for one in told if isinstance(one, Account)]
    done = Account(*(sum(getattr(part, name) for part in accounts) for name in ("rows", "masks", "failed")))
    return done, join_news(one for one in told if isinstance(one, News))


def _reasons(folder: Path) -> Counter[str]:
    rows = pa.concat_tables(read_labels(str(folder / "out"), ["image_id", "reason"]))
    ids = rows.column("image_id").to_pylist()
    assert len(ids) == len(set(ids))
    return Counter(rows.column("reason").to_pylist())


def _photos(folder: Path, count: int) -> None:
    put(folder / "photos", *(f"{number:03}.jpg" for number in range(count)))


def test_every_image_gets_one_row_and_a_file_holds_a_unit_of_one_archive(tmp_path: Path) -> None:
    _photos(tmp_path, 10)
    (tmp_path / "photos/a.tar").write_bytes(make_tar(*(f"{number}.jpg" for number in range(5)), "x.json"))
    (tmp_path / "photos/notes.txt").touch()
    done, news = _label(tmp_path)
    assert done == Account(rows=15, masks=0, failed=0)
    assert news == News(listed=15, undone=15, archives=1, others={".txt": 1, ".json": 1}, archives_in_all=1)
    assert _reasons(tmp_path) == {"no_mask": 15}
    rows = {path.name: pq.read_metadata(path).num_rows for path in (tmp_path / "out/labels").iterdir()}
    assert sorted(rows.values()) == [1] * 13 + [2]
    assert sorted(count for name, count in rows.items() if name.startswith("labels-a.tar-")) == [1] * 5

    lost = next(path for path in (tmp_path / "out/labels").iterdir() if path.name.startswith("labels-a.tar-"))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/labels").iterdir() if path != lost}
    missing = pq.read_metadata(lost).num_rows
    lost.unlink()
    done, news = _label(tmp_path)
    assert (done.rows, news.listed, news.undone) == (missing, 15, missing)
    assert lost.exists()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert _label(tmp_path)[0].rows == 0


def test_an_actor_opens_the_next_unit_beside_the_one_it_labels(tmp_path: Path) -> None:
    _photos(tmp_path, 2)
    alone = Resources(actors=1, threads=1, device="cpu", most=1)
    assert _label(tmp_path, InPairs, alone, rows=1)[0].rows == 2


def test_photos_that_are_opened_apart_come_in_larger_files_and_one_that_kills_its_opener_is_a_row(
    tmp_path: Path,
) -> None:
    _photos(tmp_path, 6)
    (tmp_path / "photos/a.tar").write_bytes(make_tar(*(f"{number}.jpg" for number in range(4))))
    (tmp_path / "photos/kills.jpg").touch()
    apart = Resources(actors=1, threads=1, device="cpu", most=1, openers=1)
    assert _label(tmp_path, resources=apart, rows=1)[0] == Account(rows=11, masks=0, failed=1)
    assert _reasons(tmp_path) == {"no_mask": 10, "worker_died": 1}
    files = sorted(path.name for path in (tmp_path / "out/labels").iterdir())
    assert len(files) < 11
    assert any(name.startswith("labels-a.tar-") for name in files)


def test_rows_of_failed_photos_are_made_again_in_their_file(tmp_path: Path) -> None:
    _photos(tmp_path, 4)
    listing, out = list_images(str(tmp_path / "photos")), tmp_path / "out/labels"
    made = [blank_row(row) for row in listing.to_pylist()]
    reasons = (Reason.WORKER_DIED, Reason.NO_MASK, Reason.NOT_FOUND, Reason.EMPTY_FILE)
    rows = [with_reason(row, reason, "") for row, reason in zip(made, reasons, strict=True)]
    name = write_unit(pa.Table.from_pylist(rows, schema=SCHEMA), str(out))
    failed = passing_failures(str(out), [name])
    assert len(failed) == 2
    labelling = Labelling(Blank, Blank, Blank)
    assert sum(part.rows for part in label_again([listing], str(out), failed, labelling, TWO)) == 2
    assert _reasons(tmp_path) == {"no_mask": 3, "empty_file": 1}
    assert [path.name for path in out.iterdir()] == [name]
    ids = pq.read_table(out / name).column("image_id").to_pylist()
    assert ids == [row["image_id"] for row in made]
    assert done_images(str(out)) == set(ids)


def test_resources_that_the_user_left_open() -> None:
    chosen = choose_resources()
    assert (chosen.device, chosen.readers, chosen.openers) == ("cpu", 2, 0)
    assert choose_resources(units=1).actors == 1
    assert choose_resources(3, 1) == Resources(actors=3, threads=1, device="cpu", most=3)
