"""The names of data sets, and where a folder of images is; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from teachers.errors import RefusedInput, UsageError
from teachers.files import shown
from teachers.names import nearest
from teachers.places import place

TORCHVISION: Final = "torchvision:"
EMBEDDED: Final = {
    "glyphs": "62 characters in 20 fonts, 16x16 gray, noisy; 3,100 / 3,100 / 6,200 images (embedded, the default)",
    "digits": "scikit-learn's handwritten digits, 8x8 gray; 900 / 300 / 597 images (embedded)",
}
CATALOGUE: Final = EMBEDDED | {
    "DIR": "a folder with train/<class>/* and test/<class>/*, and validation/<class>/* if you have one",
    "torchvision:NAME:ROOT": "a torchvision data set already under ROOT, for example torchvision:CIFAR10:~/data",
}


def folder(spec: str) -> Path | None:
    """Return the folder that the name of a data set means; None for one that is embedded, or torchvision's.

    Raises UsageError for an unknown name and RefusedInput for a path that is no folder.
    """
    if spec in EMBEDDED or spec.startswith(TORCHVISION):
        return None
    root = place(spec)
    if root.is_dir():
        return root
    if len(root.parts) > 1 or root.exists():
        raise RefusedInput(
            f"{shown(spec)} is not a folder; a data set is a folder with train/<class>/* and test/<class>/*"
        )
    near = nearest(spec, CATALOGUE, most=3, always=True)
    raise UsageError(f"no data set or folder is called {shown(spec)!r}; {near}")
