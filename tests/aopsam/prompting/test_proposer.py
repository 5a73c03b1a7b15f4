"""Whose embedding a predictor reads, and where its map lies on the photo."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.predictor.network import PromptPredictor
from aopsam.prompting import make_strategy
from aopsam.prompting.fates import Fates
from aopsam.prompting.proposer import Proposer
from aopsam.sam import registry
from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.sam.encode import encode
from aopsam.training.annotated import Annotated
from aopsam.training.prompted_photos import PromptedPhotos


class Peak(PromptPredictor):
    """Answers with one peak, at x = 192 and y = 64 of the frame's 256 pixels, whatever it sees."""

    def __init__(self, sam: str, sam_sha256: str) -> None:
        super().__init__()
        self.sam, self.sam_sha256 = sam, sam_sha256
        self.eval()

    def forward(self, image: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        logits = super().forward(image, embedding).new_full((len(image), 1, 256, 256), -9.0)
        logits[:, 0, 64, 192] = 9.0
        return logits


@pytest.fixture
def stretched() -> Sam:
    """EfficientSAM-Ti of random weights at 64 px."""
    torch.manual_seed(0)
    model = efficient_sam_ti(img_size=64)
    model.name, model.sha256 = "efficient_sam_ti", "1" * 64
    return model


def named(sam: Sam, name: str, digest: str, monkeypatch: pytest.MonkeyPatch) -> Sam:
    monkeypatch.setattr(sam, "name", name)
    monkeypatch.setattr(sam, "sha256", digest)
    return sam


def test_a_predictor_of_other_weights_of_the_same_name_is_refused(
    small_sam: Sam, tiny: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = named(small_sam, "tiny", "cd" * 32, monkeypatch)
    with pytest.raises(ValueError, match="the predictor was trained") as raised:
        Proposer(tuned, Peak("tiny", "ab" * 32))
    assert str(raised.value) == (
        "the predictor was trained on the embeddings of tiny (abababababab), which are neither those of the SAM, tiny"
        f" (cdcdcdcdcdcd), nor of the tiny that load_sam gives ({tiny.sha256[:12]}); use it with the weights it was"
        " trained for, or train one for these"
    )
    assert Proposer(tuned, Peak("tiny", "cd" * 32)).source.sam is None
    other = Proposer(tuned, Peak("tiny", tiny.sha256)).source.sam
    assert other is not None
    assert other.sha256 == tiny.sha256


def test_a_predictor_of_unpublished_weights_is_refused_before_a_download(
    small_sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object) -> NoReturn:
        raise AssertionError("a download")

    monkeypatch.setattr(registry, "obtain", download)
    with pytest.raises(ValueError, match=r"of vit_b \(abababababab\).*load_sam gives \(ec2df6273261\)"):
        Proposer(small_sam, Peak("vit_b", "ab" * 32))


@pytest.mark.parametrize(("hw", "of_stretched"), [((60, 200), (150.39, 15.12)), ((200, 60), (45.12, 50.39))])
def test_a_peak_of_a_stretched_frame_is_the_right_pixel_of_a_photo_that_is_no_square(
    stretched: Sam, hw: tuple[int, int], of_stretched: tuple[float, float]
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    strategy = make_strategy(
        "aop",
        stretched,
        Peak(stretched.name, stretched.sha256),
        threshold=0.5,
        smoothing_sigma=0.0,
        adaptive_filtering=False,
    )
    (prompts,) = strategy.rounds(encode(stretched, rgb), Fates())
    assert prompts.coords_px[:, 0].tolist() == [pytest.approx(of_stretched, abs=0.01)]  # (192.5 W / 256, 64.5 H / 256)


def test_a_stretching_sam_whose_prompts_a_padding_one_proposes_keeps_the_padded_frame(
    stretched: Sam, tiny: Sam
) -> None:
    rgb = np.zeros((200, 250, 3), np.uint8)
    options = {"threshold": 0.5, "smoothing_sigma": 0.0, "things": 0, "adaptive_filtering": False}
    strategy = make_strategy("aop", stretched, Peak("tiny", tiny.sha256), **options)
    (prompts,) = strategy.rounds(encode(stretched, rgb), Fates())
    assert prompts.coords_px[:, 0].tolist() == [pytest.approx((192.5 * 250 / 256, 64.5 * 250 / 256), abs=0.2)]


def test_pictures_of_a_validation_show_a_stretched_map(stretched: Sam) -> None:
    rgb = np.zeros((60, 200, 3), np.uint8)
    photos = PromptedPhotos(stretched, [Annotated("a", rgb, [], np.zeros((0, 2)), np.zeros(0))])
    drawn = photos.pictures(Peak(stretched.name, stretched.sha256))["map_0"]
    assert drawn.shape == (256, 256, 3)
    assert drawn[64, 192].tolist() == [255, 40, 0]
