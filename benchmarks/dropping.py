"""Measure what SAMI saves by dropping masked tokens, against blanking masked patches.

    python benchmarks/dropping.py

The student is EfficientSAM-Ti of random weights with the paper's decoder, three quarters of the patches masked; the
teacher is left out, as both need its features. Blanking runs all tokens through the encoder, those of masked patches
zeros in the normalised picture, and reads the visible ones behind it. Prints for each side of the pictures the GFLOP
of forward and backward passes by torch's counter (on a CPU without attention's own products), and the ratio of their
CPU times: both take turns, median of ROUNDS ratios and in brackets smallest and largest; for the encoder, and for
encoder and decoder together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.sam.encoders.efficient_sam import EfficientSamEncoder
from aopsam.training.sami import SamiDecoder, SamiRecipe, draw_visible

TEACHER_CHANNELS = 1280


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--px", nargs="+", type=int, default=(224, 512), help="sides (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="pictures (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: %(default)s)")
    arguments = parser.parse_args(argv)
    torch.manual_seed(0)
    encoder, recipe = efficient_sam_ti().image_encoder.train(), SamiRecipe()
    decoder = SamiDecoder(recipe.decoder_blocks, recipe.decoder_width, 192, TEACHER_CHANNELS)
    print("| px | part | GFLOP dropped, blanked | ratio | ratio of time |\n|---|---|---|---|---|")
    for px in arguments.px:
        pixels, there = torch.randn(arguments.batch, 3, px, px), torch.ones(arguments.batch, px // 16, px // 16) > 0
        visible = draw_visible(there, recipe.masked, torch.Generator().manual_seed(0))
        for part, head in (("encoder", None), ("encoder and decoder", decoder)):
            steps = [_step(encoder, head, pixels, visible, drop) for drop in (True, False)]
            works = [_work(step) / arguments.batch for step in steps]
            times = np.array([[_seconds(step) for step in steps] for _ in range(arguments.rounds)])
            ratios = times[:, 1] / times[:, 0]
            shown = f"{np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f})"
            print(
                f"| {px} | {part} | {works[0]:.2f}, {works[1]:.2f} | {works[1] / works[0]:.2f} | {shown} |", flush=True
            )
    return 0


def _step(
    encoder: EfficientSamEncoder, decoder: SamiDecoder | None, pixels: torch.Tensor, visible: torch.Tensor, drop: bool
) -> Callable[[], None]:
    patches = visible.repeat_interleave(16, 1).repeat_interleave(16, 2).unsqueeze(1)

    def step() -> None:
        if drop:
            tokens = encoder.tokens(pixels, visible)
        else:
            tokens = encoder.tokens(pixels * patches)[visible.flatten(1)].unflatten(0, (len(pixels), -1))
        answer = tokens if decoder is None else decoder(tokens, visible, ~visible)
        answer.square().mean().backward()

    return step


def _work(step: Callable[[], None]) -> float:
    """Return the GFLOP of a step, a multiply-add counted as two."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def _seconds(step: Callable[[], None]) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


if __name__ == "__main__":
    raise SystemExit(main())
