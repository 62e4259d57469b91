"""Check untrusted zip files before anything in them is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from teachers.errors import RefusedInput

MOST_MEMBERS = 100_000
HIGHEST_RATIO = 200  # of unpacked to packed size; the code in TorchScript files reaches about 20
SMALL = 2**20  # bytes: the ratio of smaller members is not checked


def sound_members(path: Path) -> list[zipfile.ZipInfo]:
    """Return the members of a zip file after checking that their declared sizes are possible.

    Raises RefusedInput if the file is damaged, if members overlap, share a name or are encrypted, or if one unpacks to
    far more bytes than it has.
    """
    try:
        with zipfile.ZipFile(path) as z:
            members = z.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as e:
        raise RefusedInput(f"{path} is a damaged zip file ({e}); save the checkpoint again") from e
    size, names = path.stat().st_size, {member.filename for member in members}
    if len(members) > MOST_MEMBERS:
        raise RefusedInput(f"{path} has {len(members)} members; a checkpoint has at most {MOST_MEMBERS}")
    if len(names) < len(members):
        raise RefusedInput(f"{path} has several members of one name; save the checkpoint again")
    if any(member.flag_bits & 1 for member in members):
        raise RefusedInput(f"{path} is encrypted; give the checkpoint itself")
    packed = sum(member.compress_size for member in members)
    if packed > size:
        raise RefusedInput(f"{path} has {size} bytes but its members declare {packed}: a damaged or hostile zip file")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedInput(f"{path}: {member.filename} is compressed as no checkpoint is; save it again")
        if member.header_offset + member.compress_size > size:
            raise RefusedInput(f"{path}: {member.filename} lies outside of the file: a damaged or hostile zip file")
        stored = member.compress_type == zipfile.ZIP_STORED
        if stored and member.file_size != member.compress_size:
            raise RefusedInput(f"{path}: {member.filename} declares two sizes; a damaged or hostile zip file")
        if member.file_size > max(SMALL, HIGHEST_RATIO * member.compress_size):
            raise RefusedInput(
                f"{path}: {member.filename} would unpack from {member.compress_size} to {member.file_size} bytes, more "
                f"than {HIGHEST_RATIO} times as many: a zip bomb"
            )
    return members
