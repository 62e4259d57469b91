"""Eigen-CAM: show where in an image a network's deepest maps vary most (Muhammad and Yeasin, arXiv 2008.00299)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from teachers.extras import from_source

SMALLEST = 4  # least side, in pixels, of a feature map that is drawn


class NoPanels(Exception):
    """Raised where Eigen-CAM cannot be drawn; the message says why, in one sentence."""


def overlays(network: nn.Module, images: Tensor) -> np.ndarray:
    """Draw the Eigen-CAM over images (N, C, H, W) in [0, 1]; return (N, H, W, 3) uint8.

    Raises NoPanels where pytorch-grad-cam is not installed or the network has no deep convolution with large maps.
    """
    try:
        from pytorch_grad_cam.utils.image import scale_cam_image, show_cam_on_image
    except ImportError as e:
        raise NoPanels(f"pytorch-grad-cam is not installed ({e}); {from_source('cam')} adds it") from e
    images = images.to(next((p.device for p in network.parameters()), images.device))
    seen: list[Tensor] = []
    hook = deepest_map(network, images[:1]).register_forward_hook(lambda module, inputs, maps: seen.append(maps))
    with torch.no_grad():
        network.eval()(images)
    hook.remove()
    maps = scale_cam_image(eigen_maps(seen[0]).clamp(min=0).cpu().numpy(), images.shape[:1:-1])
    pixels = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    coloured = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return np.stack([show_cam_on_image(image, each, use_rgb=True) for image, each in zip(coloured, maps, strict=True)])


def eigen_maps(maps: Tensor) -> Tensor:
    """Project feature maps (N, C, h, w) on their first principal component over channels, (N, h, w).

    The sign of a principal component is arbitrary. Here it is the sign with which the component grows with the norm of
    the maps, so that strong activations are bright (pytorch-grad-cam takes the sign that the decomposition gives).
    """
    points = maps.flatten(2).transpose(1, 2).double()  # (N, h w, C)
    centred = points - points.mean(1, keepdim=True)
    length = points.norm(dim=2)
    along = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:, 0, :, None])[:, :, 0]
    sign = ((length - length.mean(1, keepdim=True)) * along).sum(1, keepdim=True).sign()
    found: Tensor = (along * sign).reshape(len(maps), *maps.shape[2:])
    return found


def deepest_map(network: nn.Module, image: Tensor) -> nn.Module:
    """Return the last convolution whose feature maps have at least `SMALLEST` pixels per side.

    The first convolution does not count: it detects edges, or makes the patches of a transformer.
    """
    seen: list[nn.Module] = []

    def look(module: nn.Module, _: tuple[Tensor, ...], maps: Tensor) -> None:
        if min(maps.shape[2:]) >= SMALLEST:
            seen.append(module)

    hooks = [m.register_forward_hook(look) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    if len(seen) < 2:
        raise NoPanels(f"no convolution after the first has maps of {SMALLEST}×{SMALLEST} pixels or more")
    return seen[-1]
