"""Train a mask scorer: prompts on annotated photos, the IoU of what a SAM answers, and a small network between them.

The papers order masks by SAM's own estimate; scores that learn a mask's IoU beside its class are those of Mask Scoring
R-CNN (Huang et al. 2019). What is ours is that nothing but shape, logits and estimates is read, so that minutes and a
few thousand masks are enough (benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_point_grid
from torch.nn import functional as F

from aopsam.mask_head.network import MaskHead
from aopsam.mask_head.redraw import redraw
from aopsam.masks import rle
from aopsam.masks.nms import box_nms
from aopsam.sam.decode import decode_passing
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts
from aopsam.sam.things import ThingHead
from aopsam.scoring.features import mask_features, shown_on_maps
from aopsam.scoring.network import MaskScorer
from aopsam.training.annotated import Annotated as AnnotatedPhoto
from aopsam.training.recipes import ScorerRecipe
from aopsam.training.task import cosine
from aopsam.training.thresholds import BOX_NMS, GRID, low_resolution_boxes


class NothingToLearn(ValueError):
    """There are too few masks to train a scorer."""


@dataclass(frozen=True)
class Examples:
    """Masks of one photo.

    Attributes:
        features: (K, len(FEATURES)) float32.
        iou: (K,) float32, the best IoU with any annotated mask of the photo.
        asked_iou: (K,) float32, IoU with the mask that was asked for; NaN for points anywhere and for things.
    """

    features: torch.Tensor
    iou: torch.Tensor
    asked_iou: torch.Tensor


@torch.inference_mode()
def make_examples(
    sam: Sam,
    photo: AnnotatedPhoto,
    recipe: ScorerRecipe,
    *,
    sparse: bool,
    thing_head: ThingHead | None = None,
    mask_head: MaskHead | None = None,
) -> list[Examples]:
    """Prompt a SAM on an annotated photo; measure its masks at their low resolution.

    Points lie at the deepest place of a mask in six cases of ten, else anywhere in it; boxes are those of masks, and of
    things that the SAM's thing head finds.

    Args:
        sam: in eval mode.
        photo: the photo and its masks.
        recipe: how many prompts, and the seed.
        sparse: whether there are objects without annotation, so that points anywhere and things would teach nothing.
        thing_head: of the SAM; by default the bundled one, if it is the SAM's.
        mask_head: of the SAM, if masks that it draws are to be scored, too.

    Returns:
        Examples of points and of boxes, all three masks of each prompt; with a mask head those of what it draws as
        well.
    """
    rng = np.random.default_rng([recipe.seed, *photo.id.encode()])
    encoded = encode(sam, photo.rgb).with_thing_head(thing_head)
    asked = rng.permutation(len(photo.rles))[: recipe.prompts]
    points = [_point(photo, index, rng) for index in asked]
    height, width = photo.rgb.shape[:2]
    if not sparse:
        points += list(rng.uniform((0, 0), (width, height), (recipe.free, 2)))
    boxed = asked[rng.random(len(asked)) < recipe.boxes]
    boxes = np.array([rle.bbox_xywh(photo.rles[index]) for index in boxed], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    if not sparse and encoded.things is not None:
        boxes = np.concatenate([boxes, encoded.things.boxes_px[: recipe.things].numpy()])
    truths: torch.Tensor | None = None
    found = []
    for prompts, wanted in ((Prompts.from_points(np.array(points)), asked), (Prompts.from_boxes(boxes), boxed)):
        if not len(prompts):
            continue
        decoded = decode_passing(encoded, prompts, multimask=True)
        number = decoded.index[:, 0].cpu()
        drawings: list[torch.Tensor | None] = [None]
        if mask_head is not None:
            asked_px = torch.from_numpy(prompts[number.numpy()].places_px)
            drawings.append(redraw(mask_head, encoded, decoded.logits, asked_px))
        if truths is None:
            truths = true_masks(photo, encoded)
        for drawn in drawings:
            masks = (decoded.logits if drawn is None else drawn) > sam.mask_threshold
            iou = pair_iou(masks[:, : truths.shape[1], : truths.shape[2]], truths.to(masks.device)).cpu()
            own = torch.full((len(iou),), torch.nan)
            known = number < len(wanted)
            own[known] = iou[known, torch.from_numpy(wanted)[number[known]]]
            found.append(Examples(mask_features(encoded, prompts, decoded, drawn).cpu(), iou.amax(1), own))
    return found


def fit_scorer(examples: Sequence[Examples], recipe: ScorerRecipe) -> MaskScorer:
    """Train a scorer: cross entropy and squared error of both IoUs; each photo counts by the root of its masks.

    Args:
        examples: of `make_examples`.
        recipe: hyper-parameters.

    Raises:
        NothingToLearn: fewer than two masks.
    """
    if sum(len(e.iou) for e in examples) < 2:
        raise NothingToLearn("no masks to learn from; give more annotated photos")
    features = torch.cat([e.features for e in examples])
    targets = torch.stack([torch.cat([e.iou for e in examples]), torch.cat([e.asked_iou for e in examples])], dim=1)
    known = ~targets.isnan()
    targets = targets.nan_to_num(0.0)
    weight = torch.cat([torch.full((len(e.iou),), len(e.iou) ** -0.5) for e in examples])
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        scorer = MaskScorer()
    scorer.mean.copy_(features.mean(0))
    scorer.deviation.copy_(features.std(0).clamp_min(0.02))
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=0.0, weight_decay=recipe.weight_decay)
    average = torch.optim.swa_utils.AveragedModel(
        scorer, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * cosine(step, recipe.steps, warmup=100)
        rows = torch.multinomial(weight, 256, replacement=True, generator=generator)
        logits, target = scorer(features[rows]), targets[rows]
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        each = (each + 4 * (logits.sigmoid() - target).square()) * known[rows]
        loss = (each.sum(0) / known[rows].sum(0).clamp_min(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(scorer)
    scorer.load_state_dict(average.module.state_dict())
    return scorer.eval().requires_grad_(False)


def _point(photo: AnnotatedPhoto, index: int, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.6:
        return photo.points_px[index]
    rows, columns = np.nonzero(rle.decode(photo.rles[index]))
    pick = rng.integers(len(rows))
    return np.array([columns[pick], rows[pick]], np.float64)


def true_masks(photo: AnnotatedPhoto, encoded: EncodedPhoto) -> torch.Tensor:
    """Return the annotated masks (M, h, w) bool at the resolution of low-resolution masks, without padding."""
    shown = shown_on_maps(encoded)
    masks = (torch.from_numpy(rle.decode(mask))[None, None].float() for mask in photo.rles)
    return torch.cat([F.interpolate(mask, shown, mode="area")[0] > 0.5 for mask in masks])


def pair_iou(masks: torch.Tensor, truths: torch.Tensor) -> torch.Tensor:
    """Return the IoU (K, M) of K masks with M, all (_, h, w) bool."""
    left, right = masks.flatten(1).float(), truths.flatten(1).float()
    both = left @ right.T
    return both / (left.sum(1)[:, None] + right.sum(1) - both).clamp_min(1)


@torch.inference_mode()
def choose_scorer_thresholds(
    sam: Sam,
    scorer: MaskScorer,
    photos: Sequence[AnnotatedPhoto],
    masks_a_photo: int = 200,
    thing_head: ThingHead | None = None,
) -> None:
    """Set the scorer's thresholds, so that a 16 x 16 grid keeps about `masks_a_photo` masks of the median photo.

    Of the masks that reach the score, one in fifty has a predicted IoU below `pred_iou_thresh`: those below are not
    worth making.

    Args:
        sam: in eval mode.
        scorer: its `score_thresh` and `pred_iou_thresh` are set, both rounded down to three decimals.
        photos: training photos; none that the model is judged on.
        masks_a_photo: wanted number of masks, after suppression of equal boxes.
        thing_head: of the SAM; by default the bundled one, if it is the SAM's.
    """
    cuts: list[float] = []
    pairs: list[torch.Tensor] = []
    for photo in photos:
        encoded = encode(sam, photo.rgb).with_thing_head(thing_head)
        height, width = photo.rgb.shape[:2]
        prompts = Prompts.from_points(build_point_grid(GRID) * [width, height])
        decoded = decode_passing(encoded, prompts, multimask=True)
        scores = scorer.score(encoded, prompts, decoded, anywhere=True)
        masks = decoded.logits.cpu() > sam.mask_threshold
        filled = masks.flatten(1).any(1)
        kept = scores[filled][box_nms(low_resolution_boxes(masks[filled]), scores[filled], BOX_NMS)]
        kept = kept.sort(descending=True).values
        cuts.append(float(kept[min(masks_a_photo, len(kept)) - 1]) if len(kept) else 0.0)
        number, alternative = decoded.index.unbind(1)
        pairs.append(torch.stack([scores, decoded.predicted_iou[number, alternative].cpu()]))
    scores, estimates = torch.cat(pairs, dim=1)
    least = float(np.median(cuts))
    reached = estimates[scores >= least]
    scorer.score_thresh = _rounded_down(least)
    scorer.pred_iou_thresh = _rounded_down(float(reached.quantile(0.02)) if len(reached) else 0.0)


def _rounded_down(value: float) -> float:
    return float(max(0.0, np.floor(value * 1000 + 1e-9) / 1000))
