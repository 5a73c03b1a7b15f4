from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.detector.weights import save_detector
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.prompting import make_strategy
from aopsam.prompting.fates import Fates
from aopsam.sam.encode import encode
from tests.helpers.made_detector import ToldDetector

TOLD = [[1, 1, 2, 3], [4, 2, 7, 4]], [0.3, 0.8]


def test_boxes_go_by_score_in_one_round(small_sam: Sam) -> None:
    photo = encode(small_sam, np.zeros((96, 128, 3), np.uint8))
    strategy = make_strategy("oas-box", small_sam, detector=ToldDetector(small_sam, *TOLD), max_boxes=2)
    (prompts,) = strategy.rounds(photo, Fates())
    assert prompts.are_boxes
    np.testing.assert_allclose(prompts.coords_px.reshape(-1, 4), [[64, 32, 112, 64], [16, 16, 32, 48]], rtol=1e-5)
    assert prompts.confidence == pytest.approx([0.8, 0.3])


def test_centres_are_points(small_sam: Sam) -> None:
    photo = encode(small_sam, np.zeros((96, 128, 3), np.uint8))
    strategy = make_strategy("oas-center", small_sam, detector=ToldDetector(small_sam, *TOLD), max_boxes=2)
    (prompts,) = strategy.rounds(photo, Fates())
    assert not prompts.are_boxes
    np.testing.assert_allclose(prompts.coords_px[:, 0], [[88, 48], [24, 32]], rtol=1e-5)


@pytest.mark.parametrize(("name", "most"), [("oas-box", 1), ("oas-center", 3)])
def test_one_mask_a_box_and_three_a_centre(small_sam: Sam, scene: np.ndarray, name: str, most: int) -> None:
    options = {"detector": ToldDetector(small_sam, *TOLD), "max_boxes": 2}
    generator = AutoMaskGenerator(small_sam, prompts=name, strategy_options=options, box_nms_thresh=1.0)
    labelled = generator.label(scene)
    assert (labelled.prompts_proposed, labelled.prompts_decoded) == (2, 2)
    assert 0 < len(labelled.records) <= 2 * most
    if most == 1:
        assert all(record["point_coords"] == [] and len(record["box"]) == 4 for record in labelled.records)
    else:
        assert len(labelled.records) > 2
        assert all("box" not in record for record in labelled.records)


def test_the_detector_comes_from_a_file(small_sam: Sam, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "detector.safetensors"
    save_detector(ToldDetector(small_sam, *TOLD), path)
    photo = encode(small_sam, np.zeros((96, 128, 3), np.uint8))
    (prompts,) = make_strategy("oas-box", small_sam, detector=str(path), max_boxes=5).rounds(photo, Fates())
    assert len(prompts) == 5


def test_the_bundled_tiny_proposes_for_a_sam_without_a_detector(small_sam: Sam, tiny: Sam, scene: np.ndarray) -> None:
    (own,) = make_strategy("oas-box", tiny, max_boxes=9).rounds(encode(tiny, scene), Fates())
    strategy = make_strategy("oas-box", small_sam, max_boxes=9)
    (prompts,) = strategy.rounds(encode(small_sam, scene), Fates())
    assert len(own) == 9
    np.testing.assert_allclose(prompts.coords_px, own.coords_px, rtol=1e-4)  # where convolutions add in another order
    assert (strategy.proposer.detector.sam, strategy.proposer.detector.sam_sha256) == ("tiny", tiny.sha256)


def test_what_does_not_fit_is_named(small_sam: Sam, tiny: Sam) -> None:
    with pytest.raises(ValueError, match="unknown SAM 'small'"):
        make_strategy("oas-center", tiny, detector=ToldDetector(small_sam, *TOLD))
    detector = ToldDetector(tiny, *TOLD)
    detector.sam_sha256 = "ab" * 32
    with pytest.raises(
        ValueError, match=r"trained on the embeddings of tiny \((ab){6}\), which are neither those of the"
    ):
        make_strategy("oas-center", tiny, detector=detector)
    with pytest.raises(ValueError, match="max_boxes=0; expected a whole number of at least 1"):
        make_strategy("oas-box", small_sam, detector=ToldDetector(small_sam, *TOLD), max_boxes=0)
    with pytest.raises(FileNotFoundError, match="no such detector"):
        make_strategy("oas-box", small_sam, detector="/nowhere/detector.safetensors")
    with pytest.raises(ValueError, match="unknown option 'boxes'; did you mean max_boxes"):
        make_strategy("oas-box", small_sam, boxes=3)
