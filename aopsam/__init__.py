"""aopsam: the masks of every object in a photo, with as few prompts as possible."""

from aopsam._torchvision import ensure_torchvision

ensure_torchvision()  # segment-anything, which everything below imports, needs it

from aopsam.everything.generator import AutoMaskGenerator  # noqa: E402
from aopsam.sam.registry import load_sam  # noqa: E402

__all__ = ["AutoMaskGenerator", "load_sam"]
