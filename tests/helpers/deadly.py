"""Work on photos that ends its process at one of them, importable by Ray's workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stages.annotations.each_photo import Work

KILLER = "killer"
"""Id of the photo that ends its worker, as a native crash would."""


class Deadly:
    """A job's own work on all photos but that one."""

    def __init__(self, make: Callable[..., Work], *arguments: Any) -> None:
        self.work = make(*arguments)

    def __call__(self, sample: Mapping[str, Any], report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        if sample["image_id"] == KILLER:
            os._exit(11)
        yield from self.work(sample, report)
