"""Folders on a node that only this user can read, and what is left in them of audits that were killed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from teachers.errors import RefusedInput
from teachers.storage.store import hold

YOUNG = 60.0  # seconds in which a folder may still get the lock of its first slot


def own(purpose: str, inside: str = "", longest: int = 2**16) -> Path:
    """Return a folder for a purpose, in the temporary folder of this node.

    It is in /tmp where `inside`, a path in the folder, would have more than so many bytes. Raises RefusedInput if it
    belongs to somebody else.
    """
    base = Path(tempfile.gettempdir()) / f"distill-audit-{purpose}-{os.getuid()}"
    if len(os.fsencode(base / inside)) > longest:
        base = Path("/tmp") / base.name
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RefusedInput(f"{base} on node {os.uname().nodename} is not a folder of this user alone; remove it")
    return base


def entered(run: str) -> Path:
    """Return the folder of an audit on this node; remove those that no slot holds."""
    base = own("slots")
    for other in base.iterdir():
        if other.name != run and time.time() - other.stat().st_mtime > YOUNG and _free(other):
            shutil.rmtree(other, ignore_errors=True)
    (base / run).mkdir(exist_ok=True)
    return base / run


def _free(folder: Path) -> bool:
    """Whether no slot works in a folder."""
    try:
        os.close(hold(folder, alone=True))
    except OSError:
        return False
    return True
