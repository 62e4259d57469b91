"""Groups of test images: from `--groups`, and suggested by the names of their files."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from teachers import files
from teachers.data.listings import some
from teachers.errors import RefusedInput, UsageError
from teachers.files import composed
from teachers.names import STEM, quoted
from teachers.places import place
from teachers.task import Task

Groups = NDArray[np.uint32]  # (N,), numbered from 0 in the order of the images

MOST = 2**28  # bytes of a file of groups
FORMS = (
    "a CSV file of two columns, the test image and its group, or a regular expression whose first group in brackets "
    "is the group's name, such as '(.+)_\\d+' for the frames clip7_0001.png, clip7_0002.png …"
)
HEADS = ("file", "image", "index", "name", "path")  # how a first line begins that names the columns
SHOWN = 100  # characters of a text in a sentence, at most
OTHERS = ("train", "validation", "val")  # splits whose files a file of groups may name, too
SHARED = 0.1  # share of the test images that must have a stem in common with others


def test_groups(asked: str, task: Task) -> Groups | None:
    """Return the group of every test image of a task, as `--groups` asks; None where it asks for none.

    `asked`: a CSV file, a name of the data's own structure, or a pattern on names of files. Raises UsageError or
    RefusedInput with one sentence where it is none of them, leaves out an image, or makes a single group.
    """
    if not asked:
        return None
    if asked in task.structure:
        return numbered([str(number) for number in task.structure[asked].tolist()])
    path = place(asked)
    listed = path.suffix.lower() == ".csv" or os.path.isfile(path)  # False for what can be no path
    names = _in_file(path, task) if listed else _by_pattern(asked, task)
    said = repr(_short(asked))
    missing = [_called(task, i) for i, name in enumerate(names) if not name]
    if missing:
        raise UsageError(
            f"--groups {said} gives no group to {len(missing):,} of {len(names):,} test images ({some(missing)}); "
            "each needs one: an image on its own, a name of its own"
        )
    if len(set(names)) < 2:
        raise UsageError(f"--groups {said} puts all {len(names):,} test images into one group; at least 2 are needed")
    return numbered(names)


def numbered(names: list[str]) -> Groups:
    """Number names in the order of their first occurrence, (N,)."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.uint32)


def _by_pattern(asked: str, task: Task) -> list[str]:
    said = repr(_short(asked))
    own = f", or {' or '.join(task.structure)}, which {task.name} knows" if task.structure else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what later versions of Python may read otherwise
            pattern = re.compile(asked)
    except (re.error, OverflowError, RecursionError) as e:
        raise UsageError(f"--groups {said} is no pattern ({e}) and no file; give {FORMS}{own}") from e
    if not pattern.groups:
        raise UsageError(f"--groups {said} is no file, and no pattern with a group in brackets; give {FORMS}{own}")
    if not task.files:
        raise UsageError(
            f"--groups {said}: the test images of {task.name} have no file names; give a CSV file of two columns, "
            f"the number of the image from 0 to {len(task.test) - 1} and its group{own}"
        )
    found = (pattern.search(name) for name in task.files)
    return ["" if match is None else match[1] or "" for match in found]


def _in_file(path: Path, task: Task) -> list[str]:
    rows = _rows(path)
    index = _index(task)
    head = f"--groups {files.shown(path)}"
    named: dict[int, str] = {}
    for line, (image, group) in rows.items():
        which = index.get(composed(image).removeprefix("test/"))
        if which is None:
            if (line == 1 and image.lower() in HEADS) or image.partition("/")[0] in OTHERS:
                continue
            known = "a file of the test split, as CLASS/FILE, or as FILE where one class alone has it"
            known = known if task.files else f"the number of a test image, 0 to {len(task.test) - 1}"
            raise UsageError(f"{head}, line {line}: {quoted(_short(image))} is not {known}")
        if named.setdefault(which, group) != group:
            both = f"{_short(named[which])} and {_short(group)}"
            raise UsageError(f"{head}, line {line}: {quoted(_short(image))} is in two groups, {both}")
    return [named.get(i, "") for i in range(len(task.test))]


def _rows(path: Path) -> dict[int, tuple[str, str]]:
    """Read a CSV file of two columns, by line."""
    what = "a CSV file of two columns, the test image and its group"
    head = f"--groups {files.shown(path)}"
    try:
        text = files.content(path, MOST, what).decode("utf-8-sig")
    except RefusedInput as e:
        raise RefusedInput(f"--groups: {e}") from e
    except UnicodeDecodeError as e:
        raise RefusedInput(f"{head} is not UTF-8 text ({e.reason}); save it as UTF-8") from e
    found: dict[int, tuple[str, str]] = {}
    reader = csv.reader(text.replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines())
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if len(cells) != 2 or not all(cells):
                has = "an empty cell" if len(cells) == 2 else f"{len(cells)} columns"
                raise RefusedInput(f"{head}, line {reader.line_num} has {has}; give {what}")
            found[reader.line_num] = (cells[0], cells[1])
    except csv.Error as e:
        raise RefusedInput(f"{head}, line {reader.line_num}: {e}; give {what}") from e
    if not found:
        raise RefusedInput(f"{head} is empty; give {what}")
    return found


def _index(task: Task) -> dict[str, int]:
    """Return the number of each test image by what a file of groups may call it."""
    if not task.files:
        return {str(i): i for i in range(len(task.test))}
    paths = {composed(name): i for i, name in enumerate(task.files)}
    alone = Counter(PurePosixPath(name).name for name in paths)
    return {PurePosixPath(n).name: i for n, i in paths.items() if alone[PurePosixPath(n).name] == 1} | paths


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _called(task: Task, i: int) -> str:
    return files.shown(task.files[i]) if task.files else str(i)


def suggested(task: Task) -> Groups | None:
    """Return the groups of test images that `STEM` makes of their files' names; None where it joins few.

    A class in which all files have one stem says nothing: its files are simply numbered.
    """
    stems = [name if (found := re.search(STEM, name)) is None else found[1] for name in task.files]
    times, different = Counter(stems), Counter(_folder(stem) for stem in set(stems))
    shared = sum(n for stem, n in times.items() if n > 1 and different[_folder(stem)] > 1)
    return numbered(stems) if shared >= SHARED * len(stems) > 0 else None


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
