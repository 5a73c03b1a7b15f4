"""Options of dataclasses and strategies: names, types and limits, read from resolved type hints, and checked."""

from __future__ import annotations

import difflib
import inspect
import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Which numbers an option takes, as metadata of `Annotated`; NaN and infinities never.

    Attributes:
        least: the smallest.
        most: the largest.
        open: whether `least` itself is excluded.
    """

    least: float = -math.inf
    most: float = math.inf
    open: bool = False

    def __contains__(self, number: float) -> bool:
        return math.isfinite(number) and self.least <= number <= self.most and not (self.open and number == self.least)

    def __str__(self) -> str:
        start = "" if self.least == -math.inf else f"{'above' if self.open else 'from'} {self.least:g}"
        if self.most != math.inf:
            return f"{start} to {self.most:g}".strip()
        return start.replace("from", "of at least")


@dataclass(frozen=True, eq=False)  # hashable, whatever holds the names
class OneOf:
    """The names that an option takes, as metadata of `Annotated`; a registry, so that new entries count."""

    names: Collection[str]


Share = Annotated[float, Limits(0, 1)]
"""0 to 1."""
Count = Annotated[int, Limits(1)]
"""At least 1."""
BEYOND = 2**63
"""Whole numbers of this size or larger fit no option: torch and NumPy do not take them."""


def options_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Return name → resolved type hint of the options of a class: keyword-only fields, or parameters of `__init__`."""
    if is_dataclass(target):
        hints = get_type_hints(target, include_extras=True)
        return {entry.name: hints[entry.name] for entry in fields(target) if entry.kw_only}
    made = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(made, include_extras=True)
    parameters = inspect.signature(made).parameters.values()
    return {p.name: hints[p.name] for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def is_file(hint: Any) -> bool:
    """Tell whether an option of this type names a file."""
    return any(kind is Path for kind, _ in _kinds(hint))


def expected(hint: Any) -> str:
    """Say what an option of this type takes: `expected a whole number of at least 1`, `choose from nested, flat`."""
    return _expected(_kinds(hint))


def coerce(target: Callable[..., T], values: Mapping[str, Any], source: str = "") -> T:
    """Build a dataclass from plain values, each checked by the field's type and limits.

    Args:
        target: the dataclass.
        values: by field; what is not there stays at its default.
        source: named in front of every complaint, such as a file.

    Raises:
        ValueError: an unknown name, or a value of the wrong type or out of its limits; it says what would be right.
    """
    return target(**checked(options_of(target), values, source))


def checked(
    options: Mapping[str, Any], values: Mapping[str, Any], source: str = "", *, from_text: bool = True
) -> dict[str, Any]:
    """Return the values, each checked against its type hint of `options_of`.

    Args:
        options: of `options_of`.
        values: by name.
        source: named in front of every complaint.
        from_text: make a number of text where one is wanted: YAML reads 1e-3 as text.

    Raises:
        ValueError: as for `coerce`.
    """
    start = f"{source}: " if source else ""
    found = {}
    for name, value in values.items():
        if name not in options:
            raise ValueError(f"{start}unknown option {unknown(name, options)}")
        try:
            found[name] = _fitted(value, options[name], from_text)
        except ValueError as error:
            raise ValueError(f"{start}{name}={value!r}; {error}") from None
    return found


def check(options: Any) -> None:
    """Check every field of a dataclass, and make NumPy's numbers Python's; for its `__post_init__`.

    Raises:
        ValueError: as for `coerce`.
    """
    for name, value in checked(options_of(type(options)), vars(options), from_text=False).items():
        object.__setattr__(options, name, value)  # it may be frozen


def unknown(name: object, names: Iterable[str]) -> str:
    """Say that a name is none of those there are, and which of them was meant: `'treshold'; did you mean …`.

    Files of settings have names that are no text, such as `1: 2`.
    """
    listed = list(names)
    near = difflib.get_close_matches(str(name).lower(), listed, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    choice = f"choose from {', '.join(listed)}" if listed else "there are none"
    return f"{name!r}; {meant}{choice}"


def _kinds(hint: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return the members of a union, each with its metadata."""
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        return [(kind, (*own, *metadata)) for kind, own in _kinds(inner)]
    if get_origin(hint) in (Union, types.UnionType):
        return [kind for member in get_args(hint) for kind in _kinds(member)]
    return [(hint, ())]


def _fitted(value: Any, hint: Any, from_text: bool) -> Any:
    kinds = _kinds(hint)
    if type(value).__module__ == "numpy" and not getattr(value, "ndim", 1):  # a number of a sweep; NumPy comes later
        value = value.item()
    if from_text and isinstance(value, str) and {kind for kind, _ in kinds} <= {float, type(None)}:
        value = _number(value)
    for kind, metadata in kinds:
        if not _is_a(value, kind):
            continue
        for rule in metadata:
            if isinstance(rule, Limits) and kind in (int, float) and value not in rule:
                break
            if isinstance(rule, OneOf) and kind is str and value not in rule.names:
                break
        else:
            return Path(value) if kind is Path else value
    most = ", below 2^63" if isinstance(value, int) and abs(value) >= BEYOND else ""
    raise ValueError(_expected(kinds) + most)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _is_a(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if get_origin(kind) is Literal:
        return (type(value), value) in [(type(name), name) for name in get_args(kind)]  # True is no 1
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int) and abs(value) >= BEYOND:
        return False
    if kind is float:
        return isinstance(value, int | float)
    if kind is Path:
        return isinstance(value, str | Path)
    return isinstance(value, get_origin(kind) or kind)


def _expected(kinds: list[tuple[Any, tuple[Any, ...]]]) -> str:
    names = [
        name
        for kind, metadata in kinds
        for name in (
            get_args(kind)
            if get_origin(kind) is Literal
            else next((tuple(rule.names) for rule in metadata if isinstance(rule, OneOf)), ())
        )
    ]
    nothing = [str(None)] if any(kind is type(None) for kind, _ in kinds) else []
    if names and all(kind is str or kind is type(None) or get_origin(kind) is Literal for kind, _ in kinds):
        return f"choose from {', '.join([*nothing, *map(str, names)])}"
    plain = [(kind, rules) for kind, rules in kinds if kind is not type(None) and get_origin(kind) is not Literal]
    described = [_described(kind, rules) for kind, rules in plain]
    return f"expected {' or '.join([*described, *map(str, names), *nothing])}"


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a file"}


def _described(kind: Any, metadata: tuple[Any, ...]) -> str:
    if get_origin(kind) is tuple:
        return " and ".join(_described(*_kinds(each)[0]) for each in get_args(kind) if each is not Ellipsis)
    word = _WORDS.get(get_origin(kind) or kind, getattr(kind, "__name__", str(kind)))
    limits = next((str(rule) for rule in metadata if isinstance(rule, Limits)), "")
    return f"{word} {limits}".strip()
