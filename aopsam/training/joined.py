"""Index several sequences as one, each after the one before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar, overload

Item = TypeVar("Item")


class Joined(Sequence[Item]):
    """Items of several sequences, one after the other.

    Attributes:
        counts: number of items of each sequence.
    """

    def __init__(self, sequences: Sequence[Sequence[Item]]) -> None:
        self.counts = [len(sequence) for sequence in sequences]
        self._sequences = sequences
        self._starts = list(accumulate(self.counts, initial=0))

    def place(self, number: int) -> tuple[int, int]:
        """Return the number of the sequence that holds an item, and the item's number in it.

        Raises:
            IndexError: there are not so many items.
        """
        number = range(len(self))[number]
        sequence = bisect_right(self._starts, number) - 1
        return sequence, number - self._starts[sequence]

    def number(self, sequence: int, item: int) -> int:
        """Return the number of a sequence's item among all items."""
        return self._starts[sequence] + item

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        sequence, item = self.place(index)
        return self._sequences[sequence][item]
