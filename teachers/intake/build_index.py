"""Build the index of architectures in about 15 minutes: `python -m teachers.intake.build_index`."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from teachers.errors import AuditError
from teachers.intake.architecture import built
from teachers.intake.fingerprint import (
    ANY,
    INDEX,
    Entry,
    Grid,
    Length,
    Shapes,
    digest,
    digest_of_shapes,
    sketch,
    written,
)

CLASSES, OTHER_CLASSES = 1_000, 37
SIZES = (32, 64, 96, 128, 160, 192, 256)  # other input sizes to try, in this order
UNBUILDABLE = (RuntimeError, AssertionError, ValueError, TypeError, IndexError, NotImplementedError, AttributeError)


def names() -> Iterator[str]:
    """Return the names of the networks to index, preferred ones first."""
    import timm
    import torchvision.models

    yield "resnet18-small"
    yield from (f"torchvision:{name}" for name in torchvision.models.list_models(module=torchvision.models))
    yield from (f"timm:{name}" for name in timm.list_models())


def entry(name: str) -> Entry:
    """Return a network's entry in the index.

    Raises what building it raises.
    """
    size, fixed = _native(name)
    gray = 3 if name.startswith("torchvision:") else 1
    plain = built(name, CLASSES, (3, size, size))
    other = built(name, OTHER_CLASSES, (gray, size, size))
    if plain.keys() != other.keys():
        raise ValueError("its tensors' names depend on the number of classes")
    resized = _resized(name, size, plain) if fixed else None
    narrow = _opened(plain, other)
    opened = _opened(plain, other, resized.shapes) if resized else narrow
    return Entry(
        name=name,
        keys=digest(plain),
        shapes=digest_of_shapes(plain, opened),
        open=opened,
        size=size,
        fixed=fixed,
        classes=_changed(plain, other, CLASSES, OTHER_CLASSES),
        channels=_changed(plain, other, 3, 1),
        grid=_grid(plain, resized.shapes, size, resized.size) if resized else None,
        native=digest_of_shapes(plain, narrow) if resized else "",
        narrow=narrow if resized else {},
        sketch=sketch(plain, opened),
    )


def _opened(plain: Shapes, *others: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the shapes that differ between networks, with ANY in place of the lengths that differ."""
    found = {}
    for key, shape in plain.items():
        values = [shape, *(other[key] for other in others)]
        if any(len(v) != len(shape) for v in values):
            found[key] = (ANY,) * len(shape)
        elif len(set(values)) > 1:
            found[key] = tuple(ANY if len(set(at)) > 1 else at[0] for at in zip(*values, strict=True))
    return found


class Resized(NamedTuple):
    """The tensors of a network at another input size."""

    size: int
    shapes: Shapes


def _resized(name: str, size: int, plain: Shapes) -> Resized | None:
    """Build a network at the first other input size that keeps its tensor names; None if there is none."""
    for small in (s for s in SIZES if s != size):
        try:
            shapes = built(name, CLASSES, (3, small, small))
        except (*UNBUILDABLE, AuditError):
            continue
        if shapes.keys() == plain.keys():
            return Resized(small, shapes)
    return None


def _native(name: str) -> tuple[int, bool]:
    """Return a network's default input size, and whether its weights depend on it."""
    library, _, plain = name.rpartition(":")
    if library == "timm":
        import timm

        default = timm.models.get_pretrained_cfg(plain)
        return (default.input_size[1], bool(default.fixed_input_size)) if default else (224, False)
    return (32 if library == "" else 299 if plain == "inception_v3" else 224), plain.startswith("vit_")


def _changed(plain: Shapes, other: Shapes, before: int, after: int) -> Length | None:
    """Return the first length that changed from `before` to `after`."""
    for key, shape in plain.items():
        pairs = list(zip(shape, other[key], strict=False))
        if (before, after) in pairs:
            return Length(key, pairs.index((before, after)))
    return None


def _grid(plain: Shapes, resized: Shapes, size: int, small: int) -> Grid | None:
    """Return the length that depends on the input size: a position embedding's if possible, else the first changed."""
    for key in sorted(plain, key=lambda k: ("pos_embed" not in k, list(plain).index(k))):
        for dim, pair in enumerate(zip(plain[key], resized[key], strict=False)):
            if pair[0] != pair[1]:
                return Grid(Length(key, dim), (size, small), (pair[0], pair[1]))
    return None


def main() -> None:
    """Write the index; name and count the networks that cannot be built without allocating weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(INDEX))
    out = parser.parse_args().out
    warnings.simplefilter("ignore")  # the networks are not used
    found, skipped = [], []
    for name in names():
        try:
            found.append(entry(name))
        except (*UNBUILDABLE, AuditError) as e:
            skipped.append(name)
            logging.warning("%s: %s: %s", name, type(e).__name__, str(e).partition("\n")[0][:100])
    out.write_bytes(written(found))
    logging.warning("%s: %d networks, %d bytes; %d skipped", out, len(found), out.stat().st_size, len(skipped))


if __name__ == "__main__":
    main()
