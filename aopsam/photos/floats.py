"""Bring float pixels to 0 … 1, without those that hold no data."""

from __future__ import annotations

import numpy as np

# What elevation and depth maps write where nothing was measured; anything as large as _HUGE as well.
_COMMON = (-9999.0, -99999.0, -32767.0, -32768.0)
_HUGE = 1e30


def to_unit_range(values: np.ndarray, nodata: float | None = None) -> np.ndarray:
    """Return floats as 0 to 1, stretched from their minimum to their maximum where they leave that range.

    Args:
        values: (H, W) float.
        nodata: the value that the file names for pixels without one. NaN, infinity, what is beyond ±1e30 and -9999 and
            its like where they lie far below all other values are no-data too.

    Returns:
        (H, W) float64, NaN where there is no data.
    """
    values = values.astype(np.float64)
    sound = np.isfinite(values) & (np.abs(values) < _HUGE)
    if nodata is not None:
        sound &= values != np.float64(np.float32(nodata))
    for common in _COMMON:
        sound = _without(common, values, sound)
    low, high = values.min(where=sound, initial=0), values.max(where=sound, initial=1)
    return (np.where(sound, values, np.nan) - low) / (high - low)


def _without(common: float, values: np.ndarray, sound: np.ndarray) -> np.ndarray:
    others = sound & (values != common)
    return others if values.min(where=others, initial=np.inf) > common / 2 else sound
