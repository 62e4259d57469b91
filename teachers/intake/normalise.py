"""Parse normalisations in the form that --normalize takes."""

from __future__ import annotations

import math
from typing import NamedTuple

from teachers.errors import UsageError

NORMALISATIONS = {
    "none": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


BGR = "/bgr"  # suffix for networks that expect channels in the order blue, green, red


class Normalisation(NamedTuple):
    """Mean and standard deviation per channel, and whether the network then takes blue, green, red."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False

    def __str__(self) -> str:
        """Return the form that --normalize takes."""
        return "/".join(",".join(map(str, part)) for part in (self.mean, self.std)) + BGR * self.bgr


def normalisation(text: str, channels: int) -> Normalisation:
    """Parse --normalize: a name or `mean/std` with commas between channels, such as `0.5,0.5,0.5/0.25,0.25,0.25`.

    `/bgr` after either reverses the channels after they are normalised.
    """
    plain, bgr = text.removesuffix(BGR), text.endswith(BGR)
    if bgr and channels != 3:
        raise UsageError(f"--normalize {text!r}: images of {channels} channels have no blue channel; leave /bgr out")
    if plain in NORMALISATIONS:
        mean, std = NORMALISATIONS[plain]
    else:
        try:
            mean, std = (tuple(float(v) for v in part.split(",")) for part in plain.split("/"))
        except ValueError:
            names = ", ".join(NORMALISATIONS)
            raise UsageError(f"--normalize {text!r} is neither one of {names} nor MEAN/STD, such as 0.5/0.25") from None
    mean, std = (part * channels if len(part) == 1 else part for part in (mean, std))
    fits = len(mean) == len(std) == channels and all(map(math.isfinite, (*mean, *std)))
    if not fits or min(std) <= 0:
        raise UsageError(
            f"--normalize {text[:200]!r} does not fit images of {channels} channels, each with a finite mean and a std "
            "above 0"
        )
    return Normalisation(mean, std, bgr)
