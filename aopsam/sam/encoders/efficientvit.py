"""EfficientViT-SAM's image encoder: EfficientViT-L2 (Cai et al. 2023) distilled from SAM's ViT-H (Zhang et al. 2024).

Convolutions, with linear attention at stride 32, at 512 px; a neck brings strides 8, 16 and 32 to a 64 x 64 embedding.
The names of the modules are those of the official `efficientvit_sam_l2.pt`. Prompt encoder and mask decoder are SAM's.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F

from aopsam.sam.encoders.fold import conv_norm
from aopsam.sam.model import assemble

_EPS = 1e-6
"""Epsilon of every norm, those of the mask decoder's transformer too: `set_norm_eps` in the reference's model zoo."""
_HEAD_DIM = 32
_STRIDE = 8


class _Conv(nn.Module):
    """Convolution, with 'same' padding, then batch normalisation (or a bias) and GELU where asked for."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        norm: bool = True,
        bias: bool = False,
        act: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(outputs) if norm else None
        self._act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x) if self.norm is None else conv_norm(x, self.conv, self.norm)
        return F.gelu(x, approximate="tanh") if self._act else x


class _ResBlock(nn.Module):
    """Two 3 x 3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _Conv(channels, channels, 3, act=True)
        self.conv2 = _Conv(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.conv2(self.conv1(x))
        return mixed


class _FusedMBConv(nn.Module):
    """An expanding 3 x 3 convolution and a 1 x 1 back (Tan & Le 2021)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.spatial_conv = _Conv(inputs, hidden, 3, stride, act=True)
        self.point_conv = _Conv(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.point_conv(self.spatial_conv(x))
        return mixed


class _MBConv(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018), normalised at its end alone."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.inverted_conv = _Conv(inputs, hidden, norm=False, bias=True, act=True)
        self.depth_conv = _Conv(hidden, hidden, 3, stride, groups=hidden, norm=False, bias=True, act=True)
        self.point_conv = _Conv(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.point_conv(self.depth_conv(self.inverted_conv(x)))
        return mixed


class _LinearAttention(nn.Module):
    """Multi-scale ReLU linear attention: every position, and its 5 x 5 neighbourhood, as heads of their own."""

    def __init__(self, channels: int, kernel: int = 5) -> None:
        super().__init__()
        wide, groups = 3 * channels, 3 * channels // _HEAD_DIM
        self.qkv = _Conv(channels, wide, norm=False)
        around = nn.Conv2d(wide, wide, kernel, padding=kernel // 2, groups=wide, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(around, nn.Conv2d(wide, wide, 1, groups=groups, bias=False))])
        self.proj = _Conv(2 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, self.aggreg[0](qkv)], dim=1)
        # Sums over all positions: in single precision whatever the weights are in.
        q, k, v = qkv.float().flatten(2).unflatten(1, (-1, 3, _HEAD_DIM)).unbind(2)
        v = F.pad(v, (0, 0, 0, 1), value=1.0)  # one more row sums the weights
        read = (v @ F.relu(k).transpose(-1, -2)) @ F.relu(q)
        mixed = (read[:, :, :-1] / (read[:, :, -1:] + 1e-15)).flatten(1, 2).unflatten(2, x.shape[2:])
        projected: torch.Tensor = self.proj(mixed.to(x.dtype))
        return projected


class _Main(nn.Module):
    """A block with a residual connection unless it changes the shape."""

    def __init__(self, main: nn.Module, *, shortcut: bool = True) -> None:
        super().__init__()
        self.main = main
        self._shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.main(x)
        return x + mixed if self._shortcut else mixed


class _AttentionBlock(nn.Module):
    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.context_module = _Main(_LinearAttention(channels))
        self.local_module = _Main(_MBConv(channels, channels, expansion))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.local_module(self.context_module(x))
        return mixed


class _Ops(nn.Module):
    """A sequence under the reference's name for it."""

    def __init__(self, *ops: nn.Module) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(ops)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for op in self.op_list:
            x = op(x)
        return x


class _Backbone(nn.Module):
    """EfficientViT-L2: stages at strides 2, 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                _Ops(_Conv(3, 32, 3, 2, act=True), _Main(_ResBlock(32))),
                _Ops(
                    _Main(_FusedMBConv(32, 64, 16, 2), shortcut=False), *(_Main(_FusedMBConv(64, 64, 4)) for _ in "12")
                ),
                _Ops(
                    _Main(_FusedMBConv(64, 128, 16, 2), shortcut=False),
                    *(_Main(_FusedMBConv(128, 128, 4)) for _ in "12"),
                ),
                _Ops(_Main(_MBConv(128, 256, 16, 2), shortcut=False), *(_Main(_MBConv(256, 256, 4)) for _ in range(8))),
                _Ops(_Main(_MBConv(256, 512, 24, 2), shortcut=False), *(_AttentionBlock(512, 6) for _ in range(8))),
            ]
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        return stages


class _Neck(nn.Module):
    """The last three stages on one grid, of `cells` to each side, summed."""

    def __init__(self, cells: int, depth: int = 12) -> None:
        super().__init__()
        self._cells = cells
        self.input_ops = nn.ModuleList(_Ops(_Conv(width, 256)) for width in (512, 256, 128))
        self.middle = _Ops(*(_Main(_FusedMBConv(256, 256, 1)) for _ in range(depth)))
        self.output_ops = nn.ModuleList([_Ops(_Conv(256, 256, norm=False, bias=True))])

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        coarse, middle, fine = (
            F.interpolate(op(x).float(), (self._cells, self._cells), mode="bicubic", align_corners=False)
            for op, x in zip(self.input_ops, stages[:1:-1], strict=True)
        )
        embedding: torch.Tensor = self.output_ops[0](self.middle((coarse + (middle + fine)).to(stages[0].dtype)))
        return embedding


class _LayerNorm(nn.LayerNorm):
    """Layer normalisation of each position's channels, (B, C, h, w)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class EfficientViTEncoder(nn.Module):
    """EfficientViT-SAM's image encoder: (B, 3, S, S) normalised RGB -> (B, 256, S / 8, S / 8).

    Args:
        img_size: S, side in pixels of the padded square that the model reads, a multiple of 32; officially 512.
    """

    def __init__(self, img_size: int = 512) -> None:
        super().__init__()
        self.img_size = img_size
        self.backbone = _Backbone()
        self.neck = _Neck(img_size // _STRIDE)
        self.norm = _LayerNorm(256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode photos: (B, 3, S, S) -> (B, 256, S / 8, S / 8)."""
        embedding: torch.Tensor = self.norm(self.neck(self.backbone(x)))
        return embedding


def efficientvit_sam_l2(img_size: int = 512) -> Sam:
    """Build EfficientViT-SAM-L2, 61 M parameters, random weights.

    Its decoder takes prompts in a square of 1024 px, twice the one that the encoder reads. The reference rounds the
    photo's sides in both; here prompts and masks follow the encoder's square, up to half a pixel of 1024 apart.
    """
    sam = assemble(EfficientViTEncoder(img_size), stride=_STRIDE, prompt_px=2 * img_size)
    for module in sam.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            module.eps = _EPS
    return sam
