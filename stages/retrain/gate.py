"""Decide from an evaluation whether a new version may be used in place of the old one, and say why or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from aopsam._options import Limits, check


@dataclass(frozen=True, kw_only=True)
class Gate:
    """When a new version is taken into use.

    Raises:
        ValueError: a value out of its limits.
    """

    tolerance: Annotated[float, Limits(0, 100)] = 2.0
    """Points of mIoU that the lower end of the paired 95 % interval may lie below no change."""
    more_prompts: Annotated[float, Limits(0)] = 5.0
    """Percent more prompts on the mean than before that count as no more."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Verdict:
    """Answer of the gate: a version passed or not, and the reason."""

    passed: bool
    reason: str


def judge(entries: Sequence[Mapping[str, Any]], old: str | None, new: str, gate: Gate) -> Verdict:
    """Compare old and new on each set of photos; the new one must pass on all of them.

    Args:
        entries: of `stages.evaluate.summary.summarise`, the old strategy first.
        old: text of the old strategy; None where there is none.
        new: text of the new one.
        gate: the rule.
    """
    sets = sorted({entry["data"] for entry in entries})
    of = {(entry["data"], entry["prompts"]): entry for entry in entries}
    if not sets or any(of[data, new]["miou"]["over_masks"] is None for data in sets):
        return Verdict(False, "no photo to compare on could be measured")
    if old is None:
        return Verdict(
            True, "; ".join(_alone(of[data, new], data) for data in sets) + "; there was none to compare with"
        )
    found = [_compared(of[data, old], of[data, new], data, gate) for data in sets]
    failed = [verdict for verdict in found if not verdict.passed]
    return Verdict(not failed, "; ".join(verdict.reason for verdict in failed or found))


def _alone(new: Mapping[str, Any], data: str) -> str:
    miou = new["miou"]["over_masks"]
    return f"mIoU {100 * miou['mean']:.1f} % with {new['prompts_decoded']:.1f} prompts on {data}"


def _compared(old: Mapping[str, Any], new: Mapping[str, Any], data: str, gate: Gate) -> Verdict:
    change, before, now = new["miou"]["difference"], old["prompts_decoded"], new["prompts_decoded"]
    low = 100 * change["low"]
    said = f"mIoU {100 * change['mean']:+.1f} points, at least {low:+.1f}, with {now:.1f} prompts for {before:.1f}"
    said = f"{said}, on {new['photos']} photos of {data}"
    if low < -gate.tolerance:
        return Verdict(False, f"{said}: more than {gate.tolerance:g} points lower cannot be ruled out")
    if now > before * (1 + gate.more_prompts / 100):
        return Verdict(False, f"{said}: more than {gate.more_prompts:g} % more prompts")
    return Verdict(True, said)
