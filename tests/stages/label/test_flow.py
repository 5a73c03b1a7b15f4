"""Units of work: cut the same whatever is done, kept in an index, counted, and never of two archives."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.labels import SCHEMA, Reason
from schemas.listing import SCHEMA as SCHEMA_OF_ROWS
from stages.corpus.index import key_of, read_listing
from stages.corpus.listing import list_images
from stages.label.flow import SHARE, Flow, Kind, News, _Cutter, is_undone, join_news, key_of_unit, kind_of
from stages.label.folder import DoneIds, usable_files, write_unit
from stages.label.row import blank_row, with_reason
from tests.helpers.counting_server import serve
from tests.helpers.listings import make_tar, put


def flowing(flow: Flow) -> tuple[list[pa.Table], News]:
    """Units and news of a flow, without Ray."""
    tables = list(chain.from_iterable(map(flow.list, flow.find(pa.table({})))))
    news = join_news(News.of(table) for table in tables if kind_of(table) is Kind.NEWS)
    return [table for table in tables if kind_of(table) is Kind.UNIT], news


def names(units: list[pa.Table]) -> list[list[str]]:
    return [unit.column("file_name").to_pylist() for unit in units]


def write(units: list[pa.Table], out: Path) -> None:
    for unit in units:
        rows = [with_reason(blank_row(row), Reason.NO_MASK, "") for row in unit.to_pylist()]
        write_unit(pa.Table.from_pylist(rows, schema=SCHEMA), f"{out}/labels", key_of_unit(unit))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    put(tmp_path / "photos", *(f"{number:03}.jpg" for number in range(130)), "notes.txt")
    for name in ("a", "sub/a"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"photos/{name}.tar").write_bytes(make_tar(*(f"{number}.jpg" for number in range(9)), "x.json"))
    return tmp_path


def test_units_hold_every_photo_once_and_the_first_are_small(corpus: Path) -> None:
    units, news = flowing(Flow(f"{corpus}/photos", f"{corpus}/out", {}))
    assert Counter(chain.from_iterable(names(units))) == Counter(
        list_images(f"{corpus}/photos").column("file_name").to_pylist()
    )
    loose = [unit.num_rows for unit in units if key_of_unit(unit) == ""]
    assert loose[:4] == [1, 2, 4, 4]
    assert max(loose) == 5 >= loose[-1] == 1
    keys = {key_of(name): [name.decode()] for name in (b"a.tar", b"sub/a.tar")}
    found = {key_of_unit(unit): sorted({name.partition("#")[0] for name in names([unit])[0]}) for unit in units}
    assert found.items() >= keys.items()
    assert news == News(listed=148, undone=148, archives=2, others={".txt": 1, ".json": 2}, archives_in_all=2)


@pytest.mark.parametrize("most", [None, 8])
def test_the_last_units_are_small_however_many_rows_come_at_once(most: int | None) -> None:
    rows = pa.Table.from_pylist([{"image_id": str(number), "bytes": 1} for number in range(1000)], SCHEMA_OF_ROWS)
    cut = []
    for lot in (1000, 1, 64):
        cutter = _Cutter(Flow("", "", {}, rows_a_unit=most), "", DoneIds("", []))
        lots = (rows.slice(start, lot) for start in range(0, len(rows), lot))
        cut.append([unit.num_rows for unit in chain(chain.from_iterable(map(cutter.cut, lots)), cutter.rest())])
    assert cut[0] == cut[1] == cut[2]
    left = 1000
    for size in cut[0]:
        assert size <= max(left // SHARE, 3)
        left -= size
    assert left == 0
    assert max(cut[0]) == (most or 40)


def test_a_folder_of_files_is_listed_at_once_and_any_larger_corpus_in_tasks(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(corpus / "few", *(f"{number}.jpg" for number in range(9)), "notes.txt")
    flow = Flow(f"{corpus}/few", f"{corpus}/out", {})
    units = flow.few()
    assert units is not None
    assert [unit.schema.metadata for unit in units] == [unit.schema.metadata for unit in flow.find(pa.table({}))]
    assert sorted(chain.from_iterable(names([u for u in units if kind_of(u) is Kind.UNIT]))) == [
        f"{number}.jpg" for number in range(9)
    ]
    assert read_listing(f"{corpus}/out")
    assert Flow(f"{corpus}/photos", f"{corpus}/out", {}).few() is None  # it has archives
    assert Flow(f"{corpus}/gone", f"{corpus}/out", {}).few() is None  # the task will say so
    monkeypatch.setattr("stages.corpus.listing.FILES_A_PART", 4)
    assert flow.few() is None


@pytest.mark.parametrize("rows", [None, 8])
def test_what_is_done_is_left_out_of_the_same_units(corpus: Path, rows: int | None) -> None:
    flow = Flow(f"{corpus}/photos", f"{corpus}/out", {}, rows_a_unit=rows)
    units, _ = flowing(flow)
    write(units[::2], corpus / "out")
    again, news = flowing(Flow(flow.images, flow.out, usable_files(f"{corpus}/out/labels"), rows_a_unit=rows))
    assert sorted(names(again)) == sorted(names(units[1::2]))
    assert (news.listed, news.undone) == (148, sum(map(len, names(again))))
    assert is_undone(Flow(flow.images, flow.out, usable_files(f"{corpus}/out/labels")))[1]
    write(again, corpus / "out")
    assert is_undone(Flow(flow.images, flow.out, usable_files(f"{corpus}/out/labels"))) == (148, False)


def test_units_of_few_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(make_tar(*(f"{number}.jpg" for number in range(40))))
    units, _ = flowing(Flow(f"{tmp_path}/a.tar", f"{tmp_path}/out", {}, bytes_a_unit=2500))
    assert max(unit.num_rows for unit in units) == 2
    assert sum(unit.num_rows for unit in units) == 40
    small, _ = flowing(Flow(f"{tmp_path}/a.tar", f"{tmp_path}/out", {}, bytes_a_unit=10))
    assert [unit.num_rows for unit in small] == [1] * 40


def test_a_listed_archive_is_not_read_again_until_it_changes(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/s.tar").write_bytes(make_tar(*(f"{number}.jpg" for number in range(100)), "x.json"))
    with serve(tmp_path / "photos") as (address, asked):
        flow = Flow(f"http://{address}/s.tar", f"{tmp_path}/out", {})
        first, news = flowing(flow)
        asked.clear()
        again, same = flowing(flow)
        assert (names(again), same) == (names(first), news)
        assert [one for one in asked if one[0] == "GET"] == []
        (tmp_path / "photos/s.tar").write_bytes(make_tar("new.jpg"))
        assert names(flowing(flow)[0]) == [["s.tar#new.jpg"]]


def test_the_listing_in_out_is_the_listing(corpus: Path) -> None:
    flow = Flow(f"{corpus}/photos", f"{corpus}/out", {})
    flowing(flow)
    listed = pa.concat_tables(read_listing(flow.out)).sort_by("image_id")
    assert listed.equals(list_images(f"{corpus}/photos").sort_by("image_id"))
    stray = corpus / "out/listing/files-00007.parquet"
    stray.write_bytes((corpus / "out/listing/files-00000.parquet").read_bytes())
    (corpus / "out/listing/mine.parquet").write_bytes(b"PAR1")
    flowing(flow)
    assert not stray.exists()
    assert (corpus / "out/listing/mine.parquet").exists()
    key = key_of(b"sub/a.tar")
    assert {
        row["file_name"].partition("#")[0] for row in pa.concat_tables(read_listing(flow.out, key)).to_pylist()
    } == {"sub/a.tar"}


def test_an_archive_that_cannot_be_used_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"no tar at all" * 100)
    units, news = flowing(Flow(f"{tmp_path}/s.tar", f"{tmp_path}/out", {}))
    assert [unit.column("kind").to_pylist() for unit in units] == [["special"]]
    assert (news.listed, news.archives) == (1, 1)


def test_ids_that_are_done_are_found_among_many(tmp_path: Path) -> None:
    ids = [f"{number:032x}" for number in np.random.default_rng(0).permutation(5000)]
    for part in range(5):
        pq.write_table(pa.table({"image_id": ids[part * 800 : part * 800 + 800]}), tmp_path / f"{part}.parquet")
    done = DoneIds(str(tmp_path), [f"{part}.parquet" for part in range(5)])
    assert done.lacks(pa.table({"image_id": ids})).to_pylist() == [False] * 4000 + [True] * 1000
    assert DoneIds(str(tmp_path), []).lacks(pa.table({"image_id": ids[:2]})).to_pylist() == [True, True]
