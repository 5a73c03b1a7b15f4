"""README followed in an empty folder: its commands, in its order, on three small photos, with Ray's part done here."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from aopsam.masks import rle
from aopsam.sam.checkpoints import file_sha256
from stages.annotations.held_out import is_held_out
from stages.config.selection import Selection
from stages.results.export.label_studio import brush_rle
from stages.results.export.selection import select
from tests.docs.test_commands import COMMANDS, FOLLOWED, commands_of
from tests.helpers import ROOT
from tests.helpers.in_process import training_without_ray, without_ray
from tests.helpers.made_labels import disc, label_row, mask_record
from tests.helpers.made_shard import jpeg, two_objects, write_shard

HELD_OUT = next(name for name in map(str, range(100)) if is_held_out(name))
SMALLER = {
    "grid-32": "grid-3",
    "aop,grid-16,gt-point": "grid-2,gt-point",
    "hierarchical": "hierarchical(sparse=2,dense=3)",
}
"""What README writes, and what is run in its place: fewer prompts."""
ALSO = {
    "train_predictor": "--steps 1",
    "calibrate": "--prompts grid-2 --sweep mask_nms_thresh=0.6 --limit 2 --threads 1",
}
"""Flags that shorten a pipeline."""


def correct(exported: Path, corrected: Path) -> None:
    """Do what people do in Label Studio: of each photo the first mask goes, the second is redrawn, one is new."""
    tasks = json.loads(exported.read_text())
    for task in tasks:
        result = task.pop("predictions")[0]["result"]
        for region, middle in zip(result[1:2], (0.25,), strict=False):
            region["value"]["rle"] = brush(region, middle)
        new = json.loads(json.dumps(result[:1])) or []
        for region in new:
            region["id"] = "new"
            region["value"]["rle"] = brush(region, 0.75)
        task["annotations"] = [{"id": 1, "was_cancelled": False, "result": [*result[1:], *new]}]
    corrected.write_text(json.dumps(tasks))


def brush(region: dict[str, Any], middle: float) -> list[int]:
    """A disc at a share of the photo's sides."""
    width, height = region["original_width"], region["original_height"]
    mask = disc(height, width, width * middle, height * middle, 9)
    (ours,) = select(label_row("x", "x", width, height, [mask_record(mask, (0, 0))]), Selection())
    return brush_rle(ours).tolist()


@pytest.mark.parametrize(("page", "name"), [("README.md", "records"), ("docs/how_it_works.md", "labelled")])
def test_python_of_the_pages_runs(page: str, name: str, scene: np.ndarray) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    found: dict[str, Any] = {"rgb": scene[:120, :160]}
    exec(code.replace("points_per_side=32", "points_per_side=2"), found)
    assert found[name]


@pytest.mark.slow
def test_the_readme_is_followed_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "home" / "photos"
    photos.mkdir(parents=True)
    for sample, name in (("chelsea", "a"), ("coffee", "b"), ("rocket", HELD_OUT)):
        with Image.open(ROOT / "samples" / f"{sample}.jpg") as opened:
            opened.resize((160, 112)).save(photos / f"{name}.jpg")
    write_shard(tmp_path / "SHARD", {"s": (jpeg(1, (96, 128)), two_objects())}).rename(tmp_path / "shard.tar")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    commands = [line for line in commands_of((ROOT / "README.md").read_text()) if COMMANDS[line] == FOLLOWED]
    names = [re.split(r"pipelines/(\w+)\.py", command)[1] for command in commands]
    mains = {name: importlib.import_module(f"pipelines.{name}").main for name in names}
    for room in ("label.run", "results.settle", "annotations.job"):  # all that `without_ray` is to find
        importlib.import_module(f"stages.{room}")
    without_ray(monkeypatch)
    training_without_ray(monkeypatch)
    said = {}
    for command, name in zip(commands, names, strict=True):
        arguments = command.partition(".py ")[2].replace("~", str(Path.home())).replace("SHARD", "shard.tar")
        words = [SMALLER.get(word, word) for word in shlex.split(f"{arguments} {ALSO.get(name, '')}")]
        if name == "import_labels":
            correct(Path("ls/tasks.json"), Path("export.json"))
        assert mains[name](words) == 0, (command, capsys.readouterr().err)
        said[command] = capsys.readouterr().out
    check(said)


def check(said: dict[str, str]) -> None:
    """What README says that one sees is what there is."""
    by_name = {re.search(r"(\w+)\.py", command).group(1): text for command, text in said.items()}
    (labels,) = (text for command, text in said.items() if command.endswith("~/photos --out out"))
    assert re.search(
        r"^images   3 \(3 ok\)\nmasks    \d+ from \d+ prompts decoded of \d+ proposed\nspeed ", labels, re.M
    )
    assert re.search(r"^tables   \S+/out/labels\nreport   \S+/out/report.html$", labels, re.M)
    assert Path("out/report.html").stat().st_size > 10_000
    assert Path("out/gallery/index.html").is_file()
    rows = pq.read_table("out/labels").to_pylist()
    masks = sum(len(row["masks"]) for row in rows)
    assert by_name["verify_labels"] == f"verified 3 images, {masks} masks\n"
    assert len(json.loads(Path("out/coco/instances.json").read_text())["annotations"]) == masks
    manifests = {name: json.loads(Path(f"{name}/manifest.json").read_text()) for name in ("out2", "out3", "out4")}
    assert manifests["out2"]["configuration"]["weights"]["predictor"]["sha256"] == file_sha256(
        Path("runs/predictor/predictor.safetensors")
    )
    chosen = yaml.safe_load(Path("runs/calibration/config.yaml").read_text())
    assert {name: manifests["out4"]["configuration"][name] for name in chosen} == chosen
    assert Path("runs/evaluation/index.html").is_file()
    assert Path("differences/index.html").is_file()
    check_corrections(rows, by_name["import_labels"])
    shutil.rmtree("out")  # the corrections stand for themselves
    assert {path.suffix for path in Path("corrected").iterdir()} == {".tar", ".parquet", ".json"}


def check_corrections(rows: list[dict[str, Any]], said: str) -> None:
    """Every mask that was shown in Label Studio came back with what became of it, and the others are left alone."""
    shown = {
        row["image_id"]: [place for place, mask in enumerate(row["masks"]) if (mask["score"] or 0) >= 0.5]
        for row in rows
    }
    assert any(len(places) > 2 for places in shown.values())
    changes = pq.read_table("corrected/changes.parquet").to_pylist()
    counts = {
        kind: sum(change["change"] == kind for change in changes) for kind in ("kept", "reshaped", "deleted", "added")
    }
    with_masks = sum(bool(places) for places in shown.values())
    assert counts["added"] == with_masks
    assert counts["kept"] + counts["reshaped"] + counts["deleted"] == sum(map(len, shown.values()))
    assert counts["reshaped"] == sum(len(places) > 1 for places in shown.values())
    assert counts["deleted"] == with_masks
    for change in changes:
        if change["change"] == "added":
            assert change["area_after"] == disc(112, 160, 120, 84, 9).sum()
    text = ", ".join(f"{counts[kind]} {kind}" for kind in ("kept", "reshaped", "deleted", "added"))
    assert f"masks {text}" in said
    assert all(np.any(rle.decode(mask["segmentation"])) for row in rows for mask in row["masks"])
