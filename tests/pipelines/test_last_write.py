"""A write that fails after the work: what was made is kept, the command says so in a line and with status 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from segment_anything.modeling import Sam

from pipelines import build_prompt_maps, curate, evaluate, label_corpus
from stages.storage import atomic
from stages.storage.errors import CannotWrite
from tests.helpers.in_process import without_ray
from tests.helpers.made_labels import done_images
from tests.helpers.made_shard import jpeg, two_objects, write_shard


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Sam) -> Path:
    without_ray(monkeypatch)
    for module in ("label.actor", "curate.actor", "evaluate.actor", "prompt_maps.actor"):
        monkeypatch.setattr(f"stages.{module}.load_sam", lambda *_: tiny)
    write_shard(tmp_path / "s.tar", {f"{n}": (jpeg(n, (96, 128)), two_objects()) for n in (1, 2)})
    (tmp_path / "photos").mkdir()
    for number in range(6):
        (tmp_path / f"photos/{number}.jpg").write_bytes(jpeg(number, (48, 64)))
    return tmp_path


def full(monkeypatch: pytest.MonkeyPatch, is_refused: Callable[[str], bool]) -> None:
    """Let the disk be full for files of some names."""
    real = Path.replace

    def replace(part: Path, target: str) -> Path:
        if is_refused(Path(target).name):
            raise OSError(28, "No space left on device")
        return real(part, target)

    monkeypatch.setattr(Path, "replace", replace)


def label(folder: Path) -> int:
    given = ["--images", f"{folder}/photos", "--out", f"{folder}/out", "--prompts", "grid-1", "--rows-per-file", "1"]
    return label_corpus.main([*given, "--pred-iou-thresh", "0", "--stability-score-thresh", "0"])


@pytest.mark.parametrize("name", ["report.html", "manifest.json"])
def test_the_end_of_a_labelling_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with monkeypatch.context() as patched:
        full(patched, lambda written: written == name and any((folder / "out").glob("labels/labels-*")))
        assert label(folder) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"label_corpus: {folder}/out/{name}: cannot be written (No space left on device); what was written before is"
        f" kept: the labels are kept in {folder}/out/labels, the same command again writes the rest"
    )
    files = {path: path.read_bytes() for path in (folder / "out/labels").iterdir()}
    assert len(done_images(f"{folder}/out/labels")) == 6
    assert label(folder) == 0
    assert {path: path.read_bytes() for path in (folder / "out/labels").iterdir()} == files
    assert json.loads((folder / "out/manifest.json").read_bytes())["state"] == "finished"
    assert (folder / "out/report.html").exists()
    assert "nothing to do" not in capsys.readouterr().out


def test_a_disk_that_fills_up_ends_a_run_soon(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []

    def is_refused(name: str) -> bool:
        tried.extend([name] if name.startswith("labels-") else [])
        return len(tried) > 1 and name.startswith("labels-")

    with monkeypatch.context() as patched:
        full(patched, is_refused)
        assert label(folder) == 1
    assert len(tried) == 4
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be written (No space left on device); what was written before is kept" in said
    assert len(done_images(f"{folder}/out/labels")) == 1
    assert label(folder) == 0
    assert json.loads((folder / "out/manifest.json").read_bytes())["status"]["failed"] == 0


def test_a_unit_that_could_once_not_be_written_is_written_at_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    full(monkeypatch, lambda name: name.startswith("labels-") and tried.append(name) is None and len(tried) in (2, 4))
    assert label(folder) == 0
    assert json.loads((folder / "out/manifest.json").read_bytes())["images"] == 6


@pytest.mark.parametrize(
    ("name", "refused", "kept"),
    [
        ("curate", "sheet.png", "curation.parquet"),
        ("evaluate", "index.html", "metrics.parquet"),
        ("build_prompt_maps", "sheet.png", "*.parquet"),
    ],
)
def test_the_end_of_other_jobs(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    refused: str,
    kept: str,
) -> None:
    full(monkeypatch, lambda written: written == refused)
    more = {"curate": ["--keep", "1"], "evaluate": ["--sam", "tiny", "--prompts", "grid-2"]}.get(name, [])
    main = {"curate": curate, "evaluate": evaluate, "build_prompt_maps": build_prompt_maps}[name].main
    assert main(["--data", f"{folder}/s.tar", "--out", f"{folder}/out", *more]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{name}: {folder}/out/{refused}: cannot be written (No space left on device); what was written before is kept"
    )
    (path,) = (folder / "out").glob(kept)
    assert pq.read_metadata(path).num_rows >= 2
    assert not list((folder / "out").glob("*.part"))


def test_measures_are_kept_where_pictures_of_them_fail(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.evaluate.failures.show", lambda *_: (_ for _ in ()).throw(MemoryError))
    given = ["--data", f"{folder}/s.tar", "--out", f"{folder}/out", "--sam", "tiny", "--prompts", "grid-2"]
    with pytest.raises(MemoryError):
        evaluate.main(given)
    assert pq.read_metadata(folder / "out/metrics.parquet").num_rows > 0


def test_a_refusal_of_a_store_is_named_without_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("https://user:secret@host: over quota")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.put_file", refuse)
    with pytest.raises(CannotWrite, match=r"^memory://x/a: cannot be written \(RuntimeError\)") as caught:
        atomic.write_bytes("memory://x/a", b"")
    assert "secret" not in str(caught.value)
