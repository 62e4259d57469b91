"""What a pickle would import and call, read without running it."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MOST_STEPS = 2_000_000
PARTS = 4  # pickles that torch's old container begins with
OF_TENSORS = re.compile(
    r"collections\.OrderedDict|torch(\._utils|\.storage)?\.\w+|torch\.nn\.parameter\.Parameter"
    r"|argparse\.Namespace|pathlib\.PosixPath|numpy\.(_?core\.multiarray\.scalar|dtype)|_codecs\.encode"
)


def wanted(path: Path) -> tuple[str, ...]:
    """Name the globals, beyond those of tensors, that a pickle or a file of torch.save would import."""
    with _opened(path) as f:
        return tuple(_harmful(f))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a pickle, or the one inside a file of torch.save."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as f:
            yield f
        return
    with zipfile.ZipFile(path) as z:
        index = next(name for name in z.namelist() if name.partition("/")[2] == "data.pkl")
        with z.open(index) as inside:
            yield inside  # type: ignore[misc]  # it reads as a file does


def told(names: tuple[str, ...]) -> str:
    """Name a few of them in a sentence."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(name[:80] for name in names[:4]) + more


def _harmful(f: BinaryIO) -> Iterator[str]:
    seen = set()
    for name in _globals(f):
        if name not in seen and not OF_TENSORS.fullmatch(name):
            seen.add(name)
            yield name


def _globals(f: BinaryIO) -> Iterator[str]:
    """Walk over the instructions; STACK_GLOBAL takes the two strings that were pushed, or fetched, last."""
    steps = 0
    for _ in range(PARTS):
        memo: dict[int, object] = {}
        pushed: list[object] = [None, None]
        try:
            for code, argument, _position in pickletools.genops(f):
                steps += 1
                if steps > MOST_STEPS:
                    return
                if code.name in ("GLOBAL", "INST"):
                    yield str(argument).replace(" ", ".")
                elif code.name == "STACK_GLOBAL":
                    yield ".".join(map(str, pushed))
                elif code.name == "MEMOIZE":
                    memo[len(memo)] = pushed[-1]
                elif code.name.endswith("PUT"):
                    memo[int(argument or 0)] = pushed[-1]
                elif code.name.endswith("GET"):
                    pushed = [pushed[-1], memo.get(int(argument or 0))]
                elif "UNICODE" in code.name or "STRING" in code.name:
                    pushed = [pushed[-1], argument]
        except (ValueError, IndexError, EOFError, UnicodeError, OverflowError):  # the end, or a broken one
            return
