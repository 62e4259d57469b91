"""Thumbnails of images, as data URIs for pages and records."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reports.clusters import Clusters, PicturedClass

SIDE = 64  # at most, pixels per side
MOST = 3_000  # bytes; larger pictures get fewer colours
OVERLAY = 12_000  # the same limit for a picture with its Eigen-CAM, whose colours have a meaning
PALETTES = 64, 16  # with 16 colours, any 64×64 pixels fit into `MOST` bytes


def data_uri(pixels: NDArray[np.uint8], arm: int = SIDE, most: int = MOST) -> str:
    """Write pixels (C, H, W) as a PNG of at most `arm` pixels per side; above `most` bytes, with fewer colours."""
    image = Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])
    image.thumbnail((arm, arm))
    content = _png(image)
    for colours in PALETTES:
        if len(content) > most:
            content = _png(image.quantize(colours, dither=Image.Dither.NONE))
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "png", optimize=True)
    return content.getvalue()


def pictured(shown: PicturedClass, images: Any, overlays: NDArray[np.uint8] | None = None) -> PicturedClass:
    """Return a class whose pictures have thumbnails; `images`: all images (N, C, H, W), in memory or on disk.

    overlays: a second image of each picture, (n, 3, H, W), such as its Eigen-CAM.
    """
    pictures = []
    for number, picture in enumerate(shown.pictures):
        overlay = None if overlays is None else data_uri(overlays[number], most=OVERLAY)
        pictures.append(picture.model_copy(update={"png": data_uri(images[picture.row]), "overlay": overlay}))
    return shown.model_copy(update={"pictures": tuple(pictures)})


def illustrated(clusters: Clusters, images: Any) -> Clusters:
    """Return clusters with thumbnails; `images`: the images (N, C, H, W) that the answers belong to."""
    return clusters.model_copy(update={"spread": tuple(pictured(shown, images) for shown in clusters.spread)})


def without(clusters: Clusters) -> Clusters:
    """Return clusters without thumbnails."""
    bare = {"png": "", "overlay": None}
    spread = (
        shown.model_copy(update={"pictures": tuple(p.model_copy(update=bare) for p in shown.pictures)})
        for shown in clusters.spread
    )
    return clusters.model_copy(update={"spread": tuple(spread)})
