"""Schema of the labels table: one row per image, also where labelling failed; all its masks in one list."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from schemas.column import column

VERSION = 5

MODEL_STAGES = ("encode", "prompt", "decode", "filter", "rle")
"""Stages of a photo in the model's thread, in order; each has a column `seconds_*`."""

READING_STAGES = ("read", "photo")
"""Stages of the next photos in other threads, while the model runs; each has a column `seconds_*`."""


class Status(StrEnum):
    """Outcome of labelling an image."""

    OK = "ok"
    """At least one mask."""
    EMPTY = "empty"
    """Readable, no mask."""
    REJECTED = "rejected"
    """Readable, but over a stated limit or not meant as a photo."""
    FAILED = "failed"
    """Unreadable."""


class Reason(StrEnum):
    """Reason why an image has no masks; `none` if it has masks."""

    NONE = "none"
    NO_MASK = "no_mask"
    """empty: every candidate was filtered."""
    TOO_MANY_PIXELS = "too_many_pixels"
    """rejected: over --max-pixels, judged from the header before decoding."""
    TOO_SLOW = "too_slow"
    """rejected: over --max-seconds."""
    WORKER_DIED = "worker_died"
    """failed: labelling it ended the worker process, alone in it too; it is skipped so that the others continue."""
    HIDDEN_NAME = "hidden_name"
    """rejected: the name starts with '.' or '_'."""
    NOT_A_FILE = "not_a_file"
    """failed: a directory, socket, pipe or device with a photo's name."""
    NOT_FOUND = "not_found"
    """failed: a dangling link, or gone since listing."""
    NOT_PERMITTED = "not_permitted"
    """failed: the system refused to open it."""
    READ_ERROR = "read_error"
    """failed: any other error of the file system."""
    EMPTY_FILE = "empty_file"
    """failed: no bytes."""
    NOT_AN_IMAGE = "not_an_image"
    """failed: no known image format."""
    CORRUPT_IMAGE = "corrupt_image"
    """failed: an image format whose data is broken or cut short."""
    BAD_MEMBER = "bad_member"
    """failed: a tar member that is no regular file, or an archive cut short there."""
    INTERNAL_ERROR = "internal_error"
    """failed: labelling raised; the message names the error."""


PASSING = (Reason.NOT_FOUND, Reason.READ_ERROR, Reason.TOO_SLOW, Reason.WORKER_DIED)
"""Reasons that may have passed by a later run."""

RLE = pa.struct([pa.field("size", pa.list_(pa.int32())), pa.field("counts", pa.string())])

MASK = pa.struct(
    [
        column("segmentation", RLE, "COCO compressed RLE, size [h, w]"),
        column("bbox", pa.list_(pa.float32()), "XYWH; W, H one less than columns, rows", unit="px"),
        column("area", pa.int64(), "pixels of the mask", unit="px²"),
        column("predicted_iou", pa.float32(), "the decoder's own estimate"),
        column("stability_score", pa.float32(), "IoU of the mask at two thresholds"),
        column("score", pa.float32(), "learned; null without a scorer, and before version 4"),
        column("point_coords", pa.list_(pa.list_(pa.float32(), 2)), "the prompt, XY", unit="px"),
        column("box", pa.list_(pa.float32()), "the prompt where it is a box, XYXY", unit="px"),
        column("crop_box", pa.list_(pa.float32()), "part of the photo that was decoded, XYWH", unit="px"),
        column("parent", pa.int32(), "place in the row's list of the smallest mask that holds this one; null if none"),
    ]
)

TRACED_PROMPT = pa.struct(
    [
        column("point_coords", pa.list_(pa.float32(), 2), "XY; null where it is a box", unit="px"),
        column("box", pa.list_(pa.float32(), 4), "XYXY; null where it is a point", unit="px"),
        column("confidence", pa.float32(), "the strategy's own"),
        column("round", pa.int32(), "decoded in it, or dropped after it; from 1, 0 before the first"),
        column("dropped", pa.string(), "why it was not decoded; null if it was"),
    ]
)

CONFIDENCE_MAP = pa.struct(
    [
        column("crop_box", pa.list_(pa.int32(), 4), "part of the photo that it covers, XYWH", unit="px"),
        column("png", pa.binary(), "8-bit grey PNG, 255 for the highest confidence of this map"),
        column("highest", pa.float32(), "confidence of 255"),
    ]
)

TRACE = pa.struct(
    [
        column("prompts", pa.list_(TRACED_PROMPT), "all that were proposed, as their fates were decided"),
        column("maps", pa.list_(CONFIDENCE_MAP), "one a part of the photo; none from strategies without maps"),
    ]
)

SCHEMA = pa.schema(
    [
        column("image_id", pa.string(), "of the listing", nullable=False),
        column("uri", pa.string(), "where the bytes lie, without credentials", nullable=False),
        column("file_name", pa.string(), "path below the images' root, plus #member", nullable=False),
        column("content_sha256", pa.string(), "of the encoded bytes; null if unread"),
        column("width", pa.int32(), "after EXIF orientation; null if unread", unit="px"),
        column("height", pa.int32(), "after EXIF orientation; null if unread", unit="px"),
        column("status", pa.string(), "of schemas.labels.Status", nullable=False),
        column("reason", pa.string(), "of schemas.labels.Reason", nullable=False),
        column("message", pa.string(), "what went wrong, in a line; else empty", nullable=False),
        column("masks", pa.list_(MASK), "by falling score; empty if there is none", nullable=False),
        column("prompts_proposed", pa.int32(), "decoded ones, and those dropped before", nullable=False),
        column("prompts_decoded", pa.int32(), "prompts that SAM's decoder was asked", nullable=False),
        column("refinements", pa.int32(), "prompts decoded a second time; null before version 3"),
        column("masks_dropped", pa.int32(), "no duplicates, but covered or cut; null before version 3"),
        column("seconds_read", pa.float32(), "of another thread than the model's", unit="s"),
        column("seconds_photo", pa.float32(), "image bytes to RGB, of another thread than the model's", unit="s"),
        column("seconds_encode", pa.float32(), "RGB to embedding", unit="s"),
        column("seconds_prompt", pa.float32(), "of the strategy, filtering of prompts included", unit="s"),
        column("seconds_decode", pa.float32(), "prompts to masks", unit="s"),
        column("seconds_filter", pa.float32(), "thresholds, scores, duplicates", unit="s"),
        column("seconds_rle", pa.float32(), "masks to records", unit="s"),
        column("seconds_wait", pa.float32(), "that the model waited for this photo; null before version 2", unit="s"),
        column("trace", TRACE, "how it was prompted; null unless asked for (--trace), and before version 5"),
    ],
    metadata={"table": "labels", "version": str(VERSION)},
)
