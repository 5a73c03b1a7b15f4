"""Stand in for pycocotools where it cannot be installed, such as on a GPU machine without a network.

Imported before `aopsam`. Labelling asks pycocotools for one thing, the share of a mask that lies in another.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np


def shares(rows: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]], crowd: Sequence[int]) -> np.ndarray:
    """Return the share of each of N masks that lies in each of M others, (N, M): `pycocotools.mask.iou` of crowds.

    Raises:
        NotImplementedError: `crowd` is not 1 throughout.
    """
    from aopsam.masks import rle

    if not all(crowd):
        raise NotImplementedError("of pycocotools there is a stand-in alone, for crowds: install pycocotools")
    inner, outer = (np.array([rle.decode(dict(mask)).ravel() for mask in side]) for side in (rows, columns))
    return (inner.astype(np.float32) @ outer.astype(np.float32).T) / np.maximum(inner.sum(axis=1), 1)[:, None]


if importlib.util.find_spec("pycocotools") is None:
    package, mask = ModuleType("pycocotools"), ModuleType("pycocotools.mask")
    package.mask, mask.iou = mask, shares  # type: ignore[attr-defined]
    sys.modules |= {"pycocotools": package, "pycocotools.mask": mask}
