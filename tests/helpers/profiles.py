"""Made ICC profiles (version 2): of RGB by primaries, of grey by its gamma, of CMYK by a table."""

from __future__ import annotations

import struct
from itertools import product

D50 = (0.9642, 1.0, 0.8249)
DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
"""XYZ of red, green and blue, adapted to D50."""


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)} | tags
    places, body, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        places += name + struct.pack(">II", start + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, kind, space, connection)
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(*D50)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + places + body


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def rgb_profile(primaries: tuple[tuple[float, ...], ...] = DISPLAY_P3, gamma: float = 2.2) -> bytes:
    """Make a profile of a display."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    xyz = {name: b"XYZ \0\0\0\0" + _fixed(*of) for name, of in zip(names, primaries, strict=True)}
    white = {b"wtpt": b"XYZ \0\0\0\0" + _fixed(*D50)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", white | xyz | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(gamma)))


def grey_profile(gamma: float) -> bytes:
    """Make a profile of grey."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": b"XYZ \0\0\0\0" + _fixed(*D50), b"kTRC": _gamma(gamma)})


def cmyk_profile() -> bytes:
    """Make a profile of a press whose every ink, alone or not, makes paper (L* 100) green: L* 60, a* -60, b* 40."""
    lab = [(153, 68, 168) if any(inks) else (255, 128, 128) for inks in product((0, 1), repeat=4)]
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += ramp * 4 + b"".join(map(bytes, lab)) + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": b"XYZ \0\0\0\0" + _fixed(*D50), b"A2B0": table})
