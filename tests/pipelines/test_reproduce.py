"""pipelines/reproduce.py as a user runs it, on made-up photos with two made-up tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.reproduce import main
from stages.reproduce import tables
from stages.reproduce.tables import AR_1000, KEPT, MIOU, PaperTable
from tests.helpers.in_process import without_ray
from tests.helpers.made_shard import jpeg, save_random, two_objects, write_shard

FIRST = PaperTable(
    "first-1",
    "First, Table 1",
    "grids",
    ("sa1b", "coco"),
    (MIOU, KEPT),
    {
        "vit_h": (("G2", "grid-2", (41.5, 2), (None, 3)), ("none", "", (50.0, None), (None, None))),
        "tiny": (("G2", "grid-2", (12.5, None), (None, 4)), ("R3", "random-3", (13, 5), (14, 6))),
    },
    "A note.",
)
SECOND = PaperTable(
    "second-7",
    "Second, Table 7",
    "again",
    ("lvis", "coco"),
    AR_1000,
    {"vit_h": (("G2", "grid-2", (1,) * 4, (2,) * 4),)},
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    without_ray(monkeypatch)
    monkeypatch.setattr(tables, "TABLES", (FIRST, SECOND))
    sam, predictor = save_random("tiny", tmp_path)
    shard = write_shard(tmp_path / "x.tar", {f"p{i}": (jpeg(i, (96, 128)), two_objects()) for i in range(3)})
    words = ["--sam", "tiny", "--checkpoint", sam, "--predictor", predictor, "--limit", "1", "--threads", "1"]
    return [str(word) for word in [*words, "--out", tmp_path / "out", "--data", f"coco={shard}"]]


def test_each_strategy_is_measured_once_and_stands_beside_the_papers_figures(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "COCO: 2 strategies" in said
    assert "6 of 16 figures of 2 tables measured; not run: no SA-1B, no LVIS" in said
    evaluation = json.loads((tmp_path / "out/coco/evaluation.json").read_text())
    measured = {entry["prompts"]: entry for entry in evaluation["results"]}
    assert list(measured) == ["grid-2", "random-3"]
    assert evaluation["photos"] == 1
    found = json.loads((tmp_path / "out/reproduction.json").read_text())
    records = {(each["table"], each["data"], each["row"], each["figure"]): each for each in found["records"]}
    assert len(records) == 16
    kept = records["first-1", "coco", "R3", "#P"]
    assert (kept["ours"], kept["paper"], kept["paper_sam"]) == (measured["random-3"]["masks_kept"], 6, "tiny")
    quality = records["first-1", "coco", "G2", "mIoU"]
    assert quality["ours"] == pytest.approx(100 * measured["grid-2"]["miou"]["over_masks"]["mean"])
    assert quality["low"] <= quality["ours"] <= quality["high"]
    assert quality["paper"] is None
    assert records["first-1", "sa1b", "G2", "mIoU"]["ours"] is None
    assert records["first-1", "sa1b", "G2", "mIoU"]["paper"] == 12.5
    large = records["second-7", "coco", "G2", "AR@1000 medium"]
    assert (large["paper"], large["paper_sam"]) == (2, "vit_h")
    page, text = ((tmp_path / "out" / name).read_text() for name in ("index.html", "tables.md"))
    for shown in ("not run: no LVIS given (--data lvis=URI)", "First, Table 1, COCO: tiny", "A note."):
        assert shown in page
        assert shown in text
    assert "Second, Table 7, COCO: tiny, the paper's of vit_h" in text

    part = next((tmp_path / "out/coco/parts").iterdir())
    before = part.stat().st_mtime_ns
    assert main(command) == 0  # nothing is measured again
    assert part.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "out/reproduction.json").read_text())["records"] == found["records"]
    capsys.readouterr()
    assert main([*command, "--tables", "second-7"]) == 2  # other strategies into the same folder
    assert "prompts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data", "nowhere.tar"], "--data nowhere.tar: expected ROLE=URI, ROLE one of sa1b, coco, lvis"),
        (["--data", "imagenet=x.tar"], "--data imagenet=x.tar: expected ROLE=URI"),
        (["--data", "coco=x.tar", "coco=y.tar"], "--data coco=y.tar: coco is given twice"),
        (["--data", "sip=x.tar"], "none of the tables is of sip; theirs is --data sa1b=URI coco=URI lvis=URI"),
        (["--tables", "third-1"], "--tables third-1: no such table; there are first-1, second-7"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(
    command: list[str], tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = command[: command.index("--data")] if more[0] == "--data" else command
    assert main([*given, *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_data_of_which_nothing_can_be_measured_is_said_and_exits_3(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = write_shard(tmp_path / "broken.tar", {"p": (b"", two_objects())})
    assert main([*command, f"lvis={broken}"]) == 3
    assert "LVIS: no photo could be measured" in capsys.readouterr().out
    assert "not run: no photo of LVIS could be measured" in (tmp_path / "out/tables.md").read_text()
