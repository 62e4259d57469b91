"""List the image files of a data set's folder, and count the files that are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from teachers.data.images import SUFFIXES
from teachers.errors import RefusedInput
from teachers.files import composed, shown
from teachers.task import Labels

NAMED = " ".join(sorted(SUFFIXES))
SHOWN = 5  # names in a sentence, at most


@dataclass
class Leftovers:
    """The files in a data set's folder that are not part of it; hidden files are not counted."""

    kinds: Counter[str] = field(default_factory=Counter)  # by suffix
    nested: Counter[str] = field(default_factory=Counter)  # images, by the folder below a class folder
    loose: int = 0  # images outside of class folders
    links: int = 0  # broken links
    folders: list[str] = field(default_factory=list)  # that are no split

    def other(self, path: Path) -> None:
        """Count a file that is no class's image."""
        if path.suffix.lower() in SUFFIXES:
            self.loose += 1
        elif path.is_symlink() and not path.exists():
            self.links += 1
        else:
            self.kinds[shown(path.suffix.lower()) or "no suffix"] += 1

    def below(self, folder: Path) -> None:
        """Count the images in a sub-folder of a class folder."""
        images = sum(_is_image(Path(name)) for _, _, names in os.walk(folder) for name in names)
        if images:
            self.nested[shown(folder)] += images

    def beside(self, root: Path, used: Sequence[str]) -> None:
        """Count the images and folders next to the splits' folders."""
        for path in _visible(root):
            if path.is_dir() and path.name not in used:
                self.folders.append(shown(path.name) + "/")
            elif _is_image(path):
                self.loose += 1

    def __bool__(self) -> bool:
        return bool(self.kinds or self.nested or self.loose or self.links or self.folders)

    def __str__(self) -> str:
        """Describe them as part of a sentence."""
        parts = []
        if self.folders:
            parts.append(f"the folder{'s' * (len(self.folders) > 1)} {some(self.folders)}")
        if self.nested:
            where = next(iter(self.nested))
            parts.append(f"{_images(self.nested.total())} in sub-folders of class folders (the first: {where})")
        if self.loose:
            parts.append(f"{_images(self.loose)} outside of class folders")
        if self.kinds:
            by_number = [f"{number:,} {kind}" for kind, number in sorted(self.kinds.items(), key=lambda k: (-k[1], k))]
            number = self.kinds.total()
            parts.append(f"{number:,} file{'s' * (number > 1)} of other kinds ({some(by_number)})")
        if self.links:
            parts.append(f"{self.links:,} link{'s' * (self.links > 1)} to nothing")
        return f"left out: {', '.join(parts)}"


def _images(number: int) -> str:
    return f"{number:,} image{'s' * (number > 1)}"


@dataclass(frozen=True)
class Split:
    """The image files of each class folder, sorted by class and by name."""

    folder: Path
    classes: dict[str, list[Path]]

    @property
    def labels(self) -> Labels:
        """The class index of every file, in order."""
        return np.repeat(np.arange(len(self.classes)), [len(of_class) for of_class in self.classes.values()])

    @property
    def names(self) -> tuple[str, ...]:
        """The path of every file below the split's folder, in order."""
        return tuple(
            shown(f"{path.parent.name}/{path.name}") for of_class in self.classes.values() for path in of_class
        )

    def arranged(self, other: Split) -> Split:
        """Return this split with the class names and order of another; accents may be encoded differently in the two.

        Raises RefusedInput if the two do not have the same classes.
        """
        mine = {composed(name): of_class for name, of_class in self.classes.items()}
        theirs = {composed(name): name for name in other.classes}
        if odd := sorted(mine.keys() ^ theirs.keys()):
            raise RefusedInput(
                f"{shown(other.folder)} and {shown(self.folder)} must hold the same classes; only one has {some(odd)}"
            )
        return Split(self.folder, {name: mine[same] for same, name in theirs.items()})


def split(folder: Path, left: Leftovers) -> Split:
    """List the classes and files of a split.

    Raises RefusedInput if it is missing, or a class folder is empty or has the same name as another.
    """
    if not folder.is_dir():
        there = [shown(path.name) for path in _visible(folder.parent) if path.is_dir()]
        but = f"; there are {some(there)}" if there else ""
        raise RefusedInput(
            f"{shown(folder)} is missing; a data set is a folder with train/<class>/* and test/<class>/*{but}"
        )
    listed: dict[str, list[Path]] = {}
    for path in _visible(folder):
        if path.is_dir():
            listed[_class_name(path)] = _of_class(path, left)
        else:
            left.other(path)
    _refuse_twins(folder, listed)
    return Split(folder, listed)


def everything(root: Path, left: Leftovers) -> list[Path]:
    """List the images in a folder and its sub-folders, sorted."""
    every = sorted(path for path in root.rglob("*") if not path.name.startswith(".") and not path.is_dir())
    for path in every:
        if not _is_image(path):
            left.other(path)
    return [path for path in every if _is_image(path)]


def some(names: Sequence[str]) -> str:
    """Return the first few names, and the number of the others."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _of_class(folder: Path, left: Leftovers) -> list[Path]:
    files = []
    for path in _visible(folder):
        if _is_image(path):
            files.append(path)
        elif path.is_dir():
            left.below(path)
        else:
            left.other(path)
    if not files:
        deeper = next((name for name in left.nested if Path(name).parent == Path(shown(folder))), None)
        do = f"its images lie below it, in {deeper}; move them up" if deeper else "remove or fill it"
        raise RefusedInput(f"class folder {shown(folder)} holds no image ({NAMED}); {do}")
    return files


def _class_name(folder: Path) -> str:
    if shown(folder.name) != folder.name:
        raise RefusedInput(
            f"class folder {shown(folder)} has a name that is not UTF-8, so it cannot be recorded; rename it"
        )
    return folder.name


def _refuse_twins(folder: Path, classes: dict[str, list[Path]]) -> None:
    written = Counter(map(composed, classes))
    if twins := [name for name, times in written.items() if times > 1]:
        raise RefusedInput(
            f"{shown(folder)} holds two class folders {twins[0]}, whose accents are written in two ways (NFC and NFD); "
            "put their images into one"
        )


def _visible(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.iterdir() if not path.name.startswith(".")))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
