"""Command lines: what is wrong with them is said, with what is near."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from aopsam._options import Count, Share
from pipelines import curate, label_corpus
from stages.config.command_line import Uri, checking_input, command, parse
from stages.storage.errors import BadInput
from tests.helpers import ROOT


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Do something."""

    images: Uri
    """Photos."""
    data: tuple[Uri, ...] = ()
    """More of them."""
    share: Share = 0.5
    """Of all."""
    count: Count | None = None
    """Of them."""


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
        with pytest.raises(BadInput, match=wrong.split()[0].strip("-").replace("-", "_")):
            parse(curate.Arguments, [*command, *wrong.split()])


def test_a_list_that_must_be_given_has_an_entry() -> None:
    with pytest.raises(BadInput, match="--data needs at least one value"):
        parse(curate.Arguments, ["--keep", "1", "--out", "x", "--data"])


def test_a_wrong_flag_is_status_2_and_names_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        label_corpus.parse_arguments(["--images", "a", "--out", "b", "--pred-iou-tresh", "0.5"])
    assert caught.value.code == 2
    assert "--pred-iou-thresh" in capsys.readouterr().err


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
    said = capsys.readouterr().err
    assert said == "test_command_line: stopped; the same command again does what is left undone\n"


@pytest.mark.parametrize(
    "name",
    ["label_corpus", "evaluate", "curate", "browse_labels", "compare_labels", "export_labels", "import_labels"],
)
def test_flags_are_judged_before_what_takes_seconds_to_import(name: str) -> None:
    code = f"""
import sys
from pipelines.{name} import main
try:
    main(["--no-such-flag"])
except SystemExit as ended:
    assert ended.code == 2
assert not {{"torch", "ray"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
