"""Choose the sampling threshold of a trained predictor from its confidence maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aopsam.predictor.sampling import Sampling
from aopsam.prompting.asf import adaptive_sampling


def median_prompts(confidences: Sequence[np.ndarray], sampling: Sampling) -> int:
    """Return the median number of prompts of N photos, at least 1; `calibrate_threshold` goes the other way.

    Args:
        confidences: maps (h, w) in [0, 1].
        sampling: smoothing, spacing and threshold.
    """
    found = [
        adaptive_sampling(
            confidence,
            smoothing_sigma=sampling.smoothing_sigma,
            spacing=sampling.spacing,
            threshold=sampling.threshold,
        )[1]
        for confidence in confidences
    ]
    return max(1, int(np.median([len(values) for values in found])))


def calibrate_threshold(confidences: Sequence[np.ndarray], sampling: Sampling, prompts: int) -> Sampling:
    """Choose the threshold at which half of the photos have at least `prompts` prompts.

    Mean squared error makes a predictor output the expected target, whose peaks depend on kernel, data and length of
    training; a fixed threshold (the paper's 0.2) has another effect for every training.

    Args:
        confidences: maps (h, w) in [0, 1] of photos that the predictor was not trained on.
        sampling: smoothing and spacing that the threshold is for.
        prompts: wanted median number of prompts of a photo.

    Returns:
        `sampling` with that threshold, rounded down to four decimals; 0 where the maps have too few peaks for it.

    Raises:
        ValueError: no maps.
    """
    if not confidences:
        raise ValueError("no maps to calibrate on")
    least = []
    for confidence in confidences:
        _, values = adaptive_sampling(
            confidence, smoothing_sigma=sampling.smoothing_sigma, spacing=sampling.spacing, threshold=0.0
        )
        least.append(values[prompts - 1] if len(values) >= prompts else 0.0)
    return replace(sampling, threshold=float(np.floor(np.median(least) * 1e4) / 1e4))
