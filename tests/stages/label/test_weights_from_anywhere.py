"""Every file that a configuration names may lie in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from aopsam.detector.weights import BUNDLED as DETECTOR
from aopsam.predictor.weights import BUNDLED as PREDICTOR
from aopsam.sam.registry import MODELS
from aopsam.scoring.weights import BUNDLED as SCORER
from pipelines.label_corpus import parse_arguments
from stages.label.actor import make_generator, weights_of
from stages.storage.errors import BadInput
from stages.storage.location import open_filesystem


def test_weights_and_configuration_from_a_bucket(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AOPSAM_CACHE", str(tmp_path))
    sam = MODELS["tiny"].weights
    assert isinstance(sam, Path)
    filesystem, root = open_filesystem(bucket)
    for path in (sam, PREDICTOR, SCORER, DETECTOR):
        filesystem.put_file(str(path), f"{root}/{path.name}")
    yaml = f"checkpoint: {bucket}/{sam.name}\npredictor: {bucket}/{PREDICTOR.name}\nscorer: {bucket}/{SCORER.name}\n"
    filesystem.pipe_file(f"{root}/run.yaml", yaml.encode())
    flags = ["--images", "in", "--out", "out", "--config", f"{bucket}/run.yaml"]
    there = [parse_arguments(flags).label]
    there.append(parse_arguments([*flags, "--prompts", f"oas-box(detector={bucket}/{DETECTOR.name})"]).label)
    here = [parse_arguments([*flags[:4], "--prompts", prompts]).label for prompts in ("aop", "oas-box")]
    for one, other in zip(there, here, strict=True):
        found = [weights_of(make_generator(config.with_written_options())) for config in (one, other)]
        assert found[0] == found[1]
        assert {"scorer", "thing_head"} <= set(found[0])
    with pytest.raises(BadInput, match=r"/gone\.yaml: no such file"):
        parse_arguments([*flags[:4], "--config", f"{bucket}/gone.yaml"])
