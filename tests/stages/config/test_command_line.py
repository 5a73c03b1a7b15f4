"""Command lines: what is wrong with them is said, with what is near."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
from botocore.exceptions import EndpointConnectionError
from tyro.conf import OmitArgPrefixes

from aopsam._options import Count, OneOf, Share
from aopsam.everything.options import GeneratorOptions
from pipelines import curate, label_corpus
from stages.config.command_line import RunArguments, Uri, checking_input, command, command_anew, parse
from stages.storage.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Do something."""

    images: Uri
    """Photos."""
    data: tuple[Uri, ...] = ()
    """More of them."""
    share: Share = 0.5
    """Share of all photos."""
    count: Count | None = None
    """Photos to take."""


@dataclass(frozen=True, kw_only=True)
class Many(Arguments, RunArguments):
    """Do more."""

    pair: tuple[float, float] = (1.0, 2.0)
    """A pair."""
    sure: bool = True
    """In doubt."""
    other: Annotated[str, OneOf(("one", "two"))] = "one"
    """Another."""
    masks: OmitArgPrefixes[GeneratorOptions] = field(default_factory=GeneratorOptions)
    """Do something with masks."""


def test_paths_become_absolute_and_uris_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = parse(Arguments, ["--images", "photos", "--data", "a", "s3://bucket/b", "--count", "3"])
    assert arguments == Arguments(images=str(tmp_path / "photos"), data=(str(tmp_path / "a"), "s3://bucket/b"), count=3)


@pytest.mark.parametrize(("flag", "value"), [("--share", "1.5"), ("--share", "nan"), ("--count", "0")])
def test_numbers_have_limits(flag: str, value: str) -> None:
    with pytest.raises(BadInput, match=flag.strip("-")):
        parse(Arguments, ["--images", "a", flag, value])


def test_what_runs_over_photos_are_given() -> None:
    command = ["--data", "a", "--keep", "1", "--out", "x"]
    given = parse(curate.Arguments, [*command, "--device", "cpu", "--max-seconds", "9"])
    assert (given.device, given.max_seconds, given.max_failed) == ("cpu", 9.0, None)
    for wrong in ("--max-seconds 0", "--max-failed 2"):
        with pytest.raises(BadInput, match="^" + wrong):
            parse(curate.Arguments, [*command, *wrong.split()])


def test_a_list_that_must_be_given_has_an_entry() -> None:
    with pytest.raises(BadInput, match="--data needs at least one value"):
        parse(curate.Arguments, ["--keep", "1", "--out", "x", "--data"])


def test_a_wrong_flag_is_status_2_and_names_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert label_corpus.main(["--images", "a", "--out", "b", "--pred-iou-tresh", "0.5"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("label_corpus: no flag --pred-iou-tresh; near: --pred-iou-thresh")
    assert said.endswith(" (see --help)\n")
    assert said.count("\n") == 1


def test_bad_input_ends_a_command_with_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main(argv: object) -> int:
        with checking_input():
            raise OSError("no such file: x")

    assert main([]) == 2
    assert capsys.readouterr().err == "test_command_line: no such file: x\n"


def test_what_fails_later_is_no_bad_input() -> None:
    @command
    def main(argv: object) -> int:
        raise ValueError("a defect of ours")

    with pytest.raises(ValueError, match="a defect of ours"):
        main([])


@pytest.mark.parametrize(
    "fault", [EndpointConnectionError(endpoint_url="http://k:s@host/b"), PermissionError("http://k:s@host/b: denied")]
)
def test_a_store_that_refuses_or_is_not_there_is_said_without_its_keys(fault: Exception) -> None:
    with (
        pytest.raises(BadInput, match=r"^the store refuses .*host/b.*credentials and address") as said,
        checking_input(),
    ):
        raise fault
    assert "k:s@" not in str(said.value)


def test_a_fault_of_our_own_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), checking_input():
        raise KeyError("x")


def test_ctrl_c_ends_with_one_line_that_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main(argv: Sequence[str] | None = None) -> int:
        raise KeyboardInterrupt

    assert main() == 130
    said = "test_command_line: stopped; the same command again"
    assert capsys.readouterr().err == f"{said} does what is left undone\n"
    assert command_anew(main.__wrapped__)() == 130
    assert capsys.readouterr().err == f"{said} begins anew\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--images a --device cudda", "--device cudda; choose from auto, cpu, cuda, mps"),
        ("--images a --max_failed=x", "--max-failed x; expected a number from 0 to 1 or None"),
        ("--images a --max-failed 3", "--max-failed 3.0; expected a number from 0 to 1 or None"),
        ("--images a --count 1.5", "--count 1.5; expected a whole number of at least 1 or None"),
        ("--images a --pair 1 x", "--pair 1 x; expected a number and a number"),
        ("--images a --points-per-batch 0", "--points-per-batch 0; expected a whole number of at least 1"),
        ("--images a --other x", "--other x; choose from one, two"),
        ("--images a --count", "--count has no value: Photos to take."),
        ("--images a stray", "stray belongs to no flag (see --help)"),
        ("--count 1", "--images is needed: Photos."),
        ("--imags a", "no flag --imags; near: --images (see --help)"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_what_is_right(words: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(Many, words.split())
    assert str(caught.value) == said


def test_the_help_has_a_section_for_what_is_shared_and_for_what_is_nested(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Many, ["--help"])
    assert caught.value.code == 0
    about, *sections = re.split(r"^(\S.*):\n(?=  --)", capsys.readouterr().out, flags=re.MULTILINE)
    assert about.strip() == __doc__
    told = dict(zip(sections[::2], sections[1::2], strict=True))
    shared = "Limits to failed and slow photos within which a run goes on"
    assert list(told) == [
        "Flags",
        "Processes, threads and devices that a run uses",
        shared,
        "Do something",
        "Do something with masks",
    ]
    assert told["Flags"].rstrip().splitlines() == [
        "  --pair X X              A pair. (default: 1.0 2.0)",
        "  --no-sure               In doubt.",
        "  --other {one,two}       Another. (default: one)",
    ]
    assert told["Do something"].startswith(
        "  --images URI            Photos. (needed)\n  --data URI ...          More of them.\n"
    )
