from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from aopsam.masks import rle
from aopsam.report.page import printable
from stages.results.gallery import write_gallery
from stages.results.report import write_report
from stages.results.settle import settle
from tests.helpers.made_gallery import index_of, made_run, made_trace, photo_of
from tests.helpers.made_labels import HOSTILE_NAME, made_out, summary, write_labels

STATUSES = ("ok", "empty", "rejected", "failed")


def pictures(gallery: Path) -> dict[str, int]:
    """Name -> when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (gallery / "photos").rglob("*.*")}


def names(gallery: Path) -> Sequence[str]:
    return [photo["name"] for photo in index_of(gallery)]


def test_every_photo_is_there_once_the_worst_first(tmp_path: Path) -> None:
    images, out, rows = made_run(tmp_path)
    written = write_gallery(str(out), str(images), str(out / "gallery"), px=100)
    assert (written.photos, written.masks, written.without_photo) == (7, 12, 0)
    assert written.page == str(out / "gallery" / "index.html")
    photos = index_of(out / "gallery")
    assert [STATUSES[photo["values"][0]] for photo in photos] == ["empty"] + ["ok"] * 3 + ["rejected"] + ["failed"] * 2
    assert names(out / "gallery")[:4] == ["flat.png", "c #1.png", "sub/b.png", "a.png"]
    assert sorted(names(out / "gallery")) == sorted(printable(row["file_name"]) for row in rows)
    a = photos[3]
    covered = np.mean(np.any([rle.decode(mask["segmentation"]) for mask in rows[0]["masks"]], axis=0))
    assert a["size"] == [120, 80]
    assert a["values"][2:] == [4, 0.9, round(100 * rows[0]["masks"][3]["area"] / 9600, 1), round(100 * covered)]
    assert [photo["values"][3] for photo in photos[:4]] == [None, 0.7, 0.8, 0.9]
    keys = {photo["key"] for photo in photos if photo["key"]}
    assert len(keys) == 4
    assert set(pictures(out / "gallery")) == {f"{key}{kind}" for key in keys for kind in (".js", ".jpg", ".small.jpg")}
    assert not [photo["key"] for photo in photos[4:] if photo["key"]]
    assert "40000 x 40000 pixels" in [photo["note"] for photo in photos]


def test_masks_of_a_photo_are_those_of_its_row(tmp_path: Path) -> None:
    images, out, rows = made_run(tmp_path)
    rows[0]["masks"][0] |= {"score": 0.25, "point_coords": None, "box": [1.0, 2.0, 30.0, 40.0]}
    rows[0]["masks"][2]["crop_box"] = [0.0, 0.0, 60.0, 40.0]
    write_labels(rows, out / "labels" / "x.parquet")
    gallery = out / "gallery"
    write_gallery(str(out), str(images), str(gallery), px=1000)
    (key,) = (photo["key"] for photo in index_of(gallery) if photo["name"] == "a.png")
    (masks,) = photo_of(gallery, key)["sides"]
    assert [mask["counts"] for mask in masks] == [mask["segmentation"]["counts"] for mask in rows[0]["masks"]]
    assert [mask["area"] for mask in masks] == [mask["area"] for mask in rows[0]["masks"]]
    assert [mask.get("parent") for mask in masks] == [None, 3, None, None]
    assert [mask.get("score") for mask in masks] == [0.25, None, None, None]
    assert masks[0]["box"] == [1, 2, 30, 40]
    assert "points" not in masks[0]
    assert masks[1]["points"] == [[60, 40]]
    assert [mask.get("crop") for mask in masks] == [None, None, [0, 0, 60, 40], None]
    assert len({mask["colour"] for mask in masks}) == 4
    folder = gallery / "photos" / key[:2]
    assert Image.open(folder / f"{key}.jpg").size == Image.open(folder / f"{key}.small.jpg").size == (120, 80)


def test_a_large_photo_and_its_masks_become_smaller_together(tmp_path: Path) -> None:
    images, out, rows = made_run(tmp_path)
    write_gallery(str(out), str(images), str(out / "gallery"), px=60)
    key = index_of(out / "gallery")[3]["key"]
    photo = photo_of(out / "gallery", key)
    assert (photo["size"], photo["shown"]) == ([120, 80], [60, 40])
    small = [rle.decode({"size": [40, 60], "counts": mask["counts"]}) for mask in photo["sides"][0]]
    for mask, row in zip(small, rows[0]["masks"], strict=True):
        np.testing.assert_array_equal(mask, rle.decode(row["segmentation"])[1::2, 1::2])


def test_names_and_messages_are_text(tmp_path: Path) -> None:
    images, out, _ = made_run(tmp_path)
    write_gallery(str(out), str(images), str(out / "gallery"), px=60)
    texts = [path.read_text() for path in (out / "gallery").rglob("*") if path.suffix in (".js", ".html")]
    assert not [text for text in texts if "alert('1')" in text and "<script>alert" in text]
    assert not [text for text in texts if "cut short <b>" in text or str(images) in text]
    assert printable(HOSTILE_NAME.replace("/", "")) in names(out / "gallery")


def test_the_index_comes_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aopsam.report.gallery.ROWS_A_CHUNK", 3)
    images, out, rows = made_run(tmp_path)
    write_gallery(str(out), str(images), str(out / "gallery"), px=60)
    assert len(list((out / "gallery" / "data").glob("rows-*.js"))) == 3
    assert len(index_of(out / "gallery")) == len(rows)


def test_the_same_again_draws_nothing_and_what_is_gone_goes(tmp_path: Path) -> None:
    images, out, rows = made_run(tmp_path)
    gallery = out / "gallery"
    write_gallery(str(out), str(images), str(gallery), px=60)
    before = pictures(gallery)
    write_gallery(str(out), str(images), str(gallery), px=60)
    assert pictures(gallery) == before
    rows[0]["masks"] = rows[0]["masks"][:2]
    rows[1] = rows[0] | {"image_id": "f" * 32, "file_name": "again.png"}  # the same photo under another name
    write_labels(rows, out / "labels" / "x.parquet")
    write_gallery(str(out), str(images), str(gallery), px=60)
    after, keys = pictures(gallery), {photo["name"]: photo["key"] for photo in index_of(gallery)}
    assert keys["a.png"] == keys["again.png"]
    assert len(after) == 9
    assert len(set(after.items()) & set(before.items())) == 6
    assert len(list((gallery / "data").iterdir())) == 3


def test_a_photo_that_is_gone_or_another_is_grey_and_says_so(tmp_path: Path) -> None:
    images, out, _ = made_run(tmp_path)
    (images / "a.png").rename(images / "elsewhere.png")
    (images / "flat.png").write_bytes((images / "elsewhere.png").read_bytes())
    written = write_gallery(str(out), str(images), str(out / "gallery"), px=60)
    assert "2 photos could not be read again" in str(written)
    found = {photo["name"]: photo for photo in index_of(out / "gallery")}
    assert "not below" in found["a.png"]["note"]
    assert "another photo lies there now" in found["flat.png"]["note"]
    assert photo_of(out / "gallery", found["a.png"]["key"])["photo"] is False
    assert f"{found['a.png']['key']}.jpg" not in pictures(out / "gallery")
    (images / "elsewhere.png").rename(images / "a.png")
    write_gallery(str(out), str(images), str(out / "gallery"), px=60)
    assert photo_of(out / "gallery", found["a.png"]["key"])["photo"] is True


def test_without_a_place_for_photos_masks_are_shown_alone(tmp_path: Path) -> None:
    _, out, _ = made_run(tmp_path)
    assert write_gallery(str(out), None, str(tmp_path / "gallery"), px=60).without_photo == 4
    assert "give --images" in index_of(tmp_path / "gallery")[3]["note"]


def test_in_a_store(tmp_path: Path) -> None:
    images, out, _ = made_run(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(str(out / "labels"), "/bucket/out/labels", recursive=True)
    where = "memory://bucket/out/gallery"
    for _ in range(2):
        assert write_gallery("memory://bucket/out", str(images), where, px=60).page == f"{where}/index.html"
    memory.get("/bucket/out/gallery", str(tmp_path / "copy"), recursive=True)
    assert len(index_of(tmp_path / "copy")) == 7
    assert len(pictures(tmp_path / "copy")) == 12
    memory.rm("/bucket", recursive=True)


def test_a_malformed_mask_names_its_photo_and_leaves_the_former_gallery(tmp_path: Path) -> None:
    images, out, rows = made_run(tmp_path)
    write_gallery(str(out), str(images), str(out / "gallery"), px=60)
    before = (out / "gallery" / "index.html").read_text()
    rows[1]["masks"][0]["segmentation"]["counts"] = "0"
    write_labels(rows, out / "labels" / "x.parquet")
    with pytest.raises(ValueError, match=r"sub/b\.png: RLE"):
        write_gallery(str(out), str(images), str(out / "gallery"), px=60)
    assert (out / "gallery" / "index.html").read_text() == before
    assert len(index_of(out / "gallery")) == 7


def test_the_report_and_the_gallery_name_each_other(tmp_path: Path) -> None:
    images, out, rows = made_out(tmp_path)
    report = Path(write_report(str(out), str(images), summary(rows), settle(str(out))))
    link = '<a href="gallery/index.html">'
    assert link not in report.read_text()
    write_gallery(str(out), str(images), str(tmp_path / "elsewhere"), px=60)
    assert link not in report.read_text()
    assert "report.html" not in (tmp_path / "elsewhere" / "index.html").read_text()
    write_gallery(f"{out}/labels", str(images), f"{out}/gallery", px=60)
    linked = report.read_text()
    assert link in linked
    assert '<a href="../report.html">' in (out / "gallery" / "index.html").read_text()
    write_report(str(out), str(images), summary(rows), settle(str(out)))
    assert report.read_text() == linked


def test_how_a_photo_was_prompted_is_told_where_its_row_tells(tmp_path: Path) -> None:
    images, out, rows = made_run(tmp_path)
    gallery = out / "gallery"
    write_gallery(str(out), str(images), str(gallery), px=1000)
    before = {photo["name"]: photo["key"] for photo in index_of(gallery)}
    assert {photo_of(gallery, key)["trace"] for key in before.values() if key} == {None}
    rows[0]["trace"] = made_trace()
    write_labels(rows, out / "labels" / "x.parquet")
    write_gallery(str(out), str(images), str(gallery), px=1000)
    after = {photo["name"]: photo["key"] for photo in index_of(gallery)}
    assert [name for name in before if before[name] != after[name]] == ["a.png"]
    given = photo_of(gallery, after["a.png"])
    assert given["trace"]["reasons"] == ["late", "near <b>"]
    assert given["trace"]["prompts"] == [
        [[24, 16], 1, -1],
        [[100, 10], 1, 1],
        [[60, 40], 2, -1],
        [[96, 64], 2, -1],
        [[10, 70], 2, 0],
    ]
    assert ["Confidence", "up to 0.25 on the map"] in given["facts"]
    ((box, address),) = given["trace"]["maps"]
    kind, _, data = address.partition(",")
    assert (box, kind) == ([0, 0, 120, 80], "data:image/png;base64")
    coloured = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    assert coloured.shape == (8, 12, 4)
    assert coloured[0, 0, 3] == 0 < coloured[4, 1, 3] < coloured[2, 5, 3] < 255
    assert coloured[2, 5, 0] > coloured[2, 5, 2]
    assert coloured[4, 1, 2] > coloured[4, 1, 0]


@pytest.mark.parametrize("png", [b"", b"\x89PNG\r\n\x1a\n", "jpeg", "colour", "huge"])
def test_a_map_that_is_none_is_named_with_its_photo(tmp_path: Path, png: bytes | str) -> None:
    images, out, rows = made_run(tmp_path)
    if isinstance(png, str):
        size, mode, kind = {"jpeg": (8, "L", "JPEG"), "colour": (8, "RGB", "PNG"), "huge": (1025, "L", "PNG")}[png]
        buffer = io.BytesIO()
        Image.new(mode, (size, 4)).save(buffer, kind)
        png = buffer.getvalue()
    rows[0]["trace"] = made_trace()
    rows[0]["trace"]["maps"][0]["png"] = png
    write_labels(rows, out / "labels" / "x.parquet")
    with pytest.raises(ValueError, match=r"a.png: a confidence map that is no grey PNG of at most 1024 px"):
        write_gallery(str(out), str(images), str(out / "gallery"), px=100)
