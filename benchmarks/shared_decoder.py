"""Does SAM's decoder answer in EfficientSAM's layers, as a student of distillation begins?

    python benchmarks/shared_decoder.py --val bsds500/val

The perfect student: `tiny`'s own encoder on stretched photos, plus what `tiny`'s decoder adds to an embedding without a
mask, before EfficientSAM's prompt encoder and mask decoder with `tiny`'s weights (`share_decoder`). Prints the IoU of
one interior point and one box a mask, best of three, of `tiny` and of that, on PHOTOS photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import nn

from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import load_photos
from aopsam.training.student import share_decoder
from aopsam.training.validation import best_of_three
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards


class _PlusNoMask(nn.Module):
    """An encoder whose embedding has the decoder's vector of "no mask" added."""

    def __init__(self, encoder: nn.Module, no_mask: torch.Tensor) -> None:
        super().__init__()
        self.encoder, self.img_size, self.no_mask = encoder, encoder.img_size, no_mask.view(1, -1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.encoder(x) + self.no_mask
        return embedding


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--val", required=True, help="annotated photos to judge by")
    parser.add_argument("--photos", type=int, default=6, help="of them (default: %(default)s)")
    arguments = parser.parse_args(argv)
    stored = load_photos(list_shards(arguments.val), read=read_annotated)
    photos = [stored[i] for i in range(0, len(stored), max(1, len(stored) // arguments.photos))][: arguments.photos]
    tiny = load_sam("tiny")
    begun = share_decoder(efficient_sam_ti(int(tiny.image_encoder.img_size)), tiny)
    begun.image_encoder = _PlusNoMask(tiny.image_encoder, tiny.prompt_encoder.no_mask_embed.weight)
    for name, sam in (("tiny", tiny), ("in EfficientSAM's layers", begun.eval())):
        print(f"{name}: {', '.join(f'{kind} {best_of_three(sam, photos, kind):.3f}' for kind in ('point', 'box'))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
