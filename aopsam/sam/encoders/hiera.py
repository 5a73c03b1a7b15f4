"""SAM 2's image encoders: Hiera (Ryali et al. 2023) with window attention and a two-level feature pyramid.

The names of the modules are those of the official `sam2_hiera_*.pt` and `sam2.1_hiera_*.pt` (Ravi et al. 2024,
appendix D.1).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

EMBED_DIM = 256


class _PatchEmbed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 7, stride=4, padding=3)


class _Mlp(nn.Module):
    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(channels, ratio * channels), nn.Linear(ratio * channels, channels)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        transformed: torch.Tensor = self.layers[1](F.gelu(self.layers[0](x)))
        return transformed


class _Attention(nn.Module):
    """Self-attention over a grid of cells, from `inputs` to `outputs` channels; with `pools`, one query for 2 x 2."""

    def __init__(self, inputs: int, outputs: int, heads: int, pools: bool) -> None:
        super().__init__()
        self.heads, self._pools = heads, pools
        self.qkv = nn.Linear(inputs, 3 * outputs)
        self.proj = nn.Linear(outputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over all cells: (B, h, w, inputs) -> (B, h, w, outputs), or half of h and w."""
        q, k, v = self.qkv(x).chunk(3, dim=3)
        if self._pools:
            q = _pooled(q)
        height, width = q.shape[1:3]
        q, k, v = (part.flatten(1, 2).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).unflatten(1, (height, width))
        projected: torch.Tensor = self.proj(mixed)
        return projected


class _Block(nn.Module):
    """Attention in windows (or, with window 0, over the whole photo), then an MLP."""

    def __init__(self, inputs: int, outputs: int, heads: int, window: int, pools: bool) -> None:
        super().__init__()
        self.window_size, self._pools = window, pools
        self.norm1 = nn.LayerNorm(inputs, eps=1e-6)
        self.attn = _Attention(inputs, outputs, heads, pools)
        self.norm2 = nn.LayerNorm(outputs, eps=1e-6)
        self.mlp = _Mlp(outputs)
        if inputs != outputs:
            self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block: (B, h, w, inputs) -> (B, h, w, outputs), or half of h and w where it pools."""
        kept = x
        x = self.norm1(x)
        if hasattr(self, "proj"):
            kept = self.proj(x)
        if self._pools:
            kept = _pooled(kept)
        if self.window_size == 0:
            x = kept + self.attn(x)
        else:
            batch, height, width, _ = x.shape
            size = self.window_size
            x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))  # padding takes part as keys, as in the reference
            rows, columns = x.shape[1] // size, x.shape[2] // size
            x = x.view(batch, rows, size, columns, size, -1).transpose(2, 3).flatten(0, 2)
            x = self.attn(x).unflatten(0, (batch, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
            x = kept + x[:, : kept.shape[1], : kept.shape[2]]
        return x + self.mlp(self.norm2(x))


def _pooled(x: torch.Tensor) -> torch.Tensor:
    """Take the maximum of each 2 x 2: (B, h, w, C) -> (B, h / 2, w / 2, C)."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class _Trunk(nn.Module):
    """Hiera without a neck: (B, 3, S, S) -> features at strides 4, 8, 16 and 32, channels doubling at each stage."""

    def __init__(
        self,
        channels: int,
        heads: int,
        depths: tuple[int, ...],
        global_blocks: tuple[int, ...],
        table_cells: int,
        windows: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(channels)
        self.pos_embed = nn.Parameter(torch.zeros(1, channels, table_cells, table_cells))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, channels, windows[0], windows[0]))
        blocks: list[_Block] = []
        self._ends = []
        for stage, depth in enumerate(depths):
            for place in range(depth):
                starts = stage > 0 and place == 0
                # The block that pools still attends in the windows of the stage before.
                window = 0 if len(blocks) in global_blocks else windows[stage - 1 if starts else stage]
                inputs, channels = channels, channels * (2 if starts else 1)
                heads *= 2 if starts else 1
                blocks.append(_Block(inputs, channels, heads, window, pools=starts))
            self._ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.patch_embed.proj(x)
        place = F.interpolate(self.pos_embed, x.shape[-2:], mode="bicubic")
        window = self.pos_embed_window
        place = place + window.tile(1, 1, x.shape[2] // window.shape[2], x.shape[3] // window.shape[3])
        x = (x + place).permute(0, 2, 3, 1)
        stages = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._ends:
                stages.append(x.permute(0, 3, 1, 2))
        return stages


class _Neck(nn.Module):
    """Projection of every stage to 256 channels, the coarsest stage first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [8 * channels, 4 * channels, 2 * channels, channels]
        self.convs = nn.ModuleList(nn.ModuleDict({"conv": nn.Conv2d(width, EMBED_DIM, 1)}) for width in widths)

    def forward(self, stages: list[torch.Tensor]) -> list[torch.Tensor]:
        return [conv["conv"](x) for conv, x in zip(self.convs, reversed(stages), strict=True)]  # type: ignore[index]


class HieraEncoder(nn.Module):
    """SAM 2's image encoder: (B, 3, S, S) normalised RGB -> three levels of 256 channels, at strides 16, 8 and 4.

    Args:
        channels: channels of the first stage.
        heads: attention heads of the first stage.
        depths: blocks in each of the four stages.
        global_blocks: blocks that attend to the whole photo, counted from the first stage on.
        table_cells: side of the table of positions.
        windows: side of the windows in each stage, in its cells.
        img_size: S, side in pixels of the square that the model reads, a multiple of 32. SAM 2: 1024.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        depths: tuple[int, int, int, int],
        global_blocks: tuple[int, ...],
        table_cells: int = 7,
        windows: tuple[int, int, int, int] = (8, 4, 14, 7),
        img_size: int = 1024,
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.trunk = _Trunk(channels, heads, depths, global_blocks, table_cells, windows)
        self.neck = _Neck(channels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode photos: (B, 3, S, S) -> (B, 256, S/16, S/16), (B, 256, S/8, S/8) and (B, 256, S/4, S/4).

        The coarsest level, at stride 32, is added to the one at stride 16.
        """
        coarsest, coarse, middle, fine = self.neck(self.trunk(x))
        return coarse + F.interpolate(coarsest, scale_factor=2.0, mode="nearest"), middle, fine


def hiera_t(img_size: int = 1024) -> HieraEncoder:
    """Build Hiera-T: 12 blocks, 27 M parameters."""
    return HieraEncoder(96, 1, (1, 2, 7, 2), (5, 7, 9), img_size=img_size)


def hiera_s(img_size: int = 1024) -> HieraEncoder:
    """Build Hiera-S: 16 blocks, 34 M parameters."""
    return HieraEncoder(96, 1, (1, 2, 11, 2), (7, 10, 13), img_size=img_size)


def hiera_b_plus(img_size: int = 1024) -> HieraEncoder:
    """Build Hiera-B+: 24 blocks, 69 M parameters."""
    return HieraEncoder(112, 2, (2, 3, 16, 3), (12, 16, 20), table_cells=14, img_size=img_size)


def hiera_l(img_size: int = 1024) -> HieraEncoder:
    """Build Hiera-L: 48 blocks, 212 M parameters."""
    return HieraEncoder(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8), img_size=img_size)
