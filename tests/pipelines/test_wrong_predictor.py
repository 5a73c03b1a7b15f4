"""A predictor of other weights of the same SAM: every pipeline that takes one says so, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from aopsam.sam.checkpoints import file_sha256
from pipelines import calibrate, evaluate, label_corpus
from tests.helpers.made_shard import jpeg, save_random, two_objects, write_shard

COMMANDS = {
    "label_corpus": (label_corpus, "--images {at}/photos --predictor {at}/predictor.safetensors --out {at}/out"),
    "evaluate": (
        evaluate,
        "--sam tiny --data {at}/s.tar --prompts aop --predictor {at}/predictor.safetensors --out {at}/out",
    ),
    "option": (
        evaluate,
        "--sam tiny --data {at}/s.tar --prompts aop(predictor={at}/predictor.safetensors) --out {at}/out",
    ),
    "calibrate": (calibrate, "--data {at}/s.tar --predictor {at}/predictor.safetensors --out {at}/out"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard, a folder of photos, and a predictor that belongs to a `tiny` of random weights."""
    at = tmp_path_factory.mktemp("wrong")
    save_random("tiny", at)
    write_shard(at / "s.tar", {name: (jpeg(0, (96, 128)), two_objects()) for name in "abc"})
    (at / "photos").mkdir()
    (at / "photos" / "a.jpg").write_bytes(jpeg(0, (96, 128)))
    return at


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_refused_with_both_digests(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline, command = COMMANDS[name]
    assert pipeline.main(command.format(at=place).split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "predictor" in line]
    digest = file_sha256(place / "tiny.safetensors")[:12]
    assert f"the predictor was trained on the embeddings of tiny ({digest}), which are neither those of the SAM" in line
    assert "nor of the tiny that load_sam gives (d662a0a6aef7)" in line
    assert not (place / "out").exists()
