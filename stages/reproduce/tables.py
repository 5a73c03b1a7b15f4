"""Tables of the papers: which strategy each row is here, what is measured of it, and what the paper says.

To add one: a record in TABLES. A row is its name in the paper, the strategy as in `--prompts` (empty where the method
is not here), and the paper's figures, a tuple for each of the table's roles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.config.strategy_spec import StrategySpec, parse_strategies

ROLES = {
    "sa1b": "SA-1B",
    "coco": "COCO",
    "lvis": "LVIS",
    "ilso1k": "ILSO1K",
    "soc": "SOC",
    "sip": "SIP",
    "nc4k": "NC4K",
    "cod10k": "COD10K",
    "camo": "CAMO",
}
"""Role of a data set in the tables, as in `--data ROLE=URI`, and its name."""

Entry = Mapping[str, Any]
Published = tuple[float | None, ...]
Row = tuple[str, str, *tuple[Published, ...]]


@dataclass(frozen=True)
class Figure:
    """Column of a table: a figure measured of each row.

    Attributes:
        head: title of the column.
        keys: fields of an entry of `stages.evaluate.summary.summarise`, which are added.
        factor: from the entry's unit to the paper's.
        spec: format of the figure.
    """

    head: str
    keys: tuple[str, ...]
    factor: float = 1
    spec: str = ".1f"

    def of(self, entry: Entry) -> tuple[float, float | None, float | None] | None:
        """Return the figure of an entry, and the ends of its 95 % interval where it has one; None if undefined."""
        first = entry.get(self.keys[0])
        if isinstance(first, Mapping):
            estimate = first["over_masks"]
            return estimate and tuple(self.factor * estimate[name] for name in ("mean", "low", "high"))
        found = [float(entry[key]) for key in self.keys if entry.get(key) is not None]
        return (self.factor * sum(found), None, None) if len(found) == len(self.keys) else None


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes:
        name: as in `--tables`.
        title: paper and number.
        about: what it compares.
        roles: keys of ROLES, in the paper's order.
        figures: in the order of each row's tuples.
        rows: SAM that was measured → rows. Of another SAM the first one's are shown.
        note: what is read otherwise here, and what is left out.
    """

    name: str
    title: str
    about: str
    roles: tuple[str, ...]
    figures: tuple[Figure, ...]
    rows: Mapping[str, tuple[Row, ...]]
    note: str = ""

    def of(self, sam: str) -> tuple[str, tuple[Row, ...]]:
        """Return the SAM whose figures the paper has for one of the registry, and the rows."""
        name = sam if sam in self.rows else next(iter(self.rows))
        return name, self.rows[name]


MIOU = Figure("mIoU", ("miou",), 100)
PROMPT = Figure("prompt s", ("seconds_prompt",), 1, ".3f")
DECODE = Figure("decode s", ("seconds_decode",), 1, ".3f")
END_TO_END = Figure("s/photo", ("seconds",), 1, ".2f")
MEMORY = Figure("memory GB", ("peak_memory",), 1e-9, ".3f")
KEPT = Figure("#P", ("masks_kept",))
DECODED = Figure("#P", ("prompts_decoded",))
SIZES = (("all", ""), ("small", "_small"), ("medium", "_medium"), ("large", "_large"))
AR_1000, AR_100, AR_10 = (
    tuple(Figure(f"AR@{most} {head}", (f"ar_{most}{end}",), 100) for head, end in SIZES) for most in (1000, 100, 10)
)
THREE = ("sa1b", "coco", "lvis")
READ_AOP = (
    "#P are the masks that remain after filtering; memory is what a strategy takes beyond what was in use, without "
    "encoding the photo. OAS is our detector, not YOLOv8. On the paper's Titan RTX."
)
READ_MOBILE = "The detector is ours, not YOLOv8; the paper's 100 photos of LVIS are not named."
READ_ATTENTION = "The paper's 10,000 photos are not named; its threshold of merging is not either."
X1 = "masks_per_prompt=1,single_mask=token"
LOW = "efficient-sam2"
HIGH = "attention-high-quality(masks_per_prompt=1,rank_by=predicted_iou,duplicates=merge)"

TABLES = (
    PaperTable(
        "aop-1",
        "AoP-SAM, Table 1",
        "prompts by their source",
        THREE,
        (MIOU, PROMPT, MEMORY, KEPT),
        {
            "vit_h": (
                ("AMG.S", "grid-16", (40.8, None, 7.1, 56.3), (63.3, None, 5.7, 49.8), (64.9, None, 5.6, 50.5)),
                ("AMG.D", "grid-32", (66.8, None, 11.8, 109.6), (69.5, None, 5.7, 87.4), (71.0, None, 5.6, 88.0)),
                ("OAS(Box)", "oas-box", (66.9, 0.160, 10.4, 100), (64.1, 0.152, 6.8, 44), (63.3, 0.153, 6.6, 38)),
                (
                    *("OAS(Central Point)", "oas-center"),
                    *((68.3, 0.154, 11.1, 207.6), (65.1, 0.134, 6.9, 102.1), (63.0, 0.134, 6.8, 102.4)),
                ),
                ("AoP-SAM", "aop-paper", (70.6, 0.122, 6.6, 107.8), (70.1, 0.120, 5.5, 90.0), (71.9, 0.122, 5.5, 89.7)),
            ),
            "vit_l": (
                ("AMG.S", "grid-16", (40.0, None, 5.7, 55.5), (61.4, None, 4.4, 48.8), (63.2, None, 4.3, 49.5)),
                ("AMG.D", "grid-32", (65.6, None, 10.3, 108.9), (67.7, None, 4.3, 86.0), (69.2, None, 4.3, 86.5)),
                ("OAS(Box)", "oas-box", (65.8, 0.150, 9.1, 100), (63.3, 0.152, 5.4, 44), (62.9, 0.151, 5.3, 38)),
                (
                    *("OAS(Central Point)", "oas-center"),
                    *((67.6, 0.149, 9.7, 199.3), (64.2, 0.133, 5.5, 98.4), (63.5, 0.132, 5.5, 98.9)),
                ),
                ("AoP-SAM", "aop-paper", (71.1, 0.120, 5.4, 118.3), (68.4, 0.116, 4.4, 97.0), (69.8, 0.117, 4.4, 97.2)),
            ),
            "mobile_sam": (
                ("AMG.S", "grid-16", (29.8, None, 4.5, 38.6), (56.0, None, 1.9, 33.5), (56.2, None, 1.9, 33.4)),
                ("AMG.D", "grid-32", (46.9, None, 9.1, 71.0), (60.9, None, 1.9, 55.9), (61.1, None, 1.9, 55.5)),
                ("OAS(Box)", "oas-box", (50.7, 0.191, 7.3, 100), (55.5, 0.187, 4.2, 44), (55.7, 0.188, 4.0, 38)),
                (
                    *("OAS(Central Point)", "oas-center"),
                    *((48.7, 0.188, 7.7, 141.0), (53.9, 0.167, 4.3, 69.0), (54.5, 0.164, 4.3, 68.1)),
                ),
                ("AoP-SAM", "aop-paper", (51.4, 0.101, 4.1, 71.7), (61.5, 0.096, 2.1, 58.1), (62.3, 0.094, 2.1, 57.5)),
            ),
        },
        READ_AOP,
    ),
    PaperTable(
        "aop-2",
        "AoP-SAM, Table 2",
        "parts of AoP-SAM",
        THREE,
        (MIOU, PROMPT, MEMORY, KEPT),
        {
            "vit_h": (
                (
                    *("predictor", "aop-paper(adaptive_sampling=false,adaptive_filtering=false)"),
                    *((57.2, 0.059, 7.2, 106.4), (67.9, 0.078, 5.7, 70.4), (60.9, 0.075, 5.7, 60.6)),
                ),
                (
                    *("+ sampling", "aop-paper(adaptive_filtering=false)"),
                    *((72.8, 0.130, 10.1, 120.1), (70.5, 0.122, 5.7, 97.9), (71.7, 0.121, 5.7, 97.5)),
                ),
                (
                    *("+ filtering", "aop-paper"),
                    *((71.3, 0.122, 6.6, 107.8), (70.1, 0.112, 5.7, 91.1), (71.9, 0.122, 5.7, 89.7)),
                ),
            )
        },
        READ_AOP + " The first row is read as one prompt a connected component above the threshold.",
    ),
    PaperTable(
        "aop-3a",
        "AoP-SAM, Table 3a",
        "smoothing factor of sampling",
        ("sa1b",),
        (MIOU, PROMPT),
        {
            "vit_h": (
                ("1", "aop-paper(smoothing_sigma=1)", (72.4, 0.124)),
                ("2", "aop-paper", (70.4, 0.122)),
                ("3", "aop-paper(smoothing_sigma=3)", (67.3, 0.118)),
                ("4", "aop-paper(smoothing_sigma=4)", (63.4, 0.122)),
            )
        },
        "The paper does not name the encoder. Its column of memory repeats the ratios of Table 3d and is left out.",
    ),
    PaperTable(
        "aop-3b",
        "AoP-SAM, Table 3b",
        "confidence threshold of sampling",
        ("sa1b",),
        (MIOU, PROMPT, MEMORY),
        {
            "vit_h": (
                ("0.1", "aop-paper(threshold=0.1)", (70.9, 0.121, 10.1)),
                ("0.2", "aop-paper", (70.4, 0.122, 9.75)),
                ("0.3", "aop-paper(threshold=0.3)", (68.7, 0.116, 9.52)),
                ("0.4", "aop-paper(threshold=0.4)", (66.4, 0.117, 9.60)),
            )
        },
    ),
    PaperTable(
        "aop-3c",
        "AoP-SAM, Table 3c",
        "spacing of sampling",
        ("sa1b",),
        (MIOU, PROMPT, MEMORY),
        {
            "vit_h": (
                ("4", "aop-paper(spacing=4)", (72.7, 0.123, 10.0)),
                ("5", "aop-paper(spacing=5)", (71.6, 0.123, 9.88)),
                ("6", "aop-paper", (70.4, 0.122, 9.75)),
                ("7", "aop-paper(spacing=7)", (68.9, 0.117, 9.82)),
            )
        },
    ),
    PaperTable(
        "aop-3d",
        "AoP-SAM, Table 3d",
        "threshold of filtering",
        ("sa1b",),
        (MIOU, DECODE, Figure("dropped %", ("dropped_share",), 100)),
        {
            "vit_h": (
                ("1.25", "aop-paper(k=1.25)", (68.4, 0.671, 51.5)),
                ("1.3", "aop-paper", (70.4, 0.799, 42.3)),
                ("1.35", "aop-paper(k=1.35)", (71.6, 0.93, 32.7)),
                ("1.4", "aop-paper(k=1.4)", (72.2, 1.04, 24.6)),
            )
        },
    ),
    PaperTable(
        "aop-4",
        "AoP-SAM, Table 4",
        "time and memory of prompts on a Jetson Orin Nano",
        THREE,
        (PROMPT, MEMORY),
        {
            "mobile_sam": (
                ("OAS(Box)", "oas-box", (1.16, 0.78), (1.01, 0.78), (0.99, 0.78)),
                ("OAS(Central)", "oas-center", (1.32, 0.78), (1.21, 0.78), (1.23, 0.78)),
                ("AoP-SAM", "aop-paper", (0.65, 0.042), (0.77, 0.042), (0.84, 0.042)),
            )
        },
        "Our memory is that of prompts and masks; the paper's is of prompts alone (benchmarks/prompt_stage.py).",
    ),
    PaperTable(
        "mobile-sam-v2-2",
        "MobileSAMv2, Table 2",
        "time of prompts and masks",
        ("lvis",),
        (
            Figure("prompts ms", ("seconds_prompt",), 1000, ".0f"),
            Figure("masks ms", ("seconds_decode", "seconds_filter"), 1000, ".0f"),
            Figure("total ms", ("seconds_prompt", "seconds_decode", "seconds_filter"), 1000, ".0f"),
        ),
        {
            "vit_h": (
                ("grid 32×32", "grid-32", (16, 1600, 1616)),
                ("grid 64×64", "grid-64", (64, 6400, 6464)),
                ("object-aware, 320", "mobile-sam-v2", (47, 50, 97)),
            )
        },
        "The prompt encoder is part of our masks' time, of the paper's prompts'.",
    ),
    PaperTable(
        "mobile-sam-v2-3",
        "MobileSAMv2, Table 3",
        "grids and objects, one mask a prompt and three",
        ("lvis",),
        AR_1000,
        {
            "vit_h": (
                ("SAM 64×64 ×3", "grid-64", (59.2, 46.6, 78.7, 82.4)),
                ("SAM 32×32 ×3", "grid-32", (57.2, 42.9, 79.2, 83.6)),
                ("SAM 16×16 ×3", "grid-16", (40.0, 19.4, 71.3, 79.1)),
                ("SAM 64×64 ×1", f"grid-64({X1})", (54.3, 44.4, 71.5, 67.4)),
                ("SAM 32×32 ×1", f"grid-32({X1})", (49.8, 37.2, 71.4, 66.8)),
                ("SAM 16×16 ×1", f"grid-16({X1})", (34.6, 17.5, 61.5, 64.9)),
                ("320 points ×3", "oas-center", (55.7, 40.6, 78.6, 84.6)),
                ("320 points ×1", f"oas-center({X1})", (53.6, 44.0, 70.4, 66.6)),
                ("320 boxes ×1", "mobile-sam-v2", (59.3, 47.9, 77.1, 79.9)),
                ("256 boxes ×1", "mobile-sam-v2(max_boxes=256)", (58.5, 46.7, 77.1, 79.1)),
            )
        },
        READ_MOBILE,
    ),
    PaperTable(
        "mobile-sam-v2-4",
        "MobileSAMv2, Table 4",
        "grid and objects at fewer masks",
        ("lvis",),
        (*AR_1000, *AR_100, *AR_10),
        {
            "vit_h": (
                (
                    *("SAM 64×64 ×3", "grid-64"),
                    (59.2, 46.6, 78.7, 82.4, 44.8, 29.8, 67.6, 73.8, 12.6, 2.9, 22.7, 45.0),
                ),
                ("320 boxes", "mobile-sam-v2", (59.3, 47.9, 77.1, 79.9, *(None,) * 8)),
                ("100 boxes", "mobile-sam-v2(max_boxes=100)", (*(None,) * 4, 50.6, 36.3, 73.1, 76.3, *(None,) * 4)),
                ("10 boxes", "mobile-sam-v2(max_boxes=10)", (*(None,) * 8, 17.6, 6.4, 35.0, 37.8)),
            )
        },
        READ_MOBILE + " Its rows `average` are means of these.",
    ),
    PaperTable(
        "mobile-sam-v2-5",
        "MobileSAMv2, Table 5",
        "320 boxes with another image encoder: one run each",
        ("lvis",),
        AR_1000,
        {
            "vit_h": (("ViT-H", "mobile-sam-v2", (59.3, 47.9, 77.1, 79.9)),),
            "mobile_sam": (("TinyViT", "mobile-sam-v2", (51.1, 38.9, 69.9, 73.4)),),
            "efficientvit_sam_l2": (("EfficientViT-L2", "mobile-sam-v2", (56.3, 44.7, 74.1, 78.1)),),
        },
        READ_MOBILE,
    ),
    PaperTable(
        "mobile-sam-v2-6",
        "MobileSAMv2, Table 6",
        "with prompts and without",
        ("lvis",),
        AR_1000,
        {
            "vit_h": (
                ("FastSAM", "", (49.6, 36.2, 69.4, 77.1)),
                ("SAM (best setup)", "grid-64", (59.2, 46.4, 78.7, 82.4)),
                ("MobileSAMv2 (ViT-H)", "mobile-sam-v2", (59.3, 47.9, 77.1, 79.9)),
            ),
            "efficientvit_sam_l2": (
                ("FastSAM", "", (49.6, 36.2, 69.4, 77.1)),
                ("MobileSAMv2 (EfficientViT-L2)", "mobile-sam-v2", (56.3, 44.7, 74.1, 78.1)),
            ),
        },
        READ_MOBILE + " FastSAM asks no prompts and is not here.",
    ),
    PaperTable(
        "mobile-sam-v2-7",
        "MobileSAMv2, Table 7",
        "most boxes",
        ("lvis",),
        AR_1000,
        {
            "vit_h": (
                ("384", "mobile-sam-v2(max_boxes=384)", (59.3, 47.9, 77.1, 79.9)),
                ("320", "mobile-sam-v2", (59.3, 47.9, 77.1, 79.9)),
                ("256", "mobile-sam-v2(max_boxes=256)", (58.5, 46.7, 77.1, 79.1)),
                ("192", "mobile-sam-v2(max_boxes=192)", (56.6, 44.2, 76.0, 78.8)),
                ("128", "mobile-sam-v2(max_boxes=128)", (53.6, 40.2, 74.6, 77.7)),
                ("64", "mobile-sam-v2(max_boxes=64)", (44.8, 29.2, 68.3, 75.4)),
            )
        },
        READ_MOBILE,
    ),
    PaperTable(
        "efficient-sam2-1",
        "Efficient SAM2, Table 1",
        "prompts of the presets",
        ("coco", "lvis", "sa1b"),
        (DECODED,),
        {
            "sam2_hiera_l": (
                ("Low Latency", LOW, (107.3,), (107.3,), (107.3,)),
                ("High Quality", HIGH, (213.1,), (213.1,), (213.1,)),
                ("SAM3D", "attention-sam3d", (22.5,), (22.5,), (22.5,)),
                ("SAM1", "attention-sam1", (300.5,), (300.5,), (300.5,)),
            )
        },
        "The paper's are means over all its experiments; SAM3D's are of ScanNet, SAM1's of ViT-L.",
    ),
    PaperTable(
        "efficient-sam2-2",
        "Efficient SAM2, Table 2",
        "objects of all kinds",
        ("coco", "lvis", "sa1b"),
        (MIOU, DECODED, END_TO_END),
        {
            "sam2_hiera_l": (
                ("Random", "random-1024", (44.5, 1024, None), (40.0, 1024, None), (45.5, 1024, None)),
                ("Grid", "grid-32", (45.6, 1024, 1.37), (41.2, 1024, 1.37), (49.7, 1024, 1.56)),
                ("Low Latency", LOW, (60.5, 105.5, 1.22), (54.3, 105.7, 1.18), (41.7, 110.3, 1.13)),
                ("High Quality", HIGH, (66.4, 210.4, 1.41), (61.0, 211.1, 1.33), (57.3, 220.7, 1.11)),
            )
        },
        READ_ATTENTION,
    ),
    PaperTable(
        "efficient-sam2-3",
        "Efficient SAM2, Table 3",
        "suppression of repeats against merging",
        ("coco",),
        (MIOU, DECODED),
        {
            "sam2_hiera_l": (
                ("grid, nms", "grid-32", (46.6, 1024)),
                ("grid, merged", "grid-32(masks_per_prompt=1,rank_by=predicted_iou,duplicates=merge)", (47.0, 1024)),
                ("ours, nms", HIGH.replace("merge", "box-nms"), (66.2, 210.1)),
                ("ours, merged", HIGH, (66.9, 210.1)),
            )
        },
        READ_ATTENTION,
    ),
    PaperTable(
        "efficient-sam2-4",
        "Efficient SAM2, Table 4",
        "salient objects",
        ("ilso1k", "soc", "sip"),
        (MIOU, DECODED),
        {
            "sam2_hiera_l": (
                ("Grid 16×16", "grid-16", (64.9, 256), (61.0, 256), (83.9, 256)),
                ("Random 1024", "random-1024", (64.3, 1024), (67.0, 1024), (86.1, 1024)),
                ("Grid 32×32", "grid-32", (64.6, 1024), (65.9, 1024), (85.7, 1024)),
                ("Low Latency", LOW, (87.9, 104.6), (83.0, 106.3), (93.4, 104.7)),
            )
        },
    ),
    PaperTable(
        "efficient-sam2-5",
        "Efficient SAM2, Table 5",
        "camouflaged objects",
        ("nc4k", "cod10k", "camo"),
        (MIOU, DECODED),
        {
            "sam2_hiera_l": (
                ("Grid 16×16", "grid-16", (19.6, 256), (22.3, 256), (14.5, 256)),
                ("Random 1024", "random-1024", (21.1, 1024), (26.1, 1024), (16.3, 1024)),
                ("Grid 32×32", "grid-32", (16.6, 1024), (16.3, 1024), (15.5, 1024)),
                ("Low Latency", LOW, (56.2, 100.5), (48.7, 102.7), (58.2, 104.2)),
            )
        },
    ),
    PaperTable(
        "efficient-sam2-6",
        "Efficient SAM2, Table 6",
        "SAM 1",
        ("coco",),
        (MIOU, DECODED),
        {
            "vit_l": (
                ("Grid 16×16", "grid-16", (60.5, 256)),
                ("Grid 32×32", "grid-32", (68.9, 1024)),
                ("SAM1", HIGH.replace("high-quality", "sam1"), (66.6, 300.5)),
            )
        },
        READ_ATTENTION,
    ),
    PaperTable(
        "amr-2",
        "Adaptive Mask Refinement, Table II",
        "two random points in the true object, and refined",
        ("coco",),
        (
            *(MIOU, Figure("AP", ("ap",), 100), Figure("AP L", ("ap_large",), 100)),
            *(Figure("AP M", ("ap_medium",), 100), Figure("AP S", ("ap_small",), 100)),
        ),
        {
            "efficient_sam_ti": (
                ("EffSAM-Tiny", "gt-points-2(masks_per_prompt=1)", (69.03, 45.2, 59.2, 54.7, 44.7)),
                ("EffSAM-Tiny + AMR", "gt-points-2(refine=formula)", (75.55, 54.7, 68.5, 59.2, 44.7)),
            ),
            "efficient_sam_s": (
                ("EffSAM-Small", "gt-points-2(masks_per_prompt=1)", (70.73, 45.2, 57.4, 52.8, 42.7)),
                ("EffSAM-Small + AMR", "gt-points-2(refine=formula)", (75.17, 52.8, 67.4, 57.4, 42.7)),
            ),
        },
    ),
)
"""In the order of the page."""


def chosen_tables(names: Sequence[str]) -> list[PaperTable]:
    """Return the tables of some names, all where there are none.

    Raises:
        ValueError: no such table.
    """
    known = {table.name: table for table in TABLES}
    for name in names:
        if name not in known:
            raise ValueError(f"--tables {name}: no such table; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


def strategies_of(tables: Sequence[PaperTable], sam: str, role: str) -> list[StrategySpec]:
    """Return the strategies of all rows that the tables have on a role's data, each once."""
    rows = [row for table in tables if role in table.roles for row in table.of(sam)[1]]
    found = [spec for row in rows if row[1] for spec in parse_strategies(row[1])]
    return list({spec.text: spec for spec in found}.values())
