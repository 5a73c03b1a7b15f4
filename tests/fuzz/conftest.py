"""Set how many examples the readers are tried on: a few in CI; 20,000 with `--hypothesis-profile=long`, shared by
the two to four tests of a reader.

    nice python -m pytest tests/fuzz -n 1 --hypothesis-profile=long --hypothesis-seed=19 --durations=0

A crash of the process costs one test then: xdist (`-n 1`) names it and goes on.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings

MOST_BYTES = 2 << 30
"""Memory that a reader may take, above what the process has."""

_COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate, Phase.shrink),  # explanations trace every line of every example
}
# In CI the examples are the same each time: a red run is the change's fault.
settings.register_profile("short", max_examples=150, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=10_000, print_blob=True, **_COMMON)
if settings.get_current_profile_name() == "default":
    settings.load_profile("short")


@pytest.fixture(autouse=True, scope="module")
def _little_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MOST_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
