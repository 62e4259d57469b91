"""List what a pickle would import, without running it."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MOST_STEPS = 2_000_000
PARTS = 4  # pickles at the beginning of torch's old container
OF_TENSORS = re.compile(
    r"collections\.OrderedDict|torch(\._utils|\.storage)?\.\w+|torch\.nn\.parameter\.Parameter"
    r"|argparse\.Namespace|pathlib\.PosixPath|numpy\.(_?core\.multiarray\.scalar|dtype)|_codecs\.encode"
)


def wanted(path: Path) -> tuple[str, ...]:
    """Return the globals that a pickle or a file of torch.save would import, apart from those of tensors."""
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
            yield inside  # type: ignore[misc]  # it behaves like a file


def told(names: tuple[str, ...]) -> str:
    """Return the first few names and the number of the others, for a sentence."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(name[:80] for name in names[:4]) + more


def _harmful(f: BinaryIO) -> Iterator[str]:
    seen = set()
    for name in _globals(f):
        if name not in seen and not OF_TENSORS.fullmatch(name):
            seen.add(name)
            yield name


def _globals(f: BinaryIO) -> Iterator[str]:
    """Yield the globals in a pickle's instructions; STACK_GLOBAL uses the last two strings pushed or fetched."""
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
        except (ValueError, IndexError, EOFError, UnicodeError, OverflowError):  # the pickle ends or is damaged
            return
