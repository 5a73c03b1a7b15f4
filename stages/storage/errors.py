"""Errors that end a run with one line for its user."""

from __future__ import annotations


class BadInput(Exception):
    """Input of a command that cannot be used; the message is for its user."""


class CannotWrite(OSError):
    """A file cannot be written, after work that lies elsewhere; the message is one line and names it."""


class RunFailed(Exception):
    """A run ended before its work was done; the message is one line."""
