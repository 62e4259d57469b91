"""What children of the jail do in tests; a module of its own, because every child imports it."""

import os
from pathlib import Path


def spin(folder: Path) -> dict[str, int]:
    while True:
        pass


def swell(folder: Path) -> dict[str, int]:
    return {"size": len(bytearray(4 * 2**30))}


def crash(folder: Path) -> dict[str, int]:
    os.kill(os.getpid(), 11)
    return {}


def leave(folder: Path) -> dict[str, int]:
    os._exit(3)
