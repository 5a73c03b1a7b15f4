"""Labelling from and to a store of S3's kind, with a photo that ends its worker: one row an image, resumed too."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.core import url_to_fs

from pipelines import label_corpus, verify_labels
from stages.label.actor import LabelPhotos
from stages.results.read import read_labels
from tests.helpers.in_process import without_ray
from tests.helpers.labellers import deadly
from tests.helpers.listings import make_tar
from tests.helpers.made_shard import jpeg

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_a_bucket_of_photos_and_a_shard(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.label.job.LabelPhotos", partial(deadly, LabelPhotos))
    filesystem, path = url_to_fs(bucket)
    for number in range(4):
        filesystem.pipe_file(f"{path}/photos/{number}.jpg", jpeg(number, (48, 64)))
    filesystem.pipe_file(f"{path}/photos/kills.jpg", jpeg(9, (48, 64)))
    filesystem.pipe_file(f"{path}/photos/s.tar", make_tar("a.jpg", "b.jpg"))
    images, out = f"{bucket}/photos", f"{bucket}/out"
    given = ["--images", images, "--out", out, "--actors", "1"]
    command: list[Any] = [*given, "--prompts", "grid-1", "--rows-per-file", "2"]

    def reasons() -> dict[str, str]:
        rows = pa.concat_tables(read_labels(out, ["file_name", "reason"])).to_pylist()
        assert len(rows) == 7
        return {row["file_name"]: row["reason"] for row in rows}

    assert label_corpus.main(command) == 0
    found = reasons()
    assert {name for name, reason in found.items() if reason == "worker_died"} == {"kills.jpg"}
    assert found["s.tar#a.jpg"] == "not_an_image"
    names = [name.rpartition("/")[2] for name in filesystem.ls(f"{path}/out/labels", detail=False)]
    assert sorted(name.startswith("labels-s.tar-") for name in names) == [False, True]
    assert verify_labels.main(["--images", images, "--labels", out]) == 0
    filesystem.rm_file(f"{path}/out/labels/{min(name for name in names if 's.tar' in name)}")
    without_ray(monkeypatch)
    assert label_corpus.main(command) == 0
    assert reasons() == found
    capsys.readouterr()
    assert label_corpus.main(command) == 0
    assert "nothing to do: all 7 images" in capsys.readouterr().out
