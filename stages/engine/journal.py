"""Record which unit of work is where, so that an item that ends its worker is found and left out, and no other.

An item is one row of a unit: a photo, as a rule. A crash ends the process without a word, so what a worker is at is
written down before it begins, in an actor that survives it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum

DEATHS = 2
"""Workers that an item may end when it is alone in them; one more death, together with others, comes before."""

DEATHS_BETWEEN = 5
"""Workers that a unit may end while none of its items is at work, such as where its results are put together."""


class Lost(StrEnum):
    """Reason why an item is given up."""

    DIED = "died"
    """It ended its worker."""
    SLOW = "slow"
    """It took longer than allowed."""


@dataclass
class _Unit:
    attempts: int = 0
    node: str = ""
    at: int | None = None
    between: int = 0
    deaths: Counter[int] = field(default_factory=Counter)
    slow: set[int] = field(default_factory=set)
    results: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """Knowledge of a unit when a worker takes it up.

    Attributes:
        number: 1 for the first worker that takes it up.
        lost: items, by their place in the unit, that are given up, and why.
        suspect: the item that ended its worker when it was alone in it, if one did and is to be tried once more.
        results: what was kept of items that are done.
    """

    number: int
    lost: dict[int, Lost]
    suspect: int | None
    results: dict[int, bytes]


class Journal:
    """Attempts at units of work, by name; what is done is forgotten."""

    def __init__(self, nodes: Callable[[], Collection[str]]) -> None:
        """Begin with nothing; `nodes` returns the nodes that are there: who dies with its node is not to blame."""
        self._nodes = nodes
        self._units: dict[str, _Unit] = {}
        self._begun = 0

    def begun(self) -> int:
        """Return how often a worker took up a unit."""
        return self._begun

    def begin(self, unit: str, node: str) -> Attempt:
        """Write down that a worker takes up a unit: if one had before and did not end it, that one died.

        Args:
            unit: name of the unit.
            node: where the worker is.

        Raises:
            RuntimeError: too many died while none of the unit's items was at work; another would not fare better.
        """
        self._begun += 1
        known = self._units.setdefault(unit, _Unit())
        known.attempts += 1
        if known.attempts > 1 and known.node in self._nodes():
            if known.at is not None:
                known.deaths[known.at] += 1
            elif known.attempts > 2 and not known.slow:
                known.between += 1
        known.at, known.node = None, node
        if known.between >= DEATHS_BETWEEN:
            raise RuntimeError(
                f"{known.between} workers died one after another with a unit of work, while none of its items was at"
                " work: too little memory, or a fault in what puts results together?"
            )
        lost = {item: Lost.DIED for item, deaths in known.deaths.items() if deaths >= DEATHS}
        lost |= dict.fromkeys(known.slow, Lost.SLOW)
        suspects = [item for item in known.deaths if item not in lost and item not in known.results]
        return Attempt(known.attempts, lost, suspects[0] if suspects else None, known.results)

    def at(self, unit: str, item: int) -> None:
        """Write down that a worker begins an item, with nothing else beside it in its process."""
        self._units.setdefault(unit, _Unit(1)).at = item

    def keep(self, unit: str, item: int, result: bytes) -> None:
        """Keep the result of an item that is done, for the worker that takes up its unit if this one dies."""
        known = self._units.setdefault(unit, _Unit(1))
        known.at = None
        known.results[item] = result

    def slow(self, unit: str) -> None:
        """Write down that the item a worker is at took too long; the worker ends itself."""
        known = self._units.setdefault(unit, _Unit(1))
        if known.at is not None:
            known.slow.add(known.at)
            known.at = None

    def end(self, unit: str) -> None:
        """Forget a unit that is done."""
        self._units.pop(unit, None)
