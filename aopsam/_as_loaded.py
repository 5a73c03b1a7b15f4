"""Compute with a network as it was loaded, whatever its caller has set for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def as_loaded(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode and turn autocast off on its device; afterwards all is as the caller had it."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.autocast(next(network.parameters()).device.type, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True
