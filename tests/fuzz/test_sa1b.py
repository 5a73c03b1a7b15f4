"""SA-1B's JSON and its tars, nearly sound: each member and each annotation is read or counted in a line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aopsam.masks import rle
from aopsam.photos.sa1b import Sample, read_shard
from aopsam.training.annotated import annotated
from tests.helpers.mutations import check_lines, damaged, limited, mutated

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of an example that fails
WIDTH, HEIGHT = 24, 16
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
PACKS: tuple[Callable[[bytes], bytes], ...] = (bytes, bytes, bytes, gzip.compress, bz2.compress, lzma.compress)


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "grey").save(buffer, "JPEG")
    return buffer.getvalue()


JPEG = _jpeg()


@st.composite
def sound_records(draw: st.DrawFn) -> dict[str, Any]:
    annotations = []
    for number in range(draw(st.integers(0, 3))):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[number : number + draw(st.integers(1, 9)), number * 5 : number * 5 + 7] = True
        encoded = rle.encode(mask)
        annotations.append(
            {
                "id": number,
                "segmentation": dict(encoded),
                "bbox": list(rle.bbox_xywh(encoded)),
                "area": rle.area(encoded),
                "point_coords": [[number * 5 + 3.0, float(number)]],
            }
        )
    return {"image": {"image_id": 1, "width": WIDTH, "height": HEIGHT}, "annotations": annotations}


def _encoded(record: Any) -> bytes:
    try:
        return json.dumps(record).encode()
    except (RecursionError, ValueError):  # Python writes no numbers of more than 4,300 digits
        return b"[" * 5000 + b"1" * 5000


NAMES = st.one_of(
    st.sampled_from(["a", "./a", "b", "c/b", "a.b", "\udce4", "new\nline", "._a", ".", "x" * 120, "é"]),
    st.text("ab./", min_size=1, max_size=4),
)
SUFFIXES = st.sampled_from([".jpg", ".jpg", ".json", ".json", ".JPEG", ".txt", "", ".png", ".Json"])
KINDS = st.sampled_from([tarfile.REGTYPE] * 12 + [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE])


@st.composite
def members(draw: st.DrawFn) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Draw members: pairs of a photo and its JSON, and others in between; some have names that others have, too."""
    drawn = []
    for number in range(draw(st.integers(0, 3))):
        record = draw(mutated(sound_records(), most=2))
        drawn += [(f"./sa_{number}.jpg", JPEG), (f"./sa_{number}.json", _encoded(record))]
    for _ in range(draw(st.integers(0, 3))):
        suffix = draw(SUFFIXES)
        drawn.append((draw(NAMES) + suffix, JPEG if suffix == ".jpg" else _encoded(draw(sound_records()))))
    infos = []
    for name, content in draw(st.permutations(drawn)):
        info = tarfile.TarInfo(name)
        info.type = draw(KINDS)
        info.size = len(content) if info.isreg() else 0
        info.linkname = "" if info.isreg() else "sa_0.jpg"
        infos.append((info, content))
    return infos


def _tar(form: int, infos: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in infos:
            try:
                tar.addfile(info, io.BytesIO(content))
            except ValueError:  # a name that is too long for ustar
                info.name = "short"
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def is_wanted(info: tarfile.TarInfo) -> bool:
    """Return whether a member is to be read or named: anything but a folder with a photo's or a JSON's name."""
    path = PurePosixPath(info.name)
    return path.suffix.lower() in (".jpg", ".jpeg", ".json") and path.name[:2] != "._" and not info.isdir()


def counted(lines: Sequence[str]) -> int:
    """Return how many members the lines account for: a JSON that is no record costs its photo, too."""
    single = ("without its", "occurs twice", "is a link", "over the limit")
    return sum(2 * ("not an SA-1B record" in line) + any(words in line for words in single) for line in lines)


def read(data: bytes) -> tuple[list[Sample], list[str]]:
    lines: list[str] = []
    with limited():
        samples = list(read_shard(io.BytesIO(data), lines.append))
    check_lines(lines)
    for sample in samples:
        sample.id.encode()
    return samples, lines


@given(members(), st.sampled_from(FORMATS), st.sampled_from(PACKS))
def test_members(infos: list[tuple[tarfile.TarInfo, bytes]], form: int, pack: Callable[[bytes], bytes]) -> None:
    """Find each photo and each JSON of a whole tar in a sample or in a line, and annotations as they were."""
    samples, lines = read(pack(_tar(form, infos)))
    assert 2 * len(samples) + counted(lines) == sum(is_wanted(info) for info, _ in infos)
    texts = Counter(content for info, content in infos if is_wanted(info) and info.isreg())
    for sample in samples:
        assert sample.jpeg in texts
        assert any(_annotations(text) == repr(sample.annotations) for text in texts)


def _annotations(text: bytes) -> str:
    try:
        return repr(json.loads(text)["annotations"] or [])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


@given(st.data())
def test_damaged_tars(data: st.DataObject) -> None:
    """Nothing is raised; what lies before the damage is read, and if anything is lost there is a line."""
    infos = [(tarfile.TarInfo(f"sa_{place // 2}{('.jpg', '.json')[place % 2]}"), b"") for place in range(6)]
    infos = [
        (info, JPEG if place % 2 == 0 else _encoded(data.draw(sound_records())))
        for place, (info, _) in enumerate(infos)
    ]
    for info, content in infos:
        info.size = len(content)
    form, pack = data.draw(st.sampled_from(FORMATS)), data.draw(st.sampled_from(PACKS))
    whole = pack(_tar(form, infos))
    # Most of a tar is zeros; what is seldom hit otherwise is hit near its headers.
    broken = data.draw(damaged(whole))
    samples, lines = read(broken)
    if len(samples) < 3:
        assert lines
    if pack is bytes:
        same = next(
            (at for at, (one, other) in enumerate(zip(whole, broken, strict=False)) if one != other), len(broken)
        )
        with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
            before = sum(info.offset_data + info.size <= same for info in tar)
        assert len(samples) >= before // 2 - ("occurs twice" in "".join(lines))


@given(st.data())
def test_one_damaged_header_costs_its_member_alone(data: st.DataObject) -> None:
    infos = []
    for number in range(4):
        for suffix, content in ((".jpg", JPEG), (".json", _encoded(data.draw(sound_records())))):
            info = tarfile.TarInfo(f"sa_{number}{suffix}")
            info.size = len(content)
            infos.append((info, content))
    whole = _tar(data.draw(st.sampled_from(FORMATS)), infos)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        offsets = [info.offset for info in tar]
    hit = data.draw(st.integers(0, 7))
    at = offsets[hit] + data.draw(st.integers(0, 511))
    broken = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    samples, lines = read(broken)
    assert {sample.id for sample in samples} >= {f"sa_{number}" for number in range(4) if number != hit // 2}
    assert len(samples) == 4 or lines


@given(mutated(sound_records()))
def test_annotations(record: Any) -> None:
    """Each annotation of a record that is one is decoded or counted in a line."""
    samples, lines = read(_tar(tarfile.GNU_FORMAT, [_member("a.jpg", JPEG), _member("a.json", _encoded(record))]))
    if not samples:
        assert len(lines) == 1
        return
    assert not lines
    with limited():
        photo = annotated(samples[0], lines.append)
    check_lines(lines)
    broken = [line for line in lines if re.search(r": annotation \d+: ", line)]
    if photo is None:
        assert lines or not samples[0].annotations
        assert len(broken) == len(samples[0].annotations) or "photo is" in "".join(lines)
        return
    assert len(photo.rles) + len(broken) == len(samples[0].annotations)
    assert len(photo.rles) == len(photo.points_px) == len(photo.areas_px)
    for mask, point, area in zip(photo.rles, photo.points_px, photo.areas_px, strict=True):
        bitmap = rle.decode(mask)
        assert bitmap.shape == photo.rgb.shape[:2]
        assert bitmap.sum() == area > 0
        assert bitmap[int(point[1]), int(point[0])]


def _member(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content
