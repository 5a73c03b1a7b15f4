"""From annotated photos to a scorer that labelling uses, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.sam.registry import load_sam
from aopsam.scoring.features import FEATURES
from aopsam.training.recipes import ScorerRecipe
from pipelines import train_scorer
from stages.train.scorer import ScorerJob, prepare_examples
from tests.helpers.in_process import without_ray
from tests.helpers.made_shard import jpeg, two_objects, write_shard


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    without_ray(monkeypatch)
    photos = {f"photo-{n}": (jpeg(n, (96, 128)), two_objects()) for n in range(5)}
    shard = write_shard(tmp_path / "s.tar", photos | {"broken": (b"no photo", two_objects())})
    small = ("--prompts", "4", "--free", "3", "--steps", "50")
    return ["--data", str(shard), "--sparse", str(shard), "--out", str(tmp_path / "out"), *small]


def test_a_trained_scorer_ranks_the_masks_of_its_sam(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_scorer.main(command) == 0
    printed = capsys.readouterr()
    assert f"left out: file://{tmp_path}/s.tar: broken: not a photo" in printed.err
    assert "held-out photos; correlation with the best IoU" in printed.out
    masks = pa.concat_tables([pq.read_table(file) for file in (tmp_path / "out/parts").rglob("*.parquet")])
    features = np.array(masks.column("features").drop_null().to_pylist())
    assert features[:, FEATURES.index("is_drawn")].mean() == 0.5  # as decoded, and as the mask head draws them
    path = str(tmp_path / "out/scorer.safetensors")
    generator = AutoMaskGenerator(load_sam("tiny"), prompts="grid-4", scorer=path, score_thresh=0.0)
    assert generator.scorer is not None
    assert generator.scorer.sam_sha256 == generator.model.sha256
    assert train_scorer.main(command) == 0
    assert "nothing to do: 12 photos done, 2 of them failed" in capsys.readouterr().out


@pytest.mark.parametrize(("photos", "used"), [(7, [2, 2, 2]), (2, [1, 1]), (100, [6, 5, 6])])
def test_photos_are_taken_of_all_shards(tmp_path: Path, command: list[str], photos: int, used: list[int]) -> None:
    other = {f"other-{n}": (jpeg(n, (96, 128)), two_objects()) for n in range(5)}
    dense = (f"{tmp_path}/s.tar", str(write_shard(tmp_path / "t.tar", other)))
    job = ScorerJob(dense, dense[:1], "tiny", None, None, None, ScorerRecipe(), photos)
    work = prepare_examples(job, str(tmp_path / "out"))
    read = [table for source in work.sources for table in work.reading(source.unit())]
    names = [name for table in read for name in table.column("source").to_pylist()]
    assert list(Counter(names).values()) == used


def test_what_cannot_be_used_ends_in_a_line(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong, said in (
        (command[4:], "needs annotated photos: --data, --sparse or both"),
        ([*command, "--sparse", str(tmp_path / "none")], "no shard"),
        ([*command, "--sam", "none"], "unknown SAM"),
    ):
        assert train_scorer.main(wrong) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    write_shard(tmp_path / "s.tar", {"a": (b"no photo", two_objects())})
    assert train_scorer.main(command) == 3
    assert "no masks to learn from" in capsys.readouterr().err
