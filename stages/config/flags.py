"""Flags of a command line, read from the dataclass of its arguments: their help, and what is wrong with given words."""

from __future__ import annotations

import difflib
import re
import shutil
import textwrap
import types
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import takewhile
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import tyro
from docstring_parser import parse_from_object
from tyro.constructors import PrimitiveConstructorSpec

from aopsam._options import OneOf, expected

WIDTH, COLUMN = 120, 26


@dataclass(frozen=True)
class Flag:
    """A flag of a command line.

    Attributes:
        name: with its dashes.
        hint: type of its value.
        default: value where it is not given; `MISSING` where it must be.
        about: what it is.
        section: heading of the flags that it is shown among.
    """

    name: str
    hint: Any
    default: Any
    about: str
    section: str

    @property
    def needed(self) -> bool:
        """Tell whether the flag must be given."""
        return self.default in (MISSING, tyro.MISSING)

    def __str__(self) -> str:
        value = value_of(self.hint)
        shown = " ".join(map(str, self.default if isinstance(self.default, tuple) else (self.default,)))
        silent = not value or self.default in (None, (), {})
        end = " (needed)" if self.needed else "" if silent else f" (default: {shown})"
        start, indent = f"  {self.name} {value}".rstrip(), " " * COLUMN
        width = min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns)
        lines = textwrap.fill(self.about + end, width, initial_indent=indent, subsequent_indent=indent)
        return f"{start:<{COLUMN}}{lines[COLUMN:]}" if len(start) < COLUMN else f"{start}\n{lines}"


def value_of(hint: Any) -> str:
    """Return how the values of a type are shown: `{nested,flat}`, `N`, `URI ...`; nothing for a switch."""
    inner, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    for rule in metadata:
        if isinstance(rule, PrimitiveConstructorSpec):
            return str(rule.metavar)
        if isinstance(rule, OneOf):
            return f"{{{','.join(rule.names)}}}"
    if get_origin(inner) is Literal:
        return f"{{{','.join(map(str, get_args(inner)))}}}"
    if get_origin(inner) in (Union, types.UnionType):
        return "|".join(value_of(kind) or "{True,False}" for kind in get_args(inner) if kind is not type(None))
    if get_origin(inner) is tuple:
        first, *others = map(value_of, get_args(inner))
        return f"{first} ..." if others == ["..."] else " ".join([first, *others])
    return {bool: "", int: "N", float: "X", str: "TEXT", Ellipsis: "..."}[inner]


def flags_of(kind: type[Any], default: Any = None, section: str | None = None) -> Iterator[Flag]:
    """Yield the flags of a dataclass, those of nested ones without a prefix, as `OmitArgPrefixes` has them.

    Args:
        kind: the dataclass.
        default: instance whose values are the defaults.
        section: heading of all; by default the class that brings a field in says it, in its docstring's first line.
    """
    hints = get_type_hints(kind, include_extras=True)
    told, home = dict[str, str](), dict[str, str]()
    for each in reversed(kind.__mro__[:-1]):
        told |= {entry.arg_name: entry.description for entry in parse_from_object(each).params if entry.description}
        for name in each.__annotations__:
            home.setdefault(name, "Flags" if each is kind else (each.__doc__ or "").partition("\n")[0].rstrip("."))
    for entry in fields(kind):
        hint, about = hints[entry.name], " ".join(told.get(entry.name, "").split())
        inner, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if tyro.conf.Suppress in metadata or get_origin(inner) is dict:  # no flag of tyro's
            continue
        made = entry.default if entry.default_factory is MISSING else entry.default_factory()
        value = made if default is None else getattr(default, entry.name)
        if is_dataclass(inner):
            yield from flags_of(cast(type[Any], inner), value, about.rstrip("."))
            continue
        given = [rule.name for rule in metadata if getattr(rule, "name", None)]
        name = f"--{'no-' if value is True else ''}{(given or [entry.name])[0].replace('_', '-')}"
        yield Flag(name, hint, value, about, section or home[entry.name])


def write_help(about: str, flags: Sequence[Flag]) -> str:
    """Return the help of a command: what it does, with its examples, and its flags in sections."""
    lines = [about.strip()]
    for section in dict.fromkeys(["Flags", *(flag.section for flag in flags)]):
        lines += ["", f"{section}:", *(str(flag) for flag in flags if flag.section == section)]
    return "\n".join(lines)


def judge_names(flags: Sequence[Flag], words: Sequence[str]) -> None:
    """Check that every flag of a command line is one, and that none is missing.

    Raises:
        ValueError: it says what is near.
    """
    given = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    names = [flag.name for flag in flags]
    for name in given:
        if name not in names:
            near = [f"--{each}" for each in difflib.get_close_matches(name[2:], [name[2:] for name in names])]
            raise ValueError(f"no flag {name}{'; near: ' if near else ''}{', '.join(near)} (see --help)")
    for flag in flags:
        if flag.needed and flag.name not in given:
            raise ValueError(f"{flag.name} is needed: {flag.about}")


def judge_value(flags: Sequence[Flag], words: Sequence[str], said: str) -> str:
    """Say which value of a command line does not fit, and what would.

    Args:
        flags: flags of the command.
        words: the command line.
        said: what tyro says of it.
    """
    named = re.search(r"--[a-z][\w-]*", said)
    flag = next((flag for flag in flags if named and flag.name == named[0]), None)
    if flag is None:
        return re.sub(r"^.*?Error parsing \S+: ", "", said)
    start = [word.partition("=")[0].replace("_", "-") for word in words].index(flag.name)
    values = [*words[start].split("=", 1)[1:], *takewhile(lambda word: not word.startswith("--"), words[start + 1 :])]
    return (
        f"{flag.name} {' '.join(values)}; {expected(flag.hint)}"
        if values
        else f"{flag.name} has no value: {flag.about}"
    )
