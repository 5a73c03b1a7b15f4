"""Write and read the checkpoint of a training run: one file, replaced atomically, read without unpickling code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> Path:
    """Write `folder/checkpoint.pt` (tensors, numbers, strings and containers of them); a killed write
    leaves the old file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the state written by `save_checkpoint`, on the CPU; None if the folder has no checkpoint."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


class Average:
    """Exponential moving average of a module's parameters and buffers.

    Args:
        module: module that is trained.
        decay: largest weight of the old average in an update; smaller in the first updates, so that the initial weights
            fade.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's current values; integers are copied."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = module.state_dict()
        floats = [name for name, tensor in self.values.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.values[n] for n in floats], [now[n] for n in floats], 1 - keep)
        for name in self.values.keys() - set(floats):
            self.values[name].copy_(now[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        self.updates, self.values = int(state["updates"]), state["values"]
