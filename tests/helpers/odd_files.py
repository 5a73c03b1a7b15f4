"""A folder of damaged, odd and hostile photos, with what each must become."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from schemas.labels import Reason, Status
from stages.corpus.names import image_id
from tests.helpers.profiles import rgb_profile


class Expected(NamedTuple):
    """What the labels table must say of an odd file."""

    image_id: str
    statuses: frozenset[Status]
    reasons: frozenset[Reason]


class _Outcome(NamedTuple):
    statuses: frozenset[Status]
    reasons: frozenset[Reason]


def _failed(*reasons: Reason) -> _Outcome:
    return _Outcome(frozenset({Status.FAILED}), frozenset(reasons))


# Whether a readable photo has masks is the model's affair.
READABLE = _Outcome(frozenset({Status.OK, Status.EMPTY}), frozenset({Reason.NONE, Reason.NO_MASK}))
HIDDEN = _Outcome(frozenset({Status.REJECTED}), frozenset({Reason.HIDDEN_NAME}))
TOO_MANY_PIXELS = _Outcome(frozenset({Status.REJECTED}), frozenset({Reason.TOO_MANY_PIXELS}))
CORRUPT = _failed(Reason.CORRUPT_IMAGE)
NOT_AN_IMAGE = _failed(Reason.NOT_AN_IMAGE)
NOT_A_FILE = _failed(Reason.NOT_A_FILE)
BAD_MEMBER = _failed(Reason.BAD_MEMBER)

_READS_HEIC = find_spec("pillow_heif") is not None

GOOD = (b"good_1.jpg", b"good_2.jpg", b"good_3.png")
"""Ordinary photos among the odd ones."""


def build_odd_files(folder: Path) -> dict[bytes, Expected]:
    """Fill an empty folder and say what each row of its labels must be, by name; a tar member is `TAR#MEMBER`.

    The largest image has 40,000 × 40,000 pixels: the limit must lie below 1.6e9 and at 600,000 or more.
    """
    expected: dict[bytes, Expected] = {}
    for name, data, outcome in _files():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        expected[name] = Expected(image_id(name), *outcome)
    for name, outcome in _no_files(folder).items():
        expected[name] = Expected(image_id(name), *outcome)
    for tar, data, members in _tars():
        (folder / os.fsdecode(tar)).write_bytes(data)
        for member, outcome in members.items():
            name = tar if member is None else tar + b"#" + member
            expected[name] = Expected(image_id(tar, member), *outcome)
    return expected


def scene(seed: int = 0, width: int = 160, height: int = 120) -> Image.Image:
    """Some coloured discs and boxes on a shaded ground, RGB."""
    rng = np.random.default_rng(seed)
    ground = np.broadcast_to(np.linspace(40, 120, width, dtype=np.uint8)[None, :, None], (height, width, 3))
    image = Image.fromarray(np.ascontiguousarray(ground))
    draw = ImageDraw.Draw(image)
    for shape in (draw.ellipse, draw.rectangle) * 3:
        x, y = int(rng.integers(0, width * 3 // 4)), int(rng.integers(0, height * 3 // 4))
        w, h = rng.integers(min(10, width), max(11, width // 3)), rng.integers(min(10, height), max(11, height // 3))
        shape((x, y, x + int(w), y + int(h)), fill=tuple(int(c) for c in rng.integers(0, 256, 3)))
    return image


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    """The image as a file of `format`."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def one_colour_png(width: int, height: int) -> bytes:
    """A grey PNG of one colour: a decompression bomb. Width counts in eights, height in hundreds."""
    rows = (b"\0" + b"\xff" * (width // 8)) * 100  # 1 bit a pixel
    compressor = zlib.compressobj(1, wbits=-15)
    # A deflate block that refers to nothing before it may be repeated, so it is compressed only once.
    block = compressor.compress(rows) + compressor.flush(zlib.Z_FULL_FLUSH)
    checksum = 1
    for _ in range(height // 100):
        checksum = zlib.adler32(rows, checksum)
    data = b"\x78\x01" + block * (height // 100) + b"\x03\0" + struct.pack(">I", checksum)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _files() -> Iterator[tuple[bytes, bytes, _Outcome]]:
    jpeg, png = encode(scene(), "JPEG"), encode(scene(), "PNG")
    for seed, name in enumerate(GOOD, start=1):
        yield name, encode(scene(seed), "PNG" if name.endswith(b".png") else "JPEG"), READABLE
    yield from _damaged(jpeg, png)
    yield from _unusual()
    yield from ((name, jpeg, READABLE) for name in _odd_names())
    yield b".hidden.jpg", jpeg, HIDDEN
    yield b"_x.jpg", jpeg, HIDDEN
    yield b".thumbnails/small.jpg", jpeg, HIDDEN
    yield b"first/same_name.jpg", jpeg, READABLE
    yield b"second/same_name.jpg", encode(scene(5), "JPEG"), READABLE
    yield b"same_photo_1.jpg", jpeg, READABLE
    yield b"same_photo_2.jpg", jpeg, READABLE
    yield b"CAPITALS.JPG", jpeg, READABLE
    yield b"png_named.jpg", png, READABLE


def _damaged(jpeg: bytes, png: bytes) -> Iterator[tuple[bytes, bytes, _Outcome]]:
    yield b"empty.jpg", b"", _failed(Reason.EMPTY_FILE)
    yield b"truncated.jpg", jpeg[: len(jpeg) // 2], CORRUPT
    yield b"truncated.png", png[: len(png) // 2], CORRUPT
    yield b"truncated.webp", encode(scene(), "WEBP")[:200], CORRUPT
    yield b"signature_alone.png", png[:8], CORRUPT
    yield b"text.jpg", b"This is not a photo.\n", NOT_AN_IMAGE
    yield b"page.png", b"<!doctype html><script>alert(1)</script>", NOT_AN_IMAGE
    yield b"postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n", NOT_AN_IMAGE
    yield b"noise.jpg", np.random.default_rng(0).bytes(5000), NOT_AN_IMAGE
    yield b"phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), CORRUPT if _READS_HEIC else NOT_AN_IMAGE
    yield b"bomb.png", one_colour_png(40_000, 40_000), TOO_MANY_PIXELS
    yield (
        b"bomb.gif",
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + _gif_frame(65535, 65535),
        TOO_MANY_PIXELS,
    )


def _gif_frame(width: int, height: int) -> bytes:
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0;"


def _unusual() -> Iterator[tuple[bytes, bytes, _Outcome]]:
    photo, other = scene(), scene(9)
    grey = np.asarray(photo.convert("L"))
    faded = photo.copy()
    faded.putalpha(photo.convert("L"))
    palette = photo.convert("P")
    unusual = {
        b"1x1.png": encode(photo.resize((1, 1)), "PNG"),
        b"20000x30.png": encode(photo.resize((20_000, 30)), "PNG"),
        b"30x20000.png": encode(photo.resize((30, 20_000)), "PNG"),
        b"cmyk.jpg": encode(photo.convert("CMYK"), "JPEG"),
        b"grey.jpg": encode(photo.convert("L"), "JPEG"),
        b"black_and_white.png": encode(photo.convert("1"), "PNG"),
        b"16_bit.png": encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        b"float.tif": encode(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        b"animated.gif": encode(photo, "GIF", save_all=True, append_images=[other]),
        b"animated.webp": encode(photo, "WEBP", save_all=True, append_images=[other]),
        b"animated.avif": encode(photo, "AVIF", save_all=True, append_images=[other]),
        b"display_p3.jpg": encode(photo, "JPEG", icc_profile=rgb_profile()),
        b"alpha.png": encode(faded, "PNG"),
        b"grey_alpha.png": encode(faded.convert("LA"), "PNG"),
        b"palette_transparent.png": encode(palette, "PNG", transparency=0),
        b"palette_many_transparent.png": encode(palette, "PNG", transparency=bytes(range(256))),
        b"all_transparent.png": encode(Image.new("RGBA", (64, 48)), "PNG"),
        b"broken_exif.jpg": encode(photo, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40),
    }
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        unusual[b"exif_%d.jpg" % orientation] = encode(photo, "JPEG", exif=exif)
    yield from ((name, data, READABLE) for name, data in unusual.items())


def _odd_names() -> list[bytes]:
    return [
        b"<script>alert(1)<script>.jpg",
        b"<img src=x onerror=alert(1)>.jpg",
        b"\"double\" and 'single'.jpg",
        b"new\nline.jpg",
        b"not utf-8 \xff\xfe.jpg",
        b"100%.jpg",
        b"%2e%2e%2fup.jpg",
        b" spaces  everywhere .jpg",
        b"hash#tag.jpg",
        b"question?mark=1.jpg",
        b"star*[x].jpg",
        b"{{ braces }}.jpg",
        b"$(touch owned).jpg",
        b"-rf.jpg",
        b"back\\slash.jpg",
        b"user:password@host.jpg",
        "größe 🙂.jpg".encode(),
        b"n" * 240 + b".jpg",
    ]


def _no_files(folder: Path) -> dict[bytes, _Outcome]:
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.jpg").write_bytes(encode(scene(7), "JPEG"))
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "link.jpg").symlink_to("good_1.jpg")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.jpg")
    os.mknod(folder / "socket.jpg", stat.S_IFSOCK | 0o600)
    # Locked even for root, whom file modes do not stop: the kernel lets nobody read this one.
    (folder / "unreadable.jpg").symlink_to("/proc/sys/vm/drop_caches")
    return {
        b"folder.jpg": NOT_A_FILE,
        b"folder.jpg/inside.jpg": READABLE,
        b"dangling.jpg": _failed(Reason.NOT_FOUND),
        b"circle.jpg": _failed(Reason.NOT_FOUND),
        b"device.jpg": NOT_A_FILE,
        b"link.jpg": READABLE,
        b"pipe.jpg": NOT_A_FILE,
        b"socket.jpg": NOT_A_FILE,
        b"unreadable.jpg": _failed(Reason.NOT_PERMITTED),
    }


def _tars() -> Iterator[tuple[bytes, bytes, dict[bytes | None, _Outcome]]]:
    jpeg = encode(scene(11), "JPEG")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("./sa_1.jpg", "./sa_1.json", "../escape.jpg", "/absolute.jpg", "._sa_1.jpg", "empty.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 0 if name == "empty.jpg" else len(jpeg)
            tar.addfile(info, io.BytesIO(jpeg))
        for name, kind in (
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    yield (
        b"shard.tar",
        buffer.getvalue(),
        {
            b"sa_1.jpg": READABLE,
            b"../escape.jpg": BAD_MEMBER,
            b"/absolute.jpg": BAD_MEMBER,
            b"._sa_1.jpg": HIDDEN,
            b"empty.jpg": _failed(Reason.EMPTY_FILE),
            b"link.jpg": BAD_MEMBER,
            b"hard.jpg": BAD_MEMBER,
            b"pipe.jpg": BAD_MEMBER,
        },
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("whole.jpg", "cut.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(jpeg)
            tar.addfile(info, io.BytesIO(jpeg))
        end = tar.offset
    yield (
        b"cut_short.tar",
        buffer.getvalue()[: end - 1024],
        {b"whole.jpg": READABLE, b"cut.jpg": BAD_MEMBER, None: BAD_MEMBER},
    )
    yield b"photos.tar.gz", b"\x1f\x8b\x08\0", {None: BAD_MEMBER}
