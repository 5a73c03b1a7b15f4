"""A predictor of other weights of the same SAM: every pipeline that takes one says so, before any work."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from aopsam.sam.checkpoints import file_sha256
from pipelines import calibrate, evaluate, label_corpus, retrain
from schemas.lineage import SCHEMA
from stages.registry.versions import WEIGHTS, Registry, Version
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


def test_a_registry_of_another_tiny_is_not_gone_on_from(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry(str(place / "registry"))
    weights = place / "predictor.safetensors"
    photo = {
        "content_sha256": "a" * 64,
        "source": "corpus",
        "image_id": "a",
        "annotations_sha256": None,
        "use": "learnt",
    }
    version = Version(registry.reserve("a"), None, "a", file_sha256(weights), "inputs", True, "as good", {})
    registry.publish(version, {WEIGHTS: weights.read_bytes()}, pa.Table.from_pylist([photo], schema=SCHEMA))
    assert registry.promote(version.number, None, "a")
    command = f"--corpus {place}/photos --registry {registry} --eval {place}/s.tar --run b"
    assert retrain.main(command.split()) == 2
    digest = file_sha256(place / "tiny.safetensors")[:12]
    line = f"is a predictor of tiny ({digest}), not of tiny (d662a0a6aef7): give the weights it was trained for"
    assert line in capsys.readouterr().err
    assert not (place / "registry" / "runs" / "b").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_refused_with_both_digests(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline, command = COMMANDS[name]
    assert pipeline.main(command.format(at=place).split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "predictor" in line]
    digest = file_sha256(place / "tiny.safetensors")[:12]
    assert f"the predictor was trained on the embeddings of tiny ({digest}), which are neither those of the SAM" in line
    assert "nor of the tiny that load_sam gives (d662a0a6aef7)" in line
    assert not (place / "out").exists()
