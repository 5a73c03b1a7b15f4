"""`label_corpus.py --retry-failed`: what failed by chance is labelled again, in the place of its row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from segment_anything.modeling import Sam

from pipelines import label_corpus, verify_labels
from schemas.labels import Reason
from stages.corpus.fetch import FetchError
from stages.label import folder, retry
from stages.label.actor import LabelPhotos
from stages.results.read import read_labels
from tests.helpers.in_process import WorkerDeath, without_ray
from tests.helpers.made_shard import jpeg

LATE = ("late.jpg", "later.jpg")
FATAL = "kills.jpg"


@pytest.fixture(params=["", "memory://"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"{request.param}{tmp_path}/out"
    memory = fsspec.filesystem("memory")
    if memory.exists(str(tmp_path)):
        memory.rm(str(tmp_path), recursive=True)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Sam) -> Path:
    """Six photos; two dangle, one is broken, one kills its worker."""
    without_ray(monkeypatch)
    monkeypatch.setattr("stages.label.actor.load_sam", lambda *_: tiny)
    images = tmp_path / "photos"
    images.mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg", FATAL)):
        (images / name).write_bytes(jpeg(number, (48, 64)))
    (images / "broken.jpg").write_bytes(b"")
    for name in LATE:
        (images / name).symlink_to(tmp_path / "mount" / name)
    monkeypatch.setattr(LabelPhotos, "__call__", killed)
    return images


LABEL = LabelPhotos.__call__


def killed(stage: LabelPhotos, listing: pa.Table) -> pa.Table:
    if FATAL in listing.column("file_name").to_pylist():
        raise WorkerDeath
    return LABEL(stage, listing)


def mount(folder: Path) -> None:
    (folder / "mount").mkdir(exist_ok=True)
    for number, name in enumerate(LATE):
        (folder / "mount" / name).write_bytes(jpeg(10 + number, (48, 64)))


def run(images: Path, out: str, *flags: str) -> int:
    given = ["--images", str(images), "--out", out, "--prompts", "grid-1", "--rows-per-file", "2"]
    return label_corpus.main([*given, "--pred-iou-thresh", "0", "--stability-score-thresh", "0", *flags])


def reasons(out: str) -> dict[str, str]:
    rows = pa.concat_tables(read_labels(out, ["file_name", "reason"])).to_pylist()
    assert len({row["file_name"] for row in rows}) == len(rows)
    return {row["file_name"]: row["reason"] for row in rows}


BEFORE = {
    **{"a.jpg": "none", "b.jpg": "none", "broken.jpg": "empty_file"},
    **{FATAL: "worker_died", "late.jpg": "not_found", "later.jpg": "not_found"},
}


def test_what_failed_by_chance_is_labelled_again_in_its_place(
    photos: Path, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photos, out) == 0
    assert reasons(out) == BEFORE
    capsys.readouterr()
    mount(tmp_path)
    assert run(photos, out) == 0
    said = capsys.readouterr().out
    assert "nothing to do: all 6 images have their row" in said
    assert "4 failed, 3 for reasons that may have passed (2 not_found, 1 worker_died): --retry-failed" in said
    filesystem, root = fsspec.url_to_fs(out)
    files = sorted(filesystem.ls(f"{root}/labels", detail=False))
    assert run(photos, out, "--retry-failed") == 0
    assert reasons(out) == BEFORE | dict.fromkeys(LATE, "none")
    assert sorted(filesystem.ls(f"{root}/labels", detail=False)) == files
    assert "labelling photos (3 of them again)" in capsys.readouterr().out
    assert json.loads(filesystem.cat_file(f"{root}/manifest.json"))["reason"]["none"] == 4
    monkeypatch.setattr(LabelPhotos, "__call__", LABEL)
    assert run(photos, out, "--retry-failed") == 0
    assert reasons(out) == BEFORE | dict.fromkeys((*LATE, FATAL), "none")
    capsys.readouterr()
    assert run(photos, out, "--retry-failed") == 0
    assert "1 failed\n" in capsys.readouterr().out
    assert verify_labels.main(["--images", str(photos), "--labels", out]) == 0


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_crash_in_between_loses_and_doubles_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    out, written = f"{tmp_path}/out", 0
    assert run(photos, out) == 0
    mount(tmp_path)

    def crash(*arguments: Any) -> None:
        nonlocal written
        if written == after:
            raise KeyboardInterrupt
        folder.replace_rows(*arguments)
        written += 1

    monkeypatch.setattr(retry, "MOST_ROWS", 1)
    with monkeypatch.context() as patched:
        patched.setattr(retry, "replace_rows", crash)
        assert run(photos, out, "--retry-failed") == 130
    between = reasons(out)
    assert between.keys() == BEFORE.keys()
    assert sum(between[name] == "none" for name in LATE) == max(0, after - 1)  # the first is the one that kills
    assert run(photos, out, "--retry-failed") == 0
    assert reasons(out) == BEFORE | dict.fromkeys(LATE, "none")


def test_a_crash_while_a_file_is_replaced_leaves_the_former_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{tmp_path}/out"
    assert run(photos, out) == 0
    mount(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(folder, "write_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(photos, out, "--retry-failed") == 130
    assert reasons(out) == BEFORE


def test_photos_that_are_gone_keep_their_rows(photos: Path, tmp_path: Path) -> None:
    out = f"{tmp_path}/out"
    assert run(photos, out) == 0
    (photos / "late.jpg").unlink()
    mount(tmp_path)
    assert run(photos, out, "--retry-failed") == 0
    assert reasons(out) == BEFORE | {"later.jpg": "none"}


def test_photos_labelled_again_have_the_masks_of_a_first_run(photos: Path, tmp_path: Path) -> None:
    assert run(photos, f"{tmp_path}/out") == 0
    mount(tmp_path)
    assert run(photos, f"{tmp_path}/out", "--retry-failed") == 0
    assert run(photos, f"{tmp_path}/first") == 0
    masks = [
        {row["file_name"]: row["masks"] for table in read_labels(f"{tmp_path}/{name}") for row in table.to_pylist()}
        for name in ("out", "first")
    ]
    assert masks[0] == masks[1]


def test_new_photos_and_failed_ones_in_one_run(photos: Path, tmp_path: Path) -> None:
    out = f"{tmp_path}/out"
    assert run(photos, out) == 0
    mount(tmp_path)
    shutil.copy(photos / "a.jpg", photos / "new.jpg")
    assert run(photos, out, "--retry-failed") == 0
    assert reasons(out) == BEFORE | dict.fromkeys((*LATE, "new.jpg"), "none")


def test_reading_fails_and_goes_well_later(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = f"{tmp_path}/out"
    mount(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("stages.corpus.fetch.fetch", refused)
        assert run(photos, out) == 3
    assert set(reasons(out).values()) == {"read_error", "worker_died"}
    assert run(photos, out, "--retry-failed") == 0
    assert reasons(out) == BEFORE | dict.fromkeys(LATE, "none")


def refused(row: Any, _: str) -> bytes:
    raise FetchError(Reason.READ_ERROR, f"{row['file_name']}: the server is away")
