"""A scorer's file: written and read, refused where it does not fit, found for the weights that it belongs to; which of
its two answers is a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aopsam.sam.decode import decode_passing
from aopsam.sam.encode import encode
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import load_sam
from aopsam.scoring.features import FEATURES, mask_features
from aopsam.scoring.network import THING_EVIDENCE, MaskScorer
from aopsam.scoring.weights import find_scorer, load_scorer, save_scorer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    scorer = MaskScorer()
    scorer.sam, scorer.sam_sha256, scorer.score_thresh, scorer.pred_iou_thresh = "tiny", "0" * 64, 0.25, 0.125
    scorer.mean.normal_()
    save_scorer(scorer, tmp_path / "scorer.safetensors", {"seed": "0"})
    return tmp_path / "scorer.safetensors"


def test_what_was_saved_is_read(saved: Path) -> None:
    scorer = load_scorer(saved)
    assert (scorer.sam, scorer.sam_sha256, scorer.score_thresh, scorer.pred_iou_thresh) == (
        "tiny",
        "0" * 64,
        0.25,
        0.125,
    )
    assert len(scorer.sha256) == 64
    tensors = load_file(saved)
    features = torch.randn(5, len(FEATURES))
    standard = (features - tensors["mean"].float()) / tensors["deviation"].float()
    assert torch.allclose(scorer(features), scorer.layers(standard), atol=1e-6)
    assert scorer(features).shape == (5, 2)
    far = scorer.mean + 5 * scorer.deviation
    assert torch.equal(scorer(far[None]), scorer(far[None] + 100))


def test_where_prompts_lie_anywhere_the_best_object_counts_else_the_one_asked_for() -> None:
    sam = load_sam("tiny")
    photo, scorer = encode(sam, np.zeros((96, 128, 3), np.uint8)), find_scorer(sam)
    assert scorer is not None
    prompts = Prompts.from_points(np.array([[40.0, 30.0], [90.0, 60.0]]))
    decoded = decode_passing(photo, prompts, multimask=True)
    features = mask_features(photo, prompts, decoded)
    best, asked = scorer(features).unbind(1)
    evidence = THING_EVIDENCE * features[:, FEATURES.index("is_thing")]
    assert torch.allclose(scorer.score(photo, prompts, decoded, anywhere=True), (best + evidence).sigmoid(), atol=1e-5)
    assert torch.allclose(scorer.score(photo, prompts, decoded), asked.sigmoid(), atol=1e-5)


def test_a_file_of_something_else_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such scorer; train one with pipelines/train_scorer\.py"):
        load_scorer(tmp_path / "none")
    tensors, whole = load_file(saved), {"sam": "", "sam_sha256": "", "score_thresh": "0", "pred_iou_thresh": "0"}
    for metadata, said in (({}, "metadata lacks 'sam'"), (whole | {"features": "area"}, "other features")):
        save_file(tensors, saved, metadata)
        with pytest.raises(ValueError, match=said):
            load_scorer(saved)
    save_file({"mean": tensors["mean"]}, saved, whole | {"features": ",".join(FEATURES)})
    with pytest.raises(ValueError, match="not the tensors of a scorer"):
        load_scorer(saved)


def test_a_scorer_is_found_for_its_own_weights_alone(saved: Path) -> None:
    sam = load_sam("tiny")
    found = find_scorer(sam)
    assert found is not None
    assert found.sam_sha256 == sam.sha256
    with pytest.raises(ValueError, match=r"a scorer of tiny \(000000000000\), not of tiny"):
        find_scorer(sam, str(saved))
    sam.sha256 = "0" * 64
    assert find_scorer(sam) is None
    assert find_scorer(sam, str(saved)) is not None
