"""Say which versions of a predictor a registry holds and which is in use; go back to an earlier one.

    python pipelines/registry.py --registry s3://bucket/registry
    python pipelines/registry.py --registry s3://bucket/registry --rollback
    python pipelines/registry.py --registry s3://bucket/registry --promote 7
    ray job submit --working-dir . -- python pipelines/registry.py --registry s3://bucket/registry --rollback

Versions are made by pipelines/retrain.py. `label_corpus.py --predictor REGISTRY@latest` takes the one in use. Exit
codes: 0, 1 if somebody took another version into use at the same time, 2 for wrong arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aopsam._options import Count
from stages.config.command_line import Uri, checking_input, command_anew, parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List the versions of a registry, or take one of them into use."""

    registry: Uri
    """Folder or s3:// URI."""
    rollback: bool = False
    """Go back to the version that the one in use was trained on from."""
    promote: Count | None = None
    """Take this version into use."""


@command_anew
def main(argv: Sequence[str] | None = None) -> int:
    """List, go back or promote; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """List, go back or promote; what takes seconds to import comes now, after the flags have been judged."""
    from stages.registry.versions import Registry

    registry = Registry(arguments.registry.rstrip("/"))
    with checking_input():
        registry.check()
        if arguments.rollback and arguments.promote is not None:
            raise ValueError("--rollback and --promote exclude each other")
        if arguments.rollback or arguments.promote is not None:
            number = registry.take(arguments.promote, by="registry.py")
            print(f"{registry}: version {number} is in use now")
            return 0
        latest, versions = registry.latest(), registry.versions()
    for version in versions:
        mark = "in use" if latest is not None and latest.number == version.number else "      "
        print(f"{mark}  {version}")
    if not versions:
        print(f"{registry}: no version yet; pipelines/retrain.py makes the first")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
