"""From a shard and a teacher to a thing head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aopsam.sam.registry import load_sam
from aopsam.sam.things import load_thing_head
from pipelines import train_thing_head
from tests.helpers.in_process import training_without_ray
from tests.helpers.made_edges import save_random_nanodet
from tests.helpers.made_shard import jpeg, two_objects, write_shard

HW = (96, 128)


def test_from_a_shard_to_a_thing_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training_without_ray(monkeypatch)
    photos = {"one": (jpeg(1, HW), [*two_objects(), {"area": 3}]), "two": (jpeg(2, HW), two_objects())}
    shard = str(write_shard(tmp_path / "s.tar", photos))
    teacher = str(save_random_nanodet(tmp_path / "nanodet.safetensors"))
    command = ["--data", shard, "--teacher", teacher, "--out", str(tmp_path / "out"), "--steps", "2", "--frames", "1"]
    assert train_thing_head.main([*command, "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert "left out: one: annotation 2: " in said.err
    assert "thing_head.safetensors for tiny" in said.out
    head = load_thing_head(tmp_path / "out" / "thing_head.safetensors")
    assert (head.sam, head.sam_sha256) == ("tiny", load_sam("tiny").sha256)
    assert head.adapt[2].weight.abs().max() > 0
    # The same command goes on from the last checkpoint, which is the end: the weights stay as they are.
    assert train_thing_head.main([*command, "--threads", "1"]) == 0
    again = load_thing_head(tmp_path / "out" / "thing_head.safetensors").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in head.state_dict().items())


def test_wrong_arguments_end_before_ray_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = save_random_nanodet(tmp_path / "nanodet.safetensors")
    shard = write_shard(tmp_path / "s.tar", {"one": (jpeg(9, HW), two_objects())})

    def refused(*flags: str, data: Path = shard, taught_by: Path = teacher) -> str:
        needed = ["--data", str(data), "--teacher", str(taught_by), "--out", str(tmp_path / "out")]
        assert train_thing_head.main([*needed, *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("train_thing_head: ")
        return line

    assert "no shard" in refused(data=tmp_path / "gone.tar")
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    assert "junk.safetensors" in refused(taught_by=tmp_path / "junk.safetensors")
    assert "gone.safetensors" in refused(taught_by=tmp_path / "gone.safetensors")
    assert "not NanoDet's weights" in refused(taught_by=Path(__file__).parents[2] / "aopsam/weights/tiny.safetensors")
    assert "--shares has 2 numbers and --data 1" in refused("--shares", "1", "2")
    assert "a share of 0.0" in refused("--shares", "0")
