"""aopsam: the masks of every object in a photo, with as few prompts as possible."""

from aopsam._torchvision import ensure_torchvision

ensure_torchvision()
