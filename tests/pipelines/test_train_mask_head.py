"""From a shard to a mask head that labels a corpus."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aopsam.mask_head.weights import BUNDLED, load_mask_head
from aopsam.sam.registry import load_sam
from pipelines import train_mask_head
from stages.config.label_config import LabelConfig
from stages.label.actor import make_generator, weights_of
from tests.helpers.in_process import training_without_ray
from tests.helpers.made_shard import annotation, jpeg, rectangle, two_objects, write_shard

HW = (96, 128)


def test_from_a_shard_to_a_mask_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training_without_ray(monkeypatch)
    photos = {"one": (jpeg(1, HW), [*two_objects(), {"area": 3}]), "two": (jpeg(2, HW), two_objects())}
    shard = str(write_shard(tmp_path / "s.tar", photos))
    command = ["--data", shard, "--out", str(tmp_path / "out"), "--steps", "2", "--frames", "1", "--prompts", "4"]
    assert train_mask_head.main([*command, "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert "left out: one: annotation 2: " in said.err
    assert "mask_head.safetensors for tiny" in said.out
    path = tmp_path / "out" / "mask_head.safetensors"
    head = load_mask_head(path)
    assert (head.sam, head.sam_sha256) == ("tiny", load_sam("tiny").sha256)
    generator = make_generator(LabelConfig.from_mapping({"prompts": "grid-2", "mask_head": str(path)}, "test"))
    assert weights_of(generator)["mask_head"] == {"sha256": head.sha256}
    # The same command goes on from the last checkpoint, which is the end: the weights stay as they are.
    assert train_mask_head.main([*command, "--threads", "1"]) == 0
    again = load_mask_head(path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in head.state_dict().items())
    start = ["--out", str(tmp_path / "on"), "--start", str(BUNDLED), "--learning-rate", "1e-9", "--threads", "1"]
    assert train_mask_head.main([*command, *start]) == 0
    on, bundled = load_mask_head(tmp_path / "on" / "mask_head.safetensors"), load_mask_head(BUNDLED)
    for name, tensor in bundled.named_parameters():
        torch.testing.assert_close(on.get_parameter(name), tensor)


def test_wrong_arguments_end_before_ray_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*flags: str) -> str:
        assert train_mask_head.main(["--data", str(tmp_path / "s.tar"), "--out", str(tmp_path / "out"), *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("train_mask_head: ")
        return line

    assert "no shard" in refused()
    small = [annotation(rectangle(HW, 40, 40, 1, 1))]
    write_shard(tmp_path / "s.tar", {name: (jpeg(9, HW), small) for name in "abc"})
    assert "none of 3 photos to train on has a mask that is large enough" in refused()
    write_shard(tmp_path / "s.tar", {"one": (jpeg(9, HW), two_objects())})
    assert "--shares has 2 numbers and --data 1" in refused("--shares", "1", "2")
    assert "a share of 0.0" in refused("--shares", "0")
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    for flag in "--checkpoint", "--start":
        assert "junk.safetensors" in refused(flag, str(tmp_path / "junk.safetensors"))
    assert "gone.safetensors" in refused("--start", str(tmp_path / "gone.safetensors"))
