from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import curate
from schemas.curation import SCHEMA
from tests.helpers.free_photos import free_photos
from tests.helpers.in_process import without_ray
from tests.helpers.made_shard import annotation, jpeg, rectangle, save_random, two_objects, write_shard
from tests.helpers.planted_copies import encoded, planted_copy


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def test_planted_copies_go_and_a_choice_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sam, _ = save_random("tiny", tmp_path)
    free = free_photos()
    photos = {photo.id: (encoded(photo.rgb), [{"segmentation": mask} for mask in photo.rles]) for photo in free}
    made = {f"made-{seed}": (jpeg(seed, (96, 128)), two_objects()) for seed in range(4)}
    photo = free[0].rgb
    half = [annotation(rectangle((photo.shape[0] // 2, photo.shape[1] // 2), 10, 10, 20, 20))]
    whole = [annotation(rectangle(photo.shape[:2], 10, 10, 20, 20))]
    copies = {
        "exact": photos[free[0].id],
        "half": (planted_copy(photo, "resized"), half),
        "poor": (planted_copy(photo, "re-encoded"), whole),
        "turned": (planted_copy(photo, "mirrored"), whole),
        "none": (b"text", whole),
    }
    for name, part in (("a", photos), ("b", made), ("c", copies)):
        write_shard(tmp_path / f"{name}.tar", part)
    data = ["--data", *(str(tmp_path / f"{name}.tar") for name in "cab"), "--checkpoint", str(sam), "--threads", "1"]
    assert curate.main([*data, "--keep", "5", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "12 photos and 1 problems: 5 chosen, 4 near-duplicates and 3 not needed left out" in printed.out
    assert f"left out: file://{tmp_path}/c.tar: none: not_an_image" in printed.err
    table = pq.read_table(tmp_path / "out" / "curation.parquet")
    assert table.schema.equals(SCHEMA, check_metadata=True)
    rows = {row["image_id"]: row for row in table.to_pylist()}
    # Of exact copies with as many masks the first name stays.
    assert {name for name, row in rows.items() if row["duplicate_of"]} == {"exact", "half", "poor", "turned"}
    assert (tmp_path / "out" / "cover.png").stat().st_size > 0
    assert (tmp_path / "out" / "sheet.png").stat().st_size > 0

    again = [*data[:1], *data[3:0:-1], *data[4:], "--keep", "5", "--out", str(tmp_path / "again")]
    assert curate.main(again) == 0
    assert pq.read_table(tmp_path / "again" / "curation.parquet").equals(table)
    assert curate.main(again) == 0
    assert "nothing to do: 13 photos done, 1 of them failed" in capsys.readouterr().out
    assert curate.main([*again, "--keep", "6"]) == 2
    assert "keep: '5' there, '6' now" in capsys.readouterr().err


def test_no_usable_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = [write_shard(tmp_path / "s.tar", {"bare": (jpeg(0, (96, 128)), [])}), write_shard(tmp_path / "t.tar", {})]
    data = ["--data", *map(str, shards), "--keep", "0.5", "--threads", "1", "--out", str(tmp_path / "out")]
    assert curate.main(data) == 3
    *lines, last = capsys.readouterr().err.splitlines()
    assert last == "curate: no photo could be used"
    assert f"left out: file://{tmp_path}/s.tar: bare: no annotated mask" in lines
    assert any(line.endswith("t.tar: neither a photo nor a JSON is in it") for line in lines)
    assert not (tmp_path / "out/curation.parquet").exists()
    assert curate.main(data) == 3
    assert "nothing to do: 2 photos done, 2 of them failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "1.5"], "--keep 1.5: neither a whole number of photos nor a share"),
        (["--keep", "5", "--seed", "-1"], "--seed -1; expected a whole number of at least 0"),
        (["--keep", "5", "--sam", "huge"], "unknown SAM 'huge'"),
        (["--keep", "5", "--data", "/nowhere"], "no shard"),
    ],
)
def test_wrong_arguments_end_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    shard = write_shard(tmp_path / "s.tar", {})
    assert curate.main(["--data", str(shard), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
