"""Edge maps by the bytes of their photos: read, written, found again, and what holds none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aopsam.photos.decode import open_photo
from aopsam.sam.checkpoints import file_sha256
from aopsam.training.hed import Hed, edge_map
from schemas.edge_maps import SCHEMA
from stages.edge_maps.actor import BuildEdgeMaps, write_file
from stages.edge_maps.files import done_photos, read_edge_maps
from stages.edge_maps.photos import ReadPhotos
from stages.edge_maps.run import list_units
from tests.helpers.made_edges import save_random_hed, write_made_edges
from tests.helpers.made_shard import jpeg, two_objects, write_shard

HW = (96, 128)


def digest(photo: bytes) -> str:
    return hashlib.sha256(photo).hexdigest()


def units(folder: Path, problems: list[str]) -> list[pa.Table]:
    """A shard of two photos, one without annotations, and a folder of one photo, a broken one and a text."""
    write_shard(folder / "s.tar", {"a": (jpeg(1, HW), two_objects()), "b": (jpeg(2, HW), [])})
    (folder / "photos").mkdir()
    (folder / "photos/c.jpg").write_bytes(jpeg(3, HW))
    (folder / "photos/d.jpg").write_bytes(b"no photo")
    (folder / "photos/e.txt").write_text("text")
    return list_units([str(folder / "s.tar")], [str(folder / "photos")], problems.append)


def test_photos_of_shards_and_listings_get_what_hed_finds(tmp_path: Path) -> None:
    problems: list[str] = []
    listed = units(tmp_path, problems)
    assert problems == [f"{tmp_path}/photos: 1 other file not looked at (.txt 1)"]
    weights = save_random_hed(tmp_path / "hed.safetensors")
    build, folder = BuildEdgeMaps(str(weights), threads=1), str(tmp_path / "out")
    tables = [build(table) for unit in listed for table in ReadPhotos()(unit)]
    accounts = [row for table in tables for row in write_file(table, folder).to_pylist()]
    assert [account["rows"] for account in accounts] == [2, 1]
    assert [line.split(":")[0] for account in accounts for line in account["problems"]] == ["d.jpg"]
    maps = read_edge_maps(folder)
    assert set(maps) == {digest(jpeg(seed, HW)) for seed in (1, 2, 3)}
    hed = Hed.load(weights).to(next(build.hed.parameters()).dtype)
    expected = edge_map(hed, open_photo(jpeg(2, HW)).rgb)
    assert np.abs(maps[digest(jpeg(2, HW))].astype(int) - expected).max() <= 1
    done = done_photos(folder, file_sha256(weights))
    assert done == set(maps)
    left = [row for unit in listed for table in ReadPhotos(done)(unit) for row in table.to_pylist()]
    assert [row["name"] for row in left] == ["d.jpg"]
    with pytest.raises(ValueError, match="edge maps of other weights of HED"):
        done_photos(folder, "0" * 64)
    for file in (tmp_path / "out").iterdir():
        assert pq.read_schema(file).equals(SCHEMA, check_metadata=True)


def test_a_folder_without_edge_maps_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none: no edge maps \(edges-\*\.parquet\)"):
        read_edge_maps(str(tmp_path / "none"))
    pq.write_table(pa.table({"image_id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no edge maps"):
        read_edge_maps(str(tmp_path))
    pq.write_table(pa.table({"image_id": ["a"]}), tmp_path / f"edges-{'0' * 16}.parquet")
    with pytest.raises(ValueError, match=r"edges-0{16}\.parquet: not edge maps: edge_maps: unknown column 'image_id'"):
        read_edge_maps(str(tmp_path))


def test_edge_maps_are_found_by_the_bytes_of_their_photo(tmp_path: Path) -> None:
    maps = read_edge_maps(str(write_made_edges(tmp_path / "maps", [b"one", b"two"])))
    assert len(maps) == 2
    assert maps[digest(b"one")].shape == (48, 64)
    assert maps[digest(b"one")][:, 31:33].min() == 255
    assert digest(b"three") not in maps
    assert maps.get(digest(b"three")) is None
