"""Write untrusted values and texts in the lines that name problems."""

from __future__ import annotations

import reprlib

MOST_CHARACTERS = 500
"""Length of a line that names a problem; the middle of a longer one is left out."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def shown(value: object) -> str:
    """Write an untrusted value in at most 60 characters, however large or deep it is."""
    return _short.repr(value)[:60]


def valid_text(text: str) -> str:
    """Return a text that can be encoded: lone surrogates, which names that are not UTF-8 bring, become `\\udcXX`."""
    return text.encode("utf-8", "backslashreplace").decode()


def one_line(text: str) -> str:
    """Return a message as one line of valid text, at most `MOST_CHARACTERS` long."""
    line = " ".join(valid_text(text).split())
    half = MOST_CHARACTERS // 2 - 2
    return line if len(line) <= MOST_CHARACTERS else f"{line[:half]} … {line[-half:]}"
