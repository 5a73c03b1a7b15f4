"""aopsam: the masks of every object in a photo, with as few prompts as possible."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aopsam.everything.generator import AutoMaskGenerator
    from aopsam.sam.registry import load_sam

__all__ = ["AutoMaskGenerator", "load_sam"]

_HOMES = {"AutoMaskGenerator": "aopsam.everything.generator", "load_sam": "aopsam.sam.registry"}


def __getattr__(name: str) -> Any:
    # Imported on first use: torch takes seconds and 300 MB, which processes that open photos can do without.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _BeforeSegmentAnything(MetaPathFinder):
    """Sees that torchvision is imported before segment-anything asks for it; finds nothing itself."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "segment_anything":
            sys.meta_path.remove(self)
            import_module("aopsam._torchvision")


sys.meta_path.insert(0, _BeforeSegmentAnything())
