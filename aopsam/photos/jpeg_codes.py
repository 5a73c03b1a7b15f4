"""Follow a JPEG's Huffman codes block by block, without making pixels: where does a scan end that has every block?"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np

_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_PROGRESSIVE = 0xC2
_COEFFICIENTS = 64
_FILL = 16
# So many printable characters in a row are no codes: once in some million photos.
_TEXT = re.compile(rb"[\t\r\n -~]{16}\Z")
_STEP = 8
"""A table's entry: length of the code, then this many bits for its symbol; 0 where there is no such code."""
_LARGEST = 1.25 * 1024
"""No coefficient of 8-bit samples is larger (1024 would do), whatever it is divided by."""


@dataclass(frozen=True)
class Frame:
    """Fields of a frame header.

    Attributes:
        progressive: whether blocks come in several scans.
        hw: rows and columns of the photo.
        sampling: component → blocks of it to each side of an MCU, (across, down).
        divisors: component → number of its table of divisors.
    """

    progressive: bool
    hw: tuple[int, int]
    sampling: dict[int, tuple[int, int]]
    divisors: dict[int, int]

    @classmethod
    def read(cls, marker: int, body: bytes) -> Frame:
        """Read the body of a frame header."""
        sampling = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body) - 2, 3)}
        divisors = {body[at]: body[at + 2] for at in range(6, len(body) - 2, 3)}
        return cls(marker == _PROGRESSIVE, (int.from_bytes(body[1:3]), int.from_bytes(body[3:5])), sampling, divisors)

    def blocks(self, components: Sequence[int]) -> tuple[int, list[int]]:
        """Return the number of MCUs in a scan of some components, and the component of each block of an MCU."""
        across, down = (max(factors) for factors in zip(*self.sampling.values(), strict=True))
        height, width = self.hw
        if len(components) > 1:
            of_mcu = [c for c in components for _ in range(self.sampling[c][0] * self.sampling[c][1])]
            return -(-width // (8 * across)) * -(-height // (8 * down)), of_mcu
        horizontal, vertical = self.sampling[components[0]]
        columns, rows = -(-width * horizontal // across), -(-height * vertical // down)
        return -(-columns // 8) * -(-rows // 8), [components[0]]


@dataclass(frozen=True)
class Scan:
    """A scan: its header, and the coded data behind it.

    Attributes:
        components: component → numbers of its tables, (DC, AC).
        first: first coefficient of each block, in zigzag order.
        last: last coefficient.
        refines: whether earlier scans coded higher bits of the same coefficients.
        tables: (class, number) → body of a Huffman table, class 0 for DC and 1 for AC.
        divisors: number → what each coefficient was divided by, in zigzag order.
        restart_interval: MCUs between two restarts, 0 for none.
        start: where the coded data begins in the file.
        coded: the coded data, up to the next marker that is no restart.
    """

    components: dict[int, tuple[int, int]]
    first: int
    last: int
    refines: bool
    tables: Mapping[tuple[int, int], bytes]
    divisors: Mapping[int, Sequence[int]]
    restart_interval: int
    start: int
    coded: bytes

    def pieces(self, mcus: int) -> list[tuple[int, int, int]]:
        """Return start, end (in the coded data) and number of MCUs of what lies between restarts."""
        marks = [found.span() for found in _RESTART.finditer(self.coded)] if self.restart_interval else []
        starts, ends = [0, *(end for _, end in marks)], [*(start for start, _ in marks), len(self.coded)]
        each = self.restart_interval or mcus
        left = [min(each, mcus - each * i) for i in range(-(-mcus // each))]
        return list(zip(starts, ends, left, strict=True))


def end_of_blocks(frame: Frame, scans: Sequence[Scan]) -> int | None:
    """Return where in the file the coded data of the last scan ends, or None if blocks are missing or make no sense.

    Codes that no table has, coefficients beyond a block or larger than any photo's, runs beyond the photo, and, where
    bytes follow, a last byte that is not filled up with ones (as the standard asks) are not what an encoder wrote: the
    photo was cut, and what follows is not its own. Takes about a second a MB.

    Args:
        frame: the frame.
        scans: all of its scans up to the one that is asked about.
    """
    seen: dict[int, list[int]] = {}
    end = None
    try:
        for scan in _with_history(frame, scans):
            end = _follow(frame, scan, seen)
    except (IndexError, KeyError, ValueError, ZeroDivisionError):  # codes beyond the data, tables that are not there
        return None
    return None if end is None else scans[-1].start + end


def _with_history(frame: Frame, scans: Sequence[Scan]) -> list[Scan]:
    """Return the last scan, and those before it whose coefficients decide how many bits it has."""
    last = scans[-1]
    if not (frame.progressive and last.refines and last.first):
        return [last]
    return [scan for scan in scans if scan.first and scan.components.keys() == last.components.keys()]


def _follow(frame: Frame, scan: Scan, seen: dict[int, list[int]]) -> int | None:
    """Follow a scan to its last block; return the end of its bytes in the coded data."""
    mcus, of_mcu = frame.blocks(list(scan.components))
    start = end = used = 0
    bits = 0
    passed = 0
    for start, end, count in scan.pieces(mcus):
        codes = scan.coded[start:end].replace(b"\xff\0", b"\xff")
        windows = _windows(codes)
        if not frame.progressive:
            bits = _sequential(windows, count, [_block(frame, scan, component) for component in of_mcu])
        elif scan.first == 0:
            symbols = [_symbols(scan, component, 0) for component in of_mcu]
            bits = count * len(of_mcu) if scan.refines else _first_dc(windows, count, symbols)
        else:
            nonzero = seen.setdefault(of_mcu[0], [0] * mcus)
            follow = _refined_ac if scan.refines else _first_ac
            bits = follow(windows, range(passed, passed + count), nonzero, scan)
        passed += count
        used = -(-bits // 8)
        if used > len(codes):
            return None
    is_padded = (codes[used - 1] + 1) % (1 << -bits % 8) == 0
    if used < len(codes) and (
        not is_padded or _is_fill(codes[max(used - 2, 0) :]) or _TEXT.match(codes, max(used - _FILL, 0), used)
    ):
        return None
    return start + len(codes[:used].replace(b"\xff", b"\xff\0"))


def _is_fill(codes: bytes) -> bool:
    """Return whether as many bytes are equal as a disk or a recorder fills with; the first may be the photo's own."""
    return len(codes) >= _FILL and codes[:_FILL] == codes[:1] * _FILL


def _windows(codes: bytes) -> array[int]:
    """Return, for each byte, the 24 bits from it on."""
    values = np.frombuffer(codes + b"\0\0\0", np.uint8).astype(np.uint32)
    windows = array("I")
    windows.frombytes((values[:-2] << 16 | values[1:-1] << 8 | values[2:]).astype(np.uintc).tobytes())
    return windows


class _Block(NamedTuple):
    """Component of a block of an MCU, its symbols, and the largest values that it can have."""

    component: int
    dc: list[int]
    ac: list[int]
    largest: list[int]
    sizes: list[int]


def _block(frame: Frame, scan: Scan, component: int) -> _Block:
    largest = [int(_LARGEST / max(by, 1)) + 1 for by in scan.divisors[frame.divisors[component]]]
    sizes = [value.bit_length() for value in largest] + [0] * 16  # a run may end beyond the block
    return _Block(component, _symbols(scan, component, 0), _symbols(scan, component, 1), largest, sizes)


def _sequential(windows: array[int], mcus: int, blocks: Sequence[_Block]) -> int:
    """Return the number of bits of some MCUs of a baseline scan, all coefficients of a block after each other."""
    at = 0
    means = dict.fromkeys((block.component for block in blocks), 0)
    for _ in range(mcus):
        for component, dc, ac, largest, sizes in blocks:
            entry = _known(dc[(windows[at >> 3] >> (8 - (at & 7))) & 0xFFFF])
            at += entry >> _STEP
            size = entry & 255
            value = _number(windows, at, size)
            at += size
            means[component] += value if value << 1 >> size else value + 1 - (1 << size)
            if abs(means[component]) > largest[0]:
                raise ValueError("a coefficient larger than any photo's")
            place = 1
            while place < _COEFFICIENTS:
                entry = ac[(windows[at >> 3] >> (8 - (at & 7))) & 0xFFFF]
                size = entry & 15
                at += (entry >> _STEP) + size
                place += (entry >> 4 & 15) + 1
                if size == 0:
                    if entry & 255 == 0xF0:
                        continue
                    break
                if size > sizes[place - 1]:
                    raise ValueError("a coefficient larger than any photo's, or beyond its block")
            if not entry or entry & 255 == 0xF0 or (entry & 15 == 0 and entry & 255):
                raise ValueError("no such code, or a block that it cannot end")
    return at


def _first_dc(windows: array[int], mcus: int, symbols: Sequence[list[int]]) -> int:
    at = 0
    for _ in range(mcus):
        for dc in symbols:
            entry = _known(dc[(windows[at >> 3] >> (8 - (at & 7))) & 0xFFFF])
            at += (entry >> _STEP) + (entry & 255)
    return at


def _first_ac(windows: array[int], blocks: range, nonzero: list[int], scan: Scan) -> int:
    """Return the number of bits of a progressive scan's first bits of some coefficients; note which are not 0."""
    symbols = _symbols(scan, next(iter(scan.components)), 1)
    at, block = 0, blocks.start
    while block < blocks.stop:
        place, mask, run = scan.first, 0, 1
        while place <= scan.last:
            entry = _known(symbols[(windows[at >> 3] >> (8 - (at & 7))) & 0xFFFF])
            zeros, size = entry >> 4 & 15, entry & 15
            at += entry >> _STEP
            if size == 0 and zeros < 15:
                run = (1 << zeros) + _number(windows, at, zeros)
                at += zeros
                break
            place += zeros
            if place > scan.last:
                raise ValueError("a coefficient beyond its block")
            mask |= (size > 0) << place
            at += size
            place += 1
        nonzero[block] |= mask
        block += run
    if block > blocks.stop:
        raise ValueError("a run beyond the photo")
    return at


def _refined_ac(windows: array[int], blocks: range, nonzero: list[int], scan: Scan) -> int:
    """Return the number of bits of a progressive scan's further bits of some coefficients; note which are not 0."""
    symbols = _symbols(scan, next(iter(scan.components)), 1)
    at = run = 0
    band = (2 << scan.last) - (1 << scan.first)
    for block in blocks:
        known, place, added = nonzero[block] & band, scan.first, 0
        while not run and place <= scan.last:
            entry = _known(symbols[(windows[at >> 3] >> (8 - (at & 7))) & 0xFFFF])
            zeros, size = entry >> 4 & 15, entry & 15
            at += entry >> _STEP
            if size == 0 and zeros < 15:
                run = (1 << zeros) + _number(windows, at, zeros)
                at += zeros
                break
            if size > 1:
                raise ValueError("more than one new bit")
            at += size
            while place <= scan.last and (zeros or known >> place & 1):
                is_known = known >> place & 1
                at += is_known
                zeros -= 1 - is_known
                place += 1
            if place > scan.last:
                raise ValueError("a coefficient beyond its block")
            added |= size << place
            place += 1
        if run:
            at += (known >> place).bit_count()
            run -= 1
        nonzero[block] |= added
    if run:
        raise ValueError("a run beyond the photo")
    return at


def _number(windows: array[int], at: int, bits: int) -> int:
    """Return the number of some bits, at most 14."""
    return (windows[at >> 3] >> (24 - (at & 7) - bits)) & ((1 << bits) - 1)


def _known(entry: int) -> int:
    if not entry:
        raise ValueError("no such code")
    return entry


def _symbols(scan: Scan, component: int, kind: int) -> list[int]:
    return _lookup(scan.tables[kind, scan.components[component][kind]])


@lru_cache(maxsize=8)  # the tables of one photo; half a MiB each
def _lookup(table: bytes) -> list[int]:
    """Return, for each 16 bits, the entry of the code that they begin with; 0 where there is none."""
    found: list[int] = []
    symbols = iter(table[16:])
    for length, count in enumerate(table[:16], 1):
        for symbol in islice(symbols, count):
            found += [length << _STEP | symbol] * (1 << 16 - length)
    return found + [0] * (65536 - len(found))
