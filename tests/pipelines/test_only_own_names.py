"""Runs write and delete names of their own alone; what else lies in OUT stays as it is, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from segment_anything.modeling import Sam

from pipelines import build_edge_maps, build_prompt_maps, curate, evaluate, export_labels, label_corpus
from stages.results.read import find_labels
from tests.helpers.in_process import without_ray
from tests.helpers.made_edges import save_random_hed
from tests.helpers.made_labels import done_images
from tests.helpers.made_shard import jpeg, two_objects, write_shard

LABELS = r"labels(/labels-(joined-)?[0-9a-f]{24}\.parquet)?|listing(/files-\d{5}\.parquet)?|manifest\.json|report\.html"
PART = r"part-[0-9a-f]{16}-\d{6}-\d+-[0-9a-f]{16}(-last)?\.parquet"
PARTS = rf"parts(/{PART})?|manifest\.json"
OWN = {
    "label_corpus": LABELS,
    "curate": rf"(cover|sheet)\.png|curation\.parquet|{PARTS}",
    "build_edge_maps": r"edges-[0-9a-f]{16}\.parquet|sheet\.png",
    "build_prompt_maps": rf"{PART}|sheet\.png|manifest\.json|index|index/rows\.parquet",
    "evaluate": rf"metrics\.parquet|index\.html|evaluation\.json|table\.md|plots(/[a-z0-9.-]+\.svg)?|{PARTS}",
    "export_labels": r"instances\.json",
}
PROBE = r"(labels/|listing/|plots/|parts/|index/)?\.probe-[0-9a-f]{32}\.part"


def table_of(rows: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(rows), sink)
    return sink.getvalue().to_pybytes()


STRANGERS = {
    "notes.txt": b"mine",
    "mine.part": b"half",
    ".mine.part": b"half",
    ".hidden": b"mine",
    "photos/a.jpg": b"mine",
    "labels/notes.txt": b"mine",
    "labels/mine.part": b"half",
    "labels/.half-uploaded.parquet.part": b"PAR1",
    "labels/mine/labels-x.parquet": b"PAR1",
    "plots/mine.svg": b"<svg/>",
}
TABLES = {
    "half-uploaded.parquet": b"PAR1",
    "other.parquet": table_of({"image_id": ["a"], "value": [1]}),
}


class Recorded(MemoryFileSystem):
    """A file system that keeps what it was asked to write and to delete."""

    protocol = ("recorded",)
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own design
    pseudo_dirs = [""]  # noqa: RUF012
    changed: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("recorded://", "memory://"))

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        self.changed.append(path)
        super().pipe_file(path, value, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode != "rb":
            self.changed.append(path)
        return super()._open(path, mode, **kwargs)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.changed.append(path)
        super().makedirs(path, exist_ok)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        self.changed.append(path)
        assert not recursive
        super().rm(path, recursive, maxdepth)

    def _rm(self, path: str) -> None:
        self.changed.append(path)
        super()._rm(path)

    rm_file = _rm

    def rmdir(self, path: str) -> None:
        self.changed.append(path)
        super().rmdir(path)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        self.changed.extend((path1, path2))
        super().mv(path1, path2, **kwargs)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Sam) -> Iterator[Recorded]:
    without_ray(monkeypatch)
    for module in ("label.actor", "curate.actor", "curate.run", "evaluate.actor", "prompt_maps.actor"):
        monkeypatch.setattr(f"stages.{module}.load_sam", lambda *_: tiny)
    fsspec.register_implementation("recorded", Recorded, clobber=True)
    photos = {f"{number}": (jpeg(number, (96, 128)), two_objects()) for number in (1, 2)}
    write_shard(tmp_path / "s.tar", photos)
    (tmp_path / "photos").mkdir()
    for name, (data, _) in photos.items():
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(data)
    (tmp_path / "photos/late.jpg").symlink_to(tmp_path / "mount.jpg")
    filesystem = Recorded()
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    filesystem.changed.clear()


def strangers(filesystem: Recorded, *, tables: bool) -> dict[str, bytes]:
    """Put what is not ours into the folder /out."""
    found = {f"/out/{name}": data for name, data in (STRANGERS | (TABLES if tables else {})).items()}
    for path, data in found.items():
        filesystem.pipe_file(path, data)
    filesystem.changed.clear()
    return found


def check(filesystem: Recorded, name: str, found: dict[str, bytes]) -> None:
    own = re.compile(rf"/out(/({OWN[name]}|{PROBE}))?")
    assert filesystem.changed
    assert [path for path in filesystem.changed if not own.fullmatch("/" + path.strip("/"))] == []
    assert {path: filesystem.cat_file(path) for path in found} == found
    left = {path.removeprefix("/out/") for path in filesystem.find("/out")} - {path[5:] for path in found}
    assert [path for path in left if not re.fullmatch(OWN[name], path)] == []


def label(tmp_path: Path, *flags: str) -> int:
    given = ["--images", f"{tmp_path}/photos", "--out", "recorded://out", "--prompts", "grid-2", *flags]
    return label_corpus.main([*given, "--pred-iou-thresh", "0", "--stability-score-thresh", "0"])


def test_labelling_resuming_and_retrying(recorded: Recorded, tmp_path: Path) -> None:
    found = strangers(recorded, tables=True)
    folders = {path for path in found if path.startswith("/out/labels/")}
    for path in folders:  # no run begins beside labels that are not its own
        recorded.rm_file(path)
    recorded.changed.clear()
    kept = {path: data for path, data in found.items() if path not in folders}
    assert label(tmp_path) == 0
    check(recorded, "label_corpus", kept)
    for path in folders:
        recorded.pipe_file(path, found[path])
    lost = sorted(recorded.glob("/out/labels/labels-*.parquet"))[0]
    recorded.pipe_file(lost, b"PAR1 cut")
    recorded.pipe_file(f"{lost.replace('labels/', 'labels/.')}.{'0' * 32}.part", b"half")
    recorded.changed.clear()
    assert label(tmp_path) == 0
    recorded.changed[:] = [path for path in recorded.changed if not path.endswith(f"{'0' * 32}.part")]
    check(recorded, "label_corpus", found)
    (tmp_path / "mount.jpg").write_bytes(jpeg(3, (96, 128)))
    recorded.changed.clear()
    assert label(tmp_path, "--retry-failed") == 0
    check(recorded, "label_corpus", found)
    assert len(done_images("recorded://out/labels")) == 3
    assert {path.rpartition("/")[2][:7] for path in find_labels("recorded://out").paths} == {"labels-"}
    recorded.changed.clear()
    assert label(tmp_path) == 0  # nothing to do
    assert recorded.changed == []


@pytest.mark.parametrize("name", ["curate", "build_edge_maps", "build_prompt_maps", "evaluate", "export_labels"])
def test_the_other_jobs(recorded: Recorded, tmp_path: Path, name: str) -> None:
    found = strangers(recorded, tables=name != "build_prompt_maps")
    shard, out = ["--data", f"{tmp_path}/s.tar"], ["--out", "recorded://out"]
    if name == "export_labels":
        given = ["--images", f"{tmp_path}/photos", "--out", f"{tmp_path}/run", "--prompts", "grid-2"]
        assert label_corpus.main([*given, "--pred-iou-thresh", "0"]) == 0
    if name == "build_edge_maps":
        save_random_hed(tmp_path / "hed.safetensors")
    jobs = {
        "build_edge_maps": lambda: build_edge_maps.main([*shard, "--hed", f"{tmp_path}/hed.safetensors", *out]),
        "curate": lambda: curate.main([*shard, "--keep", "1", *out]),
        "build_prompt_maps": lambda: build_prompt_maps.main([*shard, *out]),
        "evaluate": lambda: evaluate.main([*shard, "--sam", "tiny", "--prompts", "grid-2,random-3", *out]),
        "export_labels": lambda: export_labels.main(["--labels", f"{tmp_path}/run", "--to", "coco", *out]),
    }
    assert jobs[name]() == 0
    check(recorded, name, found)
    if name in ("curate", "build_prompt_maps", "evaluate"):
        folder = "/out" if name == "build_prompt_maps" else "/out/parts"
        part = recorded.glob(f"{folder}/part-*")[0]
        manifest = json.loads(recorded.cat_file("/out/manifest.json"))
        recorded.pipe_file("/out/manifest.json", json.dumps(manifest | {"state": "running"}).encode())
        recorded.pipe_file(f"{folder}/.{part.rpartition('/')[2]}.{'0' * 32}.part", b"half")
        assert jobs[name]() == 0  # resumed
        recorded.changed[:] = [path for path in recorded.changed if not path.endswith(f"{'0' * 32}.part")]
        check(recorded, name, found)
        recorded.changed.clear()
        assert jobs[name]() == 0  # nothing to do
        assert recorded.changed == []


def test_a_folder_of_a_strangers_tables_holds_no_prompt_maps_of_ours(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = strangers(recorded, tables=True)
    assert build_prompt_maps.main(["--data", f"{tmp_path}/s.tar", "--out", "recorded://out"]) == 2
    assert "half-uploaded.parquet" in capsys.readouterr().err
    assert recorded.changed == []
    assert {path: recorded.cat_file(path) for path in found} == found


@pytest.mark.parametrize("begun", [False, True])
def test_tables_of_strangers_are_no_labels(recorded: Recorded, tmp_path: Path, begun: bool) -> None:
    strangers(recorded, tables=True)
    for path in recorded.glob("/out/labels/**"):
        if not recorded.isdir(path):
            recorded.rm_file(path)
    if begun:
        recorded.pipe_file("/out/manifest.json", b"{}")
        with pytest.raises(ValueError, match="no labels"):
            find_labels("recorded://out")
    recorded.pipe_file("/out/labels/other.parquet", TABLES["other.parquet"])
    assert done_images("recorded://out/labels") == set()
    assert label(tmp_path) == 2
    assert recorded.cat_file("/out/labels/other.parquet") == TABLES["other.parquet"]
