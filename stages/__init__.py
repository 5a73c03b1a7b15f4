"""Stages of the dataflow: plain callables over rows and Arrow tables, and the one file that talks to the scheduler."""

import gc

_USUAL = gc.get_threshold()

# Every process of a run imports this before torch. What is imported makes some 400,000 objects that stay; looking
# through them again and again, every 700 new ones, would take a sixth of the process's start.
gc.set_threshold(10_000, *_USUAL[1:])


def collect_garbage_as_usual() -> None:
    """Let Python's collector come by as often as elsewhere, once this process has imported what it needs.

    What hangs in a cycle may hold an actor of Ray, and CPUs with it.
    """
    gc.set_threshold(*_USUAL)
