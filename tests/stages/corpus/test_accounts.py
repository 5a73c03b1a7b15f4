"""Every file of an odd folder is looked at or counted, once: rows + files not looked at = files there."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from aopsam.photos.decode import PhotoError, open_photo
from stages.corpus.fetch import FetchError, fetch
from stages.corpus.listing import list_images
from stages.corpus.names import shown, suffix
from tests.helpers.odd_files import build_odd_files, encode, scene

TAR_FILES = ["a.jpg", "a.json", "b/a.jpg", "a.jpg", "in.tar", "in.zip", "x.parquet", "notes", "_h.jpg", "_h.txt"]


def make_tar(*members: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        (folder := tarfile.TarInfo("b")).type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in members:
            (info := tarfile.TarInfo(name)).size = 5
            tar.addfile(info, io.BytesIO(b"photo"))
    return buffer.getvalue()


def build(folder: Path) -> dict[bytes, list[str]]:
    """Fill a folder with odd files of all kinds; returns the archives that are read, and the files in each."""
    build_odd_files(folder)
    photo = scene()
    (folder / "pillow").mkdir()
    Image.init()
    for end, format in Image.registered_extensions().items():
        try:
            data = encode(photo, format)
        except Exception:  # a format that Pillow reads alone, or whose library is missing
            data = b"no such writer"
        (folder / "pillow" / f"whole{end}").write_bytes(data)
        (folder / "pillow" / f"CUT{end.upper()}").write_bytes(data[: len(data) // 2])
        (folder / "pillow" / f"empty{end}").touch()
    jpeg = encode(photo, "JPEG")
    names = ["photo.jpg_large", "photo.jpg?size=large", "new.jxl", "camera.NEF", "noname", ".DS_Store", "Thumbs.db"]
    names += ["a.json", "a.xml", "notes.txt", "new\nline.txt", "🙂.txt", f"{'n' * 240}.txt", os.fsdecode(b"\xff.txt")]
    names += [".git/HEAD", ".git/logs/HEAD", "_old/x.cfg", "x.tar/inside.txt", "x.zip/inside.jpg", "gone.parquet"]
    names += ["b.tgz", "c.7z", "d.rar", "e.tar.zst", "f.gz", "g.npy", "locked\\name.raw", " .jpg", "jpg", ".jpg"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg)
    with zipfile.ZipFile(folder / "photos.zip", "w") as file:
        file.writestr("a.jpg", jpeg)
    os.mkfifo(folder / "pipe.txt")
    os.mkfifo(folder / "pipe.tar")
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "circle.txt").symlink_to("circle.txt")
    (folder / "x.tar" / "up").symlink_to("..")
    (folder / "nested.tar").write_bytes(make_tar(*TAR_FILES))
    (folder / "joined.TAR").write_bytes(make_tar("a.jpg", "a.txt") + make_tar("a.jpg", "a.json"))
    (folder / "cut.tar").write_bytes(make_tar("a.jpg", "a.txt")[:3000])
    (folder / "empty.tar").write_bytes(make_tar())
    pq.write_table(pa.table({"image": [jpeg, None, b""]}), folder / "photos.parquet")
    pq.write_table(pa.table({"image": [[jpeg], []]}), folder / "lists.parquet")
    pq.write_table(pa.table({"text": ["a"]}), folder / "text.parquet")
    shard = ["sa_1.jpg", "sa_1.json", *("../escape.jpg", "/absolute.jpg", "._sa_1.jpg", "empty.jpg")]
    return {
        b"nested.tar": TAR_FILES,
        b"joined.TAR": ["a.jpg", "a.txt", "a.jpg", "a.json"],
        b"cut.tar": ["a.jpg", "a.txt", ""],  # "": what is lost, of which the tar itself has a row
        b"shard.tar": [*shard, "link.jpg", "hard.jpg", "pipe.jpg"],
        b"cut_short.tar": ["whole.jpg", "cut.jpg", ""],
        b"photos.parquet": ["0", "1", "2"],
    }


def files_below(root: bytes, archives: dict[bytes, list[str]]) -> Counter[str]:
    """Count every file by the name that its row would have; of an archive that is read, the files in it."""
    names = Counter[str]()
    for folder, _, files in os.walk(root):
        for file in files:
            relative = os.path.relpath(folder + b"/" + file, root)
            inside = [f"#{name}" if name else "" for name in archives.get(relative, [""])]
            names.update(shown(relative) + name for name in inside)
    return names


def test_rows_and_files_not_looked_at_are_the_files_there(tmp_path: Path) -> None:
    there = files_below(os.fsencode(tmp_path), build(tmp_path))
    assert there.total() > 60
    table = list_images(str(tmp_path), others=(others := Counter[str]())).to_pylist()
    rows = Counter(row["file_name"] for row in table if not Path(os.fsdecode(row["path"])).is_dir())
    assert rows.total() + others.total() == there.total()
    assert not rows - there
    left = Counter(suffix(name.rpartition("#")[2].encode()) for name in (there - rows).elements())
    left.subtract({".tar": 1, ".parquet": 1})
    assert others == +left + Counter({".tar of no files": 1, ".parquet of no images": 1})
    assert len({row["image_id"] for row in table}) == len(table)


def test_every_row_of_an_odd_folder_is_a_photo_or_a_reason(tmp_path: Path) -> None:
    build(tmp_path)
    outcomes = Counter[str]()
    for row in list_images(str(tmp_path)).to_pylist():
        try:
            open_photo(fetch(row, str(tmp_path)), 10**6)
            outcomes["photo"] += 1
        except (FetchError, PhotoError) as error:
            outcomes[type(error).__name__] += 1
    assert min(outcomes.values()) > 20
