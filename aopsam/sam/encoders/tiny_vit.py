"""MobileSAM's image encoder: TinyViT-5M (Wu et al. 2022) distilled from SAM's ViT-H (Zhang et al. 2023).

The names of the modules are those of the official `mobile_sam.pt`, so that it loads strictly. The official code
caches each attention bias when it enters eval mode and so keeps stale biases if weights are loaded afterwards;
here the biases are looked up at each call.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import nn
from torch.nn import functional as F

from aopsam.sam.encoders.fold import conv_norm

_IMAGENET_CLASSES = 1000


class _ConvNorm(nn.Module):
    """Convolution without bias, then batch normalisation; 'same' padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return conv_norm(x, self.c, self.bn)


class _PatchEmbed(nn.Module):
    """Two convolutions of stride 2: (B, 3, S, S) -> (B, C, S/4, S/4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(_ConvNorm(3, channels // 2, 3, 2), nn.GELU(), _ConvNorm(channels // 2, channels, 3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches: torch.Tensor = self.seq(x)
        return patches


class _MBConv(nn.Module):
    """Inverted bottleneck with a residual connection (Sandler et al. 2018), GELU after the sum."""

    def __init__(self, channels: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = channels * expansion
        self.conv1 = _ConvNorm(channels, hidden)
        self.conv2 = _ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = _ConvNorm(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class _Downsample(nn.Module):
    """Change of channels and, with stride 2, of resolution between two stages."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(inputs, outputs)
        self.conv2 = _ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = _ConvNorm(outputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        merged: torch.Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return merged


class _Attention(nn.Module):
    """Self-attention in one window, with a learnt bias for each head and absolute offset between two cells."""

    attention_bias_idxs: torch.Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.register_buffer("attention_bias_idxs", _offset_indices(window), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attend within each window: (B, window * window cells, C) -> the same shape."""
        batch, cells, channels = tokens.shape
        # The three vectors of one head lie side by side: (head, qkv, channel), unlike in most transformers.
        qkv = self.qkv(self.norm(tokens)).view(batch, cells, self.heads, 3, channels // self.heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        # Only with four axes is the kernel fused.
        bias = self.attention_biases[:, self.attention_bias_idxs].unsqueeze(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        projected: torch.Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, cells, channels))
        return projected


def _offset_indices(window: int) -> torch.Tensor:
    """Return the row of the bias table for each pair of cells, |dy| * window + |dx|: (window**2, window**2) int64."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return (y[:, None] - y).abs() * window + (x[:, None] - x).abs()


class _Mlp(nn.Module):
    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, channels * ratio)
        self.fc2 = nn.Linear(channels * ratio, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        transformed: torch.Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return transformed


class _TinyViTBlock(nn.Module):
    """Window attention, a depthwise convolution that connects neighbouring windows, and an MLP."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _Attention(channels, heads, window)
        self.local_conv = _ConvNorm(channels, channels, 3, groups=channels)
        self.mlp = _Mlp(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block: (B, C, H, W) -> the same shape."""
        x = self.local_conv(x + self._attend_in_windows(x))
        tokens = x.permute(0, 2, 3, 1)
        return (tokens + self.mlp(tokens)).permute(0, 3, 1, 2)

    def _attend_in_windows(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        size = self.window
        x = F.pad(x, (0, -width % size, 0, -height % size))
        rows, columns = x.shape[2] // size, x.shape[3] // size
        windows = x.view(batch, channels, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)
        windows = self.attn(windows.reshape(-1, size * size, channels))
        windows = windows.view(batch, rows, columns, size, size, channels).permute(0, 5, 1, 3, 2, 4)
        return windows.reshape(batch, channels, rows * size, columns * size)[..., :height, :width]


class _Stage(nn.Module):
    """Blocks at one resolution, then the downsampling to the next stage (none after the last)."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViTEncoder(nn.Module):
    """MobileSAM's image encoder: (B, 3, S, S) normalised RGB -> (B, 256, S/16, S/16).

    Stages at strides 4, 8, 16 and 16: MobileSAM keeps the last one at stride 16, where TinyViT goes on to 32.

    Args:
        img_size: S, side in pixels of the padded square that the model reads, a multiple of 16. MobileSAM: 1024.
    """

    def __init__(self, img_size: int = 1024) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_embed = _PatchEmbed(64)
        self.layers = nn.ModuleList(
            [
                _Stage([_MBConv(64) for _ in range(2)], _Downsample(64, 128, stride=2)),
                _Stage([_TinyViTBlock(128, heads=4, window=7) for _ in range(2)], _Downsample(128, 160, stride=2)),
                _Stage([_TinyViTBlock(160, heads=5, window=14) for _ in range(6)], _Downsample(160, 320, stride=1)),
                _Stage([_TinyViTBlock(320, heads=10, window=7) for _ in range(2)], None),
            ]
        )
        # The classifier that TinyViT was first trained with: part of the official file, never called.
        self.norm_head = nn.LayerNorm(320)
        self.head = nn.Linear(320, _IMAGENET_CLASSES)
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode photos: (B, 3, S, S) -> (B, 256, S/16, S/16)."""
        # Channels last: the tokens of the attention and the MLPs are then the same memory.
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        for layer in self.layers:
            x = layer(x)
        embedding: torch.Tensor = self.neck(x)
        return embedding
