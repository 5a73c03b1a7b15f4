"""`aop` with the paper's rule, driven by hand: what survives two rounds, worked out from Eq. 1 to 3 on paper.

The photo has 8 × 8 cells of 16 px. Each quarter of its width and height in which two rows and four columns are alike
is a field with one feature, a vector of two numbers:

    A ( 1, 0) · 2   B ( 0.6, 0.8)      F is twice as long in A: masks and cells are normalised (Eq. 1)
    C ( 0, 1)       D ( 0.8, 0.6)
    E (-0.6, 0.8)   G ( 0.8, -0.6)
    H (-0.28, 0.96) nothing is there

Prompts, by falling confidence: A1, B1 | C1, E1, D1, A2, B2, G1, H1, two a round.

Round 1: A1 and B1 are decoded, masks A and B kept. M_A = (1, 0), M_B = (0.6, 0.8) (Eq. 1).
    C(x) = x · (M_A + M_B) / 2 = x · (0.8, 0.4) (Eq. 2):
        A 0.8   B 0.8   C 0.4   D 0.88   E -0.16   G 0.4   H 0.16
    Best IoU of A1 0.9, of B1 0.7: T_elim = (0.9 · 0.8 + 0.7 · 0.8) / 2 = 0.64 (Eq. 3), times k = 1.3: 0.832.
    D1 (0.88) goes. The literal Eq. 3 (0.64) would drop A2 and B2, too.
Round 2: C1 and E1 are decoded, mask C is kept; E1 gave none. M_C = (0, 1).
    C(x) = x · (M_A + M_B + M_C) / 3 = x · (1.6, 1.8) / 3, of all masks kept so far:
        A 0.533   B 0.8   C 0.6   E 0.16   G 0.067   H 0.427
    Best IoU of C1 0.8, of E1 0.5: T_elim = (0.8 · 0.6 + 0.5 · 0.16) / 2 = 0.28 of the round alone, times k: 0.364.
    A2, B2 and H1 go; G1 is decoded in round 3.
    Were C of round 2 alone, it would be x · (0, 1) and T_elim · k 0.78: A2 (0) would stay. Were T_elim of all four
    prompts, it would be 0.4 · k = 0.52: H1 would stay.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.predictor.sampling import Sampling
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.fates import Fates, Trace
from aopsam.prompting.strategy import Decoded
from aopsam.sam.encode import EncodedPhoto, encode

FIELDS = {
    "A": (0, 0, (2.0, 0.0)),
    "B": (0, 1, (0.6, 0.8)),
    "C": (1, 0, (0.0, 1.0)),
    "D": (1, 1, (0.8, 0.6)),
    "E": (2, 0, (-0.6, 0.8)),
    "G": (2, 1, (0.8, -0.6)),
    "H": (3, 0, (-0.28, 0.96)),
}
"""Row and column of each field, and its feature."""
PROMPTS = {"A1": 0.95, "B1": 0.9, "C1": 0.85, "E1": 0.8, "D1": 0.75, "A2": 0.7, "B2": 0.65, "G1": 0.6, "H1": 0.55}
"""Confidence of each prompt; the first of a field lies left, the second right in it."""
BEST_IOU = {"A1": 0.9, "B1": 0.7, "C1": 0.8, "E1": 0.5, "G1": 0.9, "A2": 0.9, "B2": 0.9, "H1": 0.9, "D1": 0.9}


def _photo(sam: Sam) -> EncodedPhoto:
    embedding = torch.zeros(1, 2, 8, 8)
    for row, column, feature in FIELDS.values():
        embedding[0, :, 2 * row : 2 * row + 2, 4 * column : 4 * column + 4] = torch.tensor(feature)[:, None, None]
    return replace(encode(sam, np.zeros((128, 128, 3), np.uint8)), embedding=embedding)


def _place(prompt: str) -> tuple[int, int]:
    """Return the pixel (x, y) of a prompt, where bilinear interpolation stays in its field."""
    row, column, _ = FIELDS[prompt[0]]
    return 64 * column + (15 if prompt[1] == "1" else 47), 32 * row + 15


def _centre(prompt: str) -> list[float]:
    x, y = _place(prompt)
    return [x + 0.5, y + 0.5]


def _decoded(rounds_prompts: list[str], given: object) -> Decoded:
    """Answer with one mask a prompt, its whole field, except E1 with none; two of three estimates are poor."""
    kept = [prompt for prompt in rounds_prompts if prompt != "E1"]
    logits = torch.full((len(kept), 32, 32), -1.0)
    for number, prompt in enumerate(kept):
        row, column, _ = FIELDS[prompt[0]]
        logits[number, 8 * row : 8 * row + 8, 16 * column : 16 * column + 16] = 1.0
    iou = torch.tensor([[0.1, BEST_IOU[prompt], 0.2] for prompt in rounds_prompts])
    return Decoded(given, iou, logits)


def _rounds(sam: Sam, fates: Fates | None = None, **options: object) -> tuple[list[list[str]], list[int]]:
    """Return the names of the prompts of every round, and how many were dropped when it was over."""
    confidence = np.zeros((128, 128), np.float32)
    for prompt, value in PROMPTS.items():
        x, y = _place(prompt)
        confidence[y, x] = value
    predictor = SimpleNamespace(sampling=Sampling(threshold=0.2, smoothing_sigma=0.0, spacing=6))
    proposer = SimpleNamespace(predictor=predictor, confidence=lambda photo: confidence)
    names = {_place(prompt): prompt for prompt in PROMPTS}
    fates = Fates() if fates is None else fates
    rounds = AutoPrompts(proposer, round_size=2, things=0, **options).rounds(_photo(sam), fates)
    told, gone, given = [], [], next(rounds)
    while True:
        told.append([names[int(x), int(y)] for x, y in given.coords_px[:, 0].tolist()])
        try:
            given = rounds.send(_decoded(told[-1], given))
        except StopIteration:
            return told, [*gone, fates.dropped.total()]
        gone.append(fates.dropped.total())


def test_survivors_of_two_rounds_are_those_of_the_equations(small_sam: Sam) -> None:
    trace = Trace()
    rounds = _rounds(small_sam, Fates(trace), elimination="scaled")
    assert rounds == ([["A1", "B1"], ["C1", "E1"], ["G1"]], [1, 4, 4])
    (shown,) = trace.maps
    assert shown.confidence.max() == np.float32(0.95)
    gone = {prompt for told in trace.prompts for prompt in PROMPTS if told["point_coords"] == _centre(prompt)}
    assert gone == {"D1", "A2", "B2", "H1"}
    assert {told["dropped"] for told in trace.prompts} == {"resembles a kept mask"}


@pytest.mark.parametrize(
    ("options", "last", "gone"),
    [
        # T_elim itself, 0.64: A2, B2 (0.8) and D1 go after round 1, H1 (0.427 > 0.28) after round 2.
        ({"elimination": "equation"}, ["G1"], [3, 4, 4]),
        # 1.4 · 0.64 = 0.896: D1 stays after round 1; in round 2 D is 0.787, above 1.4 · 0.28 = 0.392.
        ({"elimination": "scaled", "k": 1.4}, ["G1"], [0, 4, 4]),
        # 1.6 · 0.28 = 0.448: H1 (0.427) stays, too.
        ({"elimination": "scaled", "k": 1.6}, ["G1", "H1"], [0, 3, 3]),
    ],
)
def test_survivors_of_other_factors(
    small_sam: Sam, options: dict[str, object], last: list[str], gone: list[int]
) -> None:
    assert _rounds(small_sam, **options) == ([["A1", "B1"], ["C1", "E1"], last], gone)
