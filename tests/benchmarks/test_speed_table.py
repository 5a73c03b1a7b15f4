from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import speed, speed_table
from benchmarks.speed_table import COLUMNS, MARKS
from tests.helpers.made_shard import jpeg, two_objects, write_shard

ROW = dict.fromkeys(COLUMNS.values(), 2.0) | {"decoded": 1024.0}
RESULTS = {
    "machine": {"processor": "Chip × 2", "cpu": "AVX2", "gpu": None, "torch": "2.13"},
    "threads": 2,
    "models": {
        "tiny": {
            "photos": 20,
            "sha256": "0123456789abcdef",
            "systems": {"SAM": ROW | {"times_encoder": None}, "grid-32": ROW | {"times_sam": 7.4321}},
        }
    },
}


def test_only_what_lies_between_the_marks_is_replaced(tmp_path: Path) -> None:
    record, page = tmp_path / "speed.json", tmp_path / "page.md"
    record.write_text(json.dumps(RESULTS))
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    for _ in range(2):
        assert speed_table.main(["--json", str(record), "--page", str(page)]) == 0
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "old" not in text
        assert "| `grid-32` | 2 | 7.43 | 2 | 1,024 |" in text
        assert "| SAM, its own generator | 2 | 2 | – |" in text
        assert "Chip × 2, AVX2" in text


@pytest.mark.parametrize("page", ["no marks", MARKS[1] + MARKS[0], MARKS[0] + MARKS[0] + MARKS[1]])
def test_a_page_without_both_marks_stays_as_it_is(
    tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speed.json").write_text(json.dumps(RESULTS))
    (tmp_path / "page.md").write_text(page)
    assert speed_table.main(["--json", str(tmp_path / "speed.json"), "--page", str(tmp_path / "page.md")]) == 2
    assert (tmp_path / "page.md").read_text() == page
    assert MARKS[0] in capsys.readouterr().err


def test_what_speed_writes_makes_the_table(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.tar", {"a": (jpeg(1, (96, 128)), two_objects())})
    record = tmp_path / "speed.json"
    flags = ["--sam", "tiny=1", "--grid", "3", "--threads", "1", "--prompts", "aop,aop(redraw=false)"]
    assert speed.main(["--data", str(tmp_path), "--json", str(record), *flags]) == 0
    table = speed_table.tables(json.loads(record.read_text()))
    assert "| SAM, its own generator |" in table
    for name in ("grid-3", "aop", "aop(redraw=false)"):
        assert f"| `{name}` |" in table
