"""Read corrected tasks of Label Studio: its JSON export."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import numpy as np

from aopsam.masks import rle
from aopsam.masks.runs import Runs
from aopsam.photos.json_text import parse_json
from aopsam.photos.lines import shown
from stages.annotations.corrections.corrected import CorrectedPhoto, Shape, check_size, place

_SERVED = "/data/local-files/?d="
_CHANNELS = 4


def read_label_studio(content: bytes) -> list[CorrectedPhoto]:
    """Return the photos of the tasks that people annotated: the last annotation of each that was not cancelled.

    Tasks without one, which have predictions alone, are not corrected and left out.

    Raises:
        ValueError: it is no such file.
    """
    tasks = parse_json(content)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError("no tasks of Label Studio: needs its export 'JSON', a list of objects")
    photos = []
    for task in tasks:
        data, annotations = task.get("data"), task.get("annotations")
        if not isinstance(data, dict) or not isinstance(annotations, list | None):
            raise ValueError(f"task {shown(task.get('id'))}: needs `data`, and `annotations` of the export 'JSON'")
        done = [one for one in annotations or () if isinstance(one, dict) and not one.get("was_cancelled")]
        if done:
            photos.append(_photo(task, data, done[-1].get("result")))
    return photos


def _photo(task: dict[str, Any], data: dict[str, Any], results: Any) -> CorrectedPhoto:
    image = data.get("image")
    name = data.get("file_name") or (unquote(image.removeprefix(_SERVED)) if isinstance(image, str) else None)
    if not isinstance(name, str) or not isinstance(results, list):
        raise ValueError(f"task {shown(task.get('id'))}: needs `data.file_name` and a list `result`")
    photo = CorrectedPhoto(name)
    for result in results:
        about = f"region {shown(result.get('id') if isinstance(result, dict) else result)}"
        try:
            photo.shapes.append(_shape(result, about))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            said = str(error) if isinstance(error, ValueError) else f"no region of Label Studio ({error!r})"
            photo.faults.append(f"{about}: {said}")
            continue
        photo.width, photo.height = result["original_width"], result["original_height"]
    return photo


def _shape(result: dict[str, Any], about: str) -> Shape:
    value, kind = result["value"], result["type"]
    width, height = check_size(result["original_width"], result["original_height"])
    if result.get("image_rotation"):
        raise ValueError("the photo was turned; turn it back")
    found = re.fullmatch(r"mask-(\d{1,9})", str(result.get("id")))
    mask = place(found[1]) if found else None
    if kind.startswith("brush") or value.get("format") == "rle":
        return Shape(about, _of_brush(value["rle"], width, height), mask)
    if kind.startswith("polygon"):
        points = [float(side) for point in value["points"] for side in point]
        scaled = [number * (width, height)[odd % 2] / 100 for odd, number in enumerate(points)]
        return Shape(about, [scaled], mask)
    raise ValueError(f"{shown(kind)} is no mask; draw it with the brush or as polygon, or delete it")


def _of_brush(code: Any, width: int, height: int) -> rle.RLE:
    """Convert a brush code to COCO's RLE: a pixel is in the mask where its alpha is above 127."""
    if not isinstance(code, list) or not all(isinstance(byte, int) and 0 <= byte < 256 for byte in code):
        raise ValueError("its rle is no list of bytes")
    values = _decode(bytes(code), width * height * _CHANNELS)
    mask = values.reshape(height, width, _CHANNELS)[..., _CHANNELS - 1] > 127
    return rle.from_runs(Runs.of_mask(mask))


def _decode(code: bytes, expected: int) -> np.ndarray:
    """Decode thi.ng's rle-pack: (expected,) uint8.

    Raises:
        ValueError: it ends early, or holds another number of values, or values that are no bytes.
    """
    bits = _Bits(code)
    count, word = bits.read(32), bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    if count != expected or word != 8:
        raise ValueError(f"its rle holds {count} values of {word} bits, not {expected} of 8")
    lengths, values = [], []
    done = 0
    while done < expected:
        is_run = bits.read(1)
        length = bits.read(sizes[bits.read(2)]) + 1
        if is_run:
            lengths.append(length)
            values.append(bits.read(word))
        else:
            lengths += [1] * length
            values += [bits.read(word) for _ in range(length)]
        done += length
    if done != expected:
        raise ValueError(f"its rle holds {done} values, not {expected}")
    return np.repeat(np.array(values, np.uint8), lengths)


class _Bits:
    """Numbers of so many bits, the highest first."""

    def __init__(self, code: bytes) -> None:
        self._code, self._at = code, 0

    def read(self, size: int) -> int:
        first, end = self._at >> 3, self._at + size
        if end > 8 * len(self._code):
            raise ValueError("its rle ends early")
        part = self._code[first : (end + 7) >> 3]
        self._at = end
        return (int.from_bytes(part, "big") >> (-end % 8)) & ((1 << size) - 1)
