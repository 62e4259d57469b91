"""The auxiliary heads of skeptical students: small ones, and those of the authors (Kundu et al., NeurIPS 2021)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST = 3  # double convolutions of a deep head


class Mean(nn.Module):
    """Average maps (B, C, H, W) over space and tokens (B, L, C) over tokens, to (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.ndim == 4 else x.flatten(1, -2).mean(1) if x.ndim == 3 else x.flatten(1)


class Attention(nn.Module):
    """Multiply maps (B, C, H, W) by weights in (0, 1) that are computed at half their size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Sequential(*double(channels, channels), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x * F.interpolate(self.weights(x), size=x.shape[2:], mode="bilinear").sigmoid()


def double(channels: int, to: int) -> list[nn.Module]:
    """Return two separable convolutions, the first of which halves feature maps."""
    return [*separable(channels, channels, stride=2), *separable(channels, to, stride=1)]


def separable(channels: int, to: int, stride: int) -> list[nn.Module]:
    """Return a convolution of each channel and one of all channels at each pixel."""
    each = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return [each, nn.Conv2d(channels, to, 1, bias=False), nn.BatchNorm2d(to), nn.ReLU()]


def small(size: torch.Size, classes: int, left: int) -> nn.Module:
    """Return a separable convolution that halves feature maps, then a linear layer; or just that for other features."""
    if len(size) != 4:
        return nn.Sequential(Mean(), nn.Linear(size[-1], classes))
    c = size[1]
    return nn.Sequential(*separable(c, 2 * c, stride=2), Mean(), nn.Linear(2 * c, classes))


def deep(size: torch.Size, classes: int, left: int) -> nn.Module:
    """Return attention, a double convolution for each stage left of the network, at most three, and a linear layer."""
    if len(size) != 4:
        return small(size, classes, left)
    widths = [size[1] * 2**i for i in range(min(left, MOST) + 1)]
    steps = [layer for c, to in pairwise(widths) for layer in double(c, to)]
    return nn.Sequential(Attention(widths[0]), *steps, Mean(), nn.Linear(widths[-1], classes))
