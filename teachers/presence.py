"""What is told of a checkpoint or a folder that is not there; no torch."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from teachers.errors import RefusedInput
from teachers.files import shown
from teachers.names import BUILT_IN, WAYS_TO_TEACH

GROUPS = "give a CSV file of two columns, the test image and its group"
HUB = re.compile(r"[\w.-]+/[\w.-]+")  # a model of the Hugging Face hub: OWNER/NAME


def checkpoint(path: Path) -> None:
    """Raise RefusedInput where there is neither a file nor a folder, with what may have been meant."""
    try:
        there = path.exists()
    except OSError as e:
        raise RefusedInput(f"{shown(path)} cannot be opened ({e.strerror}); give a checkpoint") from e
    if not there:
        if path.is_symlink():
            raise RefusedInput(f"{shown(path)} is a link to nothing; give a checkpoint")
        raise RefusedInput(f"there is no file {shown(path)}; {_hint(path)}")
    if not path.is_file() and not path.is_dir():
        raise RefusedInput(f"{shown(path)} is not a regular file; give a checkpoint")


def images(root: Path) -> None:
    """Raise RefusedInput where there is no folder of images."""
    if not root.is_dir():
        raise RefusedInput(f"there is no folder {shown(root)}; give a folder of images")


def groups(path: Path) -> None:
    """Raise RefusedInput where there is no file of groups."""
    if not path.is_file():
        raise RefusedInput(f"--groups: there is no file {shown(path)}; {GROUPS}")


def _hint(path: Path) -> str:
    name = str(path)
    if name in WAYS_TO_TEACH:
        return f"{name} is a way to teach: teach it first, `audit teach {name} --out {name}.pt`, and give {name}.pt"
    beside = [one.name for one in path.parent.glob("*")]
    ours = [] if len(path.parts) > 1 else [*BUILT_IN]
    near = difflib.get_close_matches(path.name, [*beside, *ours], n=1)
    if near:
        return f"did you mean {shown(path.parent / near[0])}?"
    if HUB.fullmatch(name) and not path.parent.exists():
        fetched = f"`hf download {name} --local-dir {path.name}`"
        return f"if it is a model of the Hugging Face hub, fetch it first, {fetched}, and give {path.name}"
    return "give a checkpoint; `audit ls teachers` lists the teachers that are built in"
