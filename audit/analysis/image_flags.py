"""Flags about test images that resemble each other: such images are fewer pieces of evidence than they seem."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analysis.protocol_flags import FlagRule
from audit.statistics.image_groups import Groups, Resemblance, resemblance
from reports.record import Flag
from teachers.names import STEM

EFFECT = 1.1  # design effect (variance over that of independent images) from which on an interval is too short
SHARE = 0.01  # of the test images
LEVEL = 0.01  # of the test that margins within groups are alike
DO = "give the groups with --groups: a CSV file of the test images and their groups, or a pattern on the files' names"

NEAR_DUPLICATES = FlagRule(
    id="near-duplicates",
    when=f"{SHARE:.0%} or more of the test images are near-duplicates of others, and `--groups` does not put these "
    f"into one group. The flag limits the verdict if equal margins on them multiply the variance by {EFFECT:g} or "
    "more: of pairs, from 10 % of the images on",
    why="students answer such images alike, so the interval, which counts each image as one more piece of evidence, is "
    "too short: with 20 frames of each film it covers about two times in three, and more than one in five "
    "UNDISTILLABLE is wrong",
    do=DO,
    caps="inconclusive",
)


def near_duplicates(alike: Groups | None, groups: Groups | None) -> Flag | None:
    """Flag near-duplicates (N,) that no group holds together; rule out both decisive words where they are many."""
    if alike is None:
        return None
    sizes = np.unique(alike if groups is None else _split(alike, groups), return_counts=True)[1]
    many, effect = int(sizes[sizes > 1].sum()), float((sizes.astype(np.int64) ** 2).sum() / len(alike))
    if many < SHARE * len(alike):
        return None
    largest = int(sizes.max())
    return NEAR_DUPLICATES.raised(
        f"{many:,} of {len(alike):,} test images are near-duplicates of others, up to {largest:,} of one image",
        caps="inconclusive" if effect >= EFFECT else "nothing",
    )


def _split(alike: Groups, groups: Groups) -> NDArray[np.int64]:
    """Return near-duplicates without those whose copies are all in one group."""
    found = np.arange(len(alike)) + int(alike.max()) + 1
    for number in np.flatnonzero(np.bincount(alike) > 1):
        mine = alike == number
        if len(set(groups[mine].tolist())) > 1:
            found[mine] = number
    return found


NUMBERED_FILES = FlagRule(
    id="numbered-files",
    when="at least 10 % of the test images have files that share a stem before a running number with others of their "
    "class, where not all of the class do (`clip7_0001.png`, `clip7_0002.png`, `clip8_0001.png`), and no `--groups` is "
    f"given. The flag limits the verdict if margins of one stem are more alike than others of their class (F-test, p < "
    f"{LEVEL}), and this multiplies their variance by {EFFECT:g} or more",
    why="such names are those of frames of a film or images of one patient: if margins within them are alike, the "
    "interval, which counts each image as one more piece of evidence, is too short",
    do=f"if they belong together, give --groups '{STEM}', or a pattern of your own; if they do not, a CSV file with a "
    "group for each",
    caps="inconclusive",
)


def numbered_files(
    named: Groups | None, labels: NDArray[np.integer[Any]], margins: NDArray[np.float64] | None
) -> Flag | None:
    """Flag test images whose names suggest groups; rule out both decisive words where their margins (N,) are alike."""
    if named is None:
        return None
    found = f"the names of the {len(named):,} test images suggest {len(np.unique(named)):,} groups"
    alike = None if margins is None else resemblance(margins, named, labels)
    if alike is None:
        return NUMBERED_FILES.raised(found, caps="nothing")
    return NUMBERED_FILES.raised(f"{found}; {_told(alike)}", caps="inconclusive" if material(alike) else "nothing")


def material(alike: Resemblance) -> bool:
    """Whether margins within groups are surely and markedly alike."""
    return alike.p < LEVEL and alike.effect >= EFFECT


def _told(alike: Resemblance) -> str:
    return (
        f"the margins within a group correlate by {alike.correlation:+.2f} (p = {alike.p:.2g}), which multiplies the "
        f"variance by {alike.effect:.1f}"
    )
