"""Write the pages that are made from code: docs/schemas.md and docs/configuration.md.

    python docs/make_pages.py

`tests/docs/test_made_pages.py` fails where a page is not what this makes, or where a setting names no source.
"""

from __future__ import annotations

import aopsam  # isort: skip  # noqa: F401 - beside a CPU torch it comes before segment_anything

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
from docstring_parser import parse_from_object

from aopsam._options import Limits, OneOf, options_of
from aopsam.everything.options import GeneratorOptions
from aopsam.prompting import PRESETS, STRATEGIES
from aopsam.sam.registry import MODELS, Thresholds, load_sam
from pipelines.label_corpus import Arguments
from stages.config.label_config import LabelConfig

DOCS = Path(__file__).parent

TABLES = {
    "labels": "`OUT/labels/*.parquet` of `label_corpus.py`",
    "listing": "`OUT/listing/*.parquet` of `label_corpus.py`",
    "changes": "`OUT/changes.parquet` of `import_labels.py`",
    "metrics": "`OUT/metrics.parquet` of `evaluate.py`",
    "prompt_maps": "`OUT/*.parquet` of `build_prompt_maps.py`",
    "edge_maps": "`OUT/*.parquet` of `build_edge_maps.py`",
    "curation": "`OUT/curation.parquet` of `curate.py`",
    "lineage": "`REGISTRY/versions/N/photos.parquet` of `retrain.py`",
}
"""Table → files that hold it."""

SAM = "segment-anything's `SamAutomaticMaskGenerator`"
OURS = "ours: set by hand, not measured"
OFF = "ours: nothing is done that was not asked for"
EITHER = "ours: what the papers do not say can be had both ways"

SOURCES = {
    "Arguments": {
        "actors": "ours: an actor a core with one thread was quicker than one of two threads (LOG, 2026-11-25)",
        "threads": "the same try",
        "device": "ours: CUDA where there is some",
        "max_failed": "ours: a run of many photos is not lost for some",
        "max_seconds": OURS,
        "images": "you",
        "out": "you",
        "config": "you; `calibrate.py` writes one",
        "openers": "ours: [at scale](scale.md)",
        "photos_at_once": "ours: a CPU gains nothing by more (`benchmarks/batches.py`), and one alone is exact",
        "rows_per_file": "ours: what a kill costs, against files ([at scale](scale.md))",
        "trace": OFF,
        "retry_failed": OFF,
        "plan": OFF,
        "price": "you",
    },
    "LabelConfig": {
        "sam": "ours: bundled, so that everything runs",
        "checkpoint": "the authors' file, by its digest (`aopsam/sam/registry.py`)",
        "predictor": "ours: of the model's name, else `tiny`'s",
        "encoder_precision": "ours: what all else is compared with",
        "encoder_runtime": "ours: openvino is an extra",
        "prompts": "ours: AoP-SAM with our rule ([figures](strategies.md))",
        "strategy_options": "you; `calibrate.py` writes them",
        "max_pixels": "ours: 600 MB of RGB",
    },
    "GeneratorOptions": {
        "points_per_batch": SAM,
        "pred_iou_thresh": "the model's, below; where masks rank by a score, the scorer's",
        "stability_score_thresh": "the model's, below",
        "stability_score_offset": SAM,
        "box_nms_thresh": "the model's, below",
        "crop_n_layers": SAM,
        "crop_nms_thresh": SAM,
        "crop_overlap_ratio": SAM,
        "min_mask_region_area": SAM,
        "masks_per_prompt": SAM,
        "single_mask": "EfficientSAM's everything mode",
        "rank_by": "ours: [the scorer's card](../aopsam/weights/scorer-tiny.md)",
        "scorer": "ours: of the model's very weights",
        "score_thresh": "the scorer's file; [card](../aopsam/weights/scorer-tiny.md)",
        "duplicates": "ours: masks against boxes in LOG, 2026-11-25; box-nms is SAM's",
        "mask_nms_thresh": "ours: that of SAM's box NMS",
        "merge_thresh": "ours where Efficient SAM2 is silent: `benchmarks/merging.py`, LOG, 2026-11-28",
        "refine": OFF,
        "refine_boundary": EITHER,
        "refine_points": EITHER,
        "redraw": "ours: [the mask head's card](../aopsam/weights/mask-head-tiny.md)",
        "mask_head": "ours: of the model's very weights",
        "thing_head": "ours: of the model's very weights; [card](../aopsam/weights/things-tiny.md)",
        "overlap": SAM,
        "tile_size": OFF,
        "tile_overlap": "ours: `benchmarks/tiling.py` was run with it",
        "tile_join_thresh": "ours: `benchmarks/tiling.py` was run with it",
        "tile_whole": "ours: objects larger than a tile (LOG, 2026-11-25)",
    },
    "RandomPoints": {"seed": "ours: the same masks again"},
    "AutoPrompts": {
        "adaptive_sampling": "AoP-SAM; without: Table 2, first row",
        "adaptive_filtering": "AoP-SAM; without: Table 2",
        "elimination": "ours: more mIoU at fewer prompts than the paper's (LOG, 2026-11-21)",
        "things": "ours: 10, 20 and 30 in LOG, 2026-11-30",
        "max_decoded": OFF,
        "least_value": "ours: about as many prompts as `covered` decodes (LOG, 2026-11-29)",
        "likeness": "ours: tried from 0.7 to 0.9 (LOG, 2026-11-21)",
        "times": "ours: tried 2 and 3 (LOG, 2026-11-21)",
        "k": "the model's, below; AoP-SAM Table 3d: 1.3",
        "smoothing_sigma": "the predictor's file; AoP-SAM Table 3a: 2.0",
        "spacing": "the predictor's file; AoP-SAM Table 3c: 6",
        "threshold": "the predictor's file, chosen on held-out photos; AoP-SAM Table 3b: 0.2",
        "round_size": "ours: AoP-SAM does not say",
        "max_prompts": "ours: a limit; AoP-SAM names none",
    },
    "Hierarchical": {
        "sparse": "TinySAM",
        "dense": "TinySAM",
        "settled_logit": "TinySAM's code",
        "max_decoded": OFF,
    },
    "ObjectBoxes": {
        "detector": "ours: `tiny`'s",
        "max_boxes": "MobileSAMv2, section 6.2",
        "nms_thresh": "ours: MobileSAMv2 does not say",
    },
    "Attention": {
        "rows": "Efficient SAM2 where the encoder has global attention; else ours",
        "block": "Efficient SAM2 for its Hiera-L; else ours",
        "head": "Efficient SAM2 for its Hiera-L; else ours",
        "min_samples": "Efficient SAM2, Table 1",
        "min_cluster_size": "Efficient SAM2, Table 1",
        "max_prompts": OFF,
    },
}
"""Class → setting → where its default is from. LOG is benchmarks/LOG.md."""

TITLES = {
    "Arguments": ("Of a run", "Flags of `label_corpus.py` that change no mask (`--photos-at-once` by rounding alone)."),
    "LabelConfig": ("Of a photo", "Flags, and keys of `--config`."),
    "GeneratorOptions": ("After prompting", "Flags, keys of `--config`, parameters of `AutoMaskGenerator`."),
    "RandomPoints": ("Options of `random-N`", ""),
    "AutoPrompts": ("Options of `aop`", ""),
    "Hierarchical": ("Options of `hierarchical`", ""),
    "ObjectBoxes": ("Options of `oas-box` and `oas-center`", ""),
    "Attention": ("Options of `attention-…`", ""),
}


def schemas_page() -> str:
    """Return the page of every table's columns."""
    lines = [
        "# Every table's columns",
        "",
        "Made from `schemas/` by `docs/make_pages.py`. All tables are Parquet; name, version, units and descriptions",
        "stand in the files, too (`pyarrow.parquet.read_schema(FILE)`). Tables of older versions stay readable. How to",
        "ask them: [ten questions](tables.md).",
    ]
    for name, files in TABLES.items():
        module = import_module(f"schemas.{name}")
        about = re.sub(r"^Schema of (the )?", "", _first_line(module.__doc__))
        lines += ["", f"## {name}", f"{about[0].upper()}{about[1:]} {files}, version {module.VERSION}.", ""]
        lines += ["| column | type | unit | what |", "|---|---|---|---|", *_columns(module.SCHEMA)]
        for title, kind in _enums(module):
            lines += ["", f"`{title}`:", ""]
            lines += [f"- `{value}`{f': {meaning}' if meaning else ''}" for value, meaning in _members(module, kind)]
    return "\n".join(lines) + "\n"


def _columns(entries: Any, before: str = "") -> Iterator[str]:
    """Yield a row a column, and below it the columns of its structs, by dotted names."""
    for entry in entries:
        notes = {key.decode(): text.decode() for key, text in (entry.metadata or {}).items()}
        notes = {key: text for key, text in notes.items() if key in ("about", "unit")}
        kind, struct = _type(entry.type)
        null = "" if entry.nullable else ", never null"
        told = notes.get("about", "").replace("|", "\\|")
        yield f"| `{before}{entry.name}` | {kind}{null} | {notes.get('unit', '')} | {told} |"
        if struct is not None:
            yield from _columns([struct.field(number) for number in range(struct.num_fields)], f"{before}{entry.name}.")


def _type(kind: pa.DataType) -> tuple[str, pa.StructType | None]:
    """Return how a type is shown, and the struct that is in it, if any."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        inner, struct = _type(kind.value_type)
        size = f" of {kind.list_size}" if pa.types.is_fixed_size_list(kind) else ""
        return f"list{size} of {inner}" if not size else f"list{size} {inner}", struct
    return ("struct", kind) if pa.types.is_struct(kind) else (str(kind), None)


def _enums(module: Any) -> Iterator[tuple[str, type[StrEnum]]]:
    for name, value in vars(module).items():
        if inspect.isclass(value) and issubclass(value, StrEnum) and value.__module__ == module.__name__:
            yield name.lower(), value


def _members(module: Any, kind: type[StrEnum]) -> Iterator[tuple[str, str]]:
    """Yield value and docstring of each member of an enum."""
    (node,) = (entry for entry in ast.parse(inspect.getsource(kind)).body if isinstance(entry, ast.ClassDef))
    notes, last = {}, ""
    for line in node.body[1:]:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            last = line.targets[0].id
        elif isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
            notes[last] = " ".join(str(line.value.value).split())
    for member in kind:
        yield member.value, notes.get(member.name, "")


def configuration_page() -> str:
    """Return the page of every setting of labelling, its default and where that is from."""
    lines = [
        "# Configuration",
        "",
        "Every setting of `label_corpus.py`, its default, and where that is from. Made from the code by",
        "`docs/make_pages.py`. `a_setting` is `--a-setting` on the command line, `a_setting:` in a file for",
        "`--config`, and, after prompting, `a_setting=` of `aopsam.AutoMaskGenerator`. Options of a strategy stand",
        'in brackets, `--prompts "aop(threshold=0.03)"`, or under `strategy_options:` in the file. What is not given',
        "is `–`. LOG is [benchmarks/LOG.md](../benchmarks/LOG.md), which has the figures; the papers' own numbers are",
        "compared with the code in [constants](constants.md). Other commands: `--help`.",
    ]
    for target in TARGETS:
        title, about = TITLES[target.__name__]
        lines += ["", f"## {title}", *([about] if about else []), ""]
        lines += ["| setting | default | takes | what | from |", "|---|---|---|---|---|", *_settings(target)]
    lines += ["", "## Of a model", "Where neither you nor a scorer says otherwise (`aopsam/sam/registry.py`).", ""]
    names = [entry.name for entry in fields(Thresholds)]
    lines += [f"| model | {' | '.join(f'`{name}`' for name in names)} |", f"|---|{'---:|' * len(names)}"]
    for name, spec in MODELS.items():
        bundled = isinstance(spec.weights, Path)
        thresholds = load_sam(name).thresholds if bundled else spec.thresholds
        lines.append(f"| `{name}` | {' | '.join(str(getattr(thresholds, entry)) for entry in names)} |")
    lines += [
        "",
        "Official ones are those of the authors' code; weights of `train_sam.py`, such as `tiny`'s, bring their",
    ]
    lines += ["own. `elimination_k` is AoP-SAM's 1.3, and 3.5 for `tiny` ([its card](../aopsam/weights/tiny.md)).", ""]
    lines += ["## Presets"]
    lines += ["What a paper's name sets; what is given beside it wins.", ""]
    lines += ["| preset | strategy | sets | from |", "|---|---|---|---|"]
    for name, preset in PRESETS.items():
        given = dict(preset.options) | dict(preset.after)
        sets = ", ".join(f"`{key}={value}`" for key, value in given.items())
        lines.append(f"| `{name}` | `{preset.strategy}` | {sets} | {preset.paper} |")
    lines += ["", "## The environment", "", "| variable | what |", "|---|---|"]
    lines += [
        "| `AOPSAM_CACHE` | folder of downloaded weights, and of loops compiled by Numba where the package's own folder"
        " cannot be written; else `$XDG_CACHE_HOME/aopsam`, else `~/.cache/aopsam` |"
    ]
    lines += ["| `RAY_ADDRESS` | the Ray cluster to join; else one is started on this machine |"]
    lines += ["| `AWS_…`, `GOOGLE_…` | keys and addresses of stores, as their clients read them; never in a URI |"]
    return "\n".join(lines) + "\n"


TARGETS: list[type[Any]] = [
    Arguments,
    LabelConfig,
    GeneratorOptions,
    *(STRATEGIES[name] for name in ("random-N", "aop", "hierarchical", "oas-box", "attention")),
]
"""Dataclasses that have settings, in the page's order."""


def _settings(target: type[Any]) -> Iterator[str]:
    """Yield a row a setting.

    Raises:
        KeyError: a setting whose source is not told.
    """
    documented = [target.__init__] if not is_dataclass(target) else reversed(target.__mro__[:-1])
    told = {entry.arg_name: entry.description or "" for each in documented for entry in parse_from_object(each).params}
    defaults = _defaults(target)
    for name, hint in options_of(target).items():
        if name in ("label", "options"):  # the next tables
            continue
        about = " ".join(told.get(name, "").split()).replace("|", "\\|")
        shown = "required" if defaults[name] is MISSING else "–" if defaults[name] is None else f"`{defaults[name]}`"
        yield f"| `{name}` | {shown} | {_takes(hint)} | {about} | {SOURCES[target.__name__][name]} |"


def _defaults(target: type[Any]) -> dict[str, Any]:
    if not is_dataclass(target):
        return {name: each.default for name, each in inspect.signature(target.__init__).parameters.items()}
    made: Callable[[Any], Any] = lambda each: MISSING if each.default_factory is MISSING else each.default_factory()  # noqa: E731
    return {each.name: made(each) if each.default is MISSING else each.default for each in fields(target)}


def _takes(hint: Any) -> str:
    """Return what values a setting takes, from its type."""
    if hint is type(None):
        return ""
    if (names := [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, OneOf)]) != []:
        return " \\| ".join(names[0].names)
    if (limits := [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Limits)]) != []:
        kind = "whole number" if get_args(hint)[0] is int else "number"
        return f"{kind} {limits[0]}".strip()
    if get_origin(hint) is Literal:
        return " \\| ".join(map(str, get_args(hint)))
    if hasattr(hint, "__metadata__"):
        return "URI" if get_args(hint)[0] is str else _takes(get_args(hint)[0])
    if get_args(hint) and get_origin(hint) is not dict:
        return " or ".join(filter(None, (_takes(each) for each in get_args(hint))))
    shown = {bool: "yes or no", str: "text", int: "whole number", float: "number", Path: "file"}
    return shown.get(hint, "mapping" if get_origin(hint) is dict else "")


def _first_line(text: str | None) -> str:
    assert text is not None
    return text.partition("\n")[0]


PAGES = {"schemas.md": schemas_page, "configuration.md": configuration_page}


if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
