"""Command lines from dataclasses, by tyro: what pipelines share, and bad input turned into one line and status 2."""

from __future__ import annotations

import atexit
import gc
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from aopsam._options import Count, Limits, Share, check
from aopsam.sam.names import absolute_name
from stages import collect_garbage_as_usual
from stages.config.flags import Flag, flags_of, judge_names, judge_value, write_help
from stages.storage.errors import BadInput, CannotWrite, RunFailed
from stages.storage.location import absolute, redact

Arguments = TypeVar("Arguments")
Main = Callable[[Sequence[str] | None], int]


def _word(metavar: str, read: Callable[[str], str]) -> PrimitiveConstructorSpec[str]:
    """Return how tyro takes a word of a command line, through `read`."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    )


Uri = Annotated[str, _word("URI", absolute)]
"""A path or fsspec URI; paths are made absolute, since workers run in folders of their own."""

SamName = Annotated[str, _word("NAME", absolute_name)]
"""Name of a SAM; the folder in hf:FOLDER is made absolute, since workers run in folders of their own."""
SamNames = Annotated[str, _word("NAME[,NAME]", lambda names: ",".join(map(absolute_name, names.split(","))))]
"""Several of them, separated by commas."""


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """Which SAM."""

    sam: SamName = "tiny"
    """Model: a name of aopsam.sam.registry.MODELS, hf:ORG/NAME or hf:FOLDER."""
    checkpoint: Uri | None = None
    """Weights of the model; by default the bundled or official ones."""


@dataclass(frozen=True, kw_only=True)
class ResourceArguments:
    """Processes, threads and devices that a run uses."""

    actors: Count | None = None
    """Processes; by default one a GPU, else as many as have their --threads on the CPUs."""
    threads: Count | None = None
    """CPU threads of each; by default 2."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device that models run on; auto: CUDA GPUs where there are some, else CPUs. mps is an Apple GPU."""


@dataclass(frozen=True, kw_only=True)
class RunArguments(ResourceArguments):
    """Limits to failed and slow photos within which a run goes on."""

    max_failed: Share | None = None
    """Share of failed photos to accept; by default any below all."""
    max_seconds: Annotated[float, Limits(0, open=True)] = 3600.0
    """Longest time for a photo, after which it is given up."""


def command(main: Main) -> Callable[..., int]:
    """Let a pipeline's `main` end with one line: status 2 for bad input, 1 where it cannot write, 130 at ctrl-C."""
    return _ending(main, "does what is left undone")


def command_anew(main: Main) -> Callable[..., int]:
    """The same for a pipeline that goes on with nothing of a run that was stopped."""
    return _ending(main, "begins anew")


def _ending(main: Main, again: str) -> Callable[..., int]:
    name = Path(main.__code__.co_filename).stem

    @wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        collect_garbage_as_usual()
        atexit.register(gc.freeze)  # at its end Python would look through all that torch and Ray made, for a second
        if isinstance(sys.stdout, io.TextIOWrapper):  # what is said of a path that is not UTF-8 ends no run
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return main(argv)
        except BadInput as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        except (CannotWrite, RunFailed) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"{name}: stopped; the same command again {again}", file=sys.stderr)
            return 130

    return run


@contextmanager
def checking_input() -> Iterator[None]:
    """Say that what is wrong inside the block is wrong with the input.

    Raises:
        BadInput: in place of a ValueError or OSError, or of what the client of a store raises.
    """
    try:
        yield
    except Exception as error:
        of_store = type(error).__module__.partition(".")[0] in _CLIENTS
        if not of_store and not isinstance(error, ValueError | OSError):
            raise
        if of_store or (isinstance(error, PermissionError) and not error.errno):
            said = " ".join(redact(word) for word in str(error).split())
            raise BadInput(
                f"the store refuses or is not there ({said}); are its credentials and address right?"
            ) from error
        raise BadInput(str(error)) from error


_CLIENTS = {"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure"}
"""Packages that speak to stores; their exceptions have no common base."""


@dataclass(frozen=True, kw_only=True)
class _SettingsFile:
    config: Uri | None = None


def settings_file(argv: Sequence[str] | None) -> str | None:
    """Return what --config names on a command line, before the rest is parsed.

    Raises:
        BadInput: it names nothing.
    """
    with checking_input():
        return _parsed(_SettingsFile, list(flags_of(_SettingsFile)), _words(argv), None)[0].config


def parse(kind: type[Arguments], argv: Sequence[str] | None, default: Arguments | None = None) -> Arguments:
    """Parse a command line into a dataclass, whose fields are the flags; the docstring of its module describes it.

    Args:
        kind: the dataclass.
        argv: words after the command's name; None for those of this process.
        default: values of flags that are not given, in place of the dataclass's own.

    Raises:
        SystemExit: status 0 after --help.
        BadInput: a flag that is none or is missing, or a value that does not fit; it says what would.
    """
    words, flags = _words(argv), list(flags_of(kind, default))
    if {"-h", "--help"} & set(words):
        print(write_help(sys.modules[kind.__module__].__doc__ or "", flags))
        raise SystemExit(0)
    with checking_input():
        judge_names(flags, words)
        arguments, left = _parsed(kind, flags, words, default)
        if left:
            raise ValueError(f"{left[0]} belongs to no flag (see --help)")
        try:
            check(arguments)
        except ValueError as error:
            raise ValueError(_with_flag(str(error))) from None
        for entry in fields(cast(Any, arguments)):
            if entry.default is MISSING and getattr(arguments, entry.name) == ():
                raise ValueError(f"--{entry.name.replace('_', '-')} needs at least one value")
    return arguments


def _words(argv: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if argv is None else argv)


def _parsed(
    kind: type[Arguments], flags: Sequence[Flag], words: Sequence[str], default: Arguments | None
) -> tuple[Arguments, list[str]]:
    """Parse by tyro, whose boxes become one line; return the words that it leaves, too.

    Raises:
        ValueError: a value that does not fit.
    """
    said = io.StringIO()
    config = (tyro.conf.FlagCreatePairsOff,)
    try:
        with redirect_stderr(said):
            parsed = tyro.cli(
                kind, args=words, default=default, config=config, return_unknown_args=True, add_help=False
            )
            return cast(tuple[Arguments, list[str]], parsed)
    except SystemExit:  # boxes of lines or, where those cannot be printed, of ASCII
        lines = [line.strip("│|─- ") for line in said.getvalue().splitlines() if not line.startswith(("╭", "╰", "+"))]
        line = " ".join(takewhile(lambda line: not line.startswith("For full helptext"), lines))
        raise ValueError(_with_flag(judge_value(flags, words, line.strip()))) from None


def _with_flag(said: str) -> str:
    """Return what is said of an option, `max_failed=3.0; …`, with its flag: `--max-failed 3.0; …`."""
    return re.sub(r"^(\w+)='?(.*?)'?; ", lambda found: f"--{found[1].replace('_', '-')} {found[2]}; ", said)
