"""Archives of caches, and entries in them, that nobody of ours wrote: how each is made, and what is said of it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sample_cache import cell, result, told

from teachers.storage.entries import sealed

STUDENT = f"cells/{cell(0).key[:2]}/{cell(0).key}.json"
BLOCK = f"answers/{'0' * 32}/probs/x-1.npz"
LOOKS = f"looks/{'0' * 64}.json"
OUTPUT = f"answers/{'0' * 32}/probs/output"
TEACHER = f"teachers/{'0' * 32}.safetensors"
GOOD = result(cell(0)).model_dump_json().encode()
MB = 2**20

Make = Callable[[Path], object]  # given the place of an archive, puts one there


def member(name: str, content: bytes = b"", **more: Any) -> bytes:
    """Return a header and its content, as tar lays them out."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in more.items():
        setattr(info, field, value)
    return info.tobuf(more.pop("format", tarfile.GNU_FORMAT), "utf-8") + content + bytes(-len(content) % 512)


def archive(*members: bytes) -> Make:
    return lambda file: file.write_bytes(b"".join(members) + bytes(1024))


def patched(content: bytes, at: int, value: bytes) -> bytes:
    """Change a header, and its checksum with it."""
    block = bytearray(content[:512])
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content[512:]


def piped(file: Path) -> None:
    os.mkfifo(file)


def linked(target: str) -> Make:
    return lambda file: file.symlink_to(target)


def zeros(before: bytes, size: int) -> Make:
    """Write zeros that take a thousandth of their size, after some bytes."""

    def write(file: Path) -> None:
        with gzip.open(file, "wb", compresslevel=1) as f:
            f.write(before)
            for _ in range(size // MB):
                f.write(bytes(MB))

    return write


def header(name: str, size: int) -> bytes:
    return member(name, size=size)


ARCHIVES: dict[str, tuple[Make, str]] = {
    "a pipe": (piped, "is not a regular file"),
    "an endless device": (linked("/dev/zero"), "is not a regular file"),
    "a folder": (lambda file: file.mkdir(), "is not a regular file"),
    "a link to itself": (linked("a.tar.gz"), "cannot be read|is not a regular file"),
    "a link to nothing": (linked("nowhere"), "there is no file"),
    "packed twice": (lambda f: f.write_bytes(gzip.compress(gzip.compress(member(STUDENT, GOOD)))), "archive"),
    "packed twice, and large": (
        lambda f: f.write_bytes(gzip.compress(gzip.compress(bytes(200 * MB), 1), 9)),
        "is not a tar archive",
    ),
    "a student of zeros": (zeros(header(STUDENT, 300 * MB), 300 * MB), "larger than such an entry can be"),
    "a block of zeros": (zeros(header(BLOCK, 300 * MB), 300 * MB), "not a block of answers"),
    "a teacher of zeros": (zeros(header(TEACHER, 100 * MB), 100 * MB), "not a checkpoint"),
    "looks of a gigabyte": (zeros(header(LOOKS, 10**9), 10 * MB), "larger than such an entry can be"),
    "a word of a gigabyte": (zeros(header(OUTPUT, 10**9), 10 * MB), "larger than such an entry can be"),
    "a zip": (lambda f: zipfile.ZipFile(f, "w").close(), "is not an archive"),
    "bzip2": (lambda f: f.write_bytes(bz2.compress(member(STUDENT, GOOD) * 9)), "archive"),
    "xz": (lambda f: f.write_bytes(lzma.compress(member(STUDENT, GOOD) * 9)), "archive"),
    "gzip with another checksum": (
        lambda f: f.write_bytes(gzip.compress(member(STUDENT, GOOD))[:-8] + bytes(8)),
        "is not an archive",
    ),
    "gzip that is cut": (lambda f: f.write_bytes(gzip.compress(member(STUDENT, GOOD))[:-20]), "cut off"),
    "no end": (lambda f: f.write_bytes(member(STUDENT, GOOD)), "cut off"),
    "half of a header": (lambda f: f.write_bytes(member(STUDENT, GOOD)[:300]), "cut off"),
    "another checksum": (lambda f: f.write_bytes(b"x" + member(STUDENT, GOOD)[1:]), "is not a tar archive"),
    "a negative size": (archive(patched(member(STUDENT, GOOD), 124, b"\xff" * 12)), "is a link, a folder"),
    "a size of 2**88": (archive(patched(member(STUDENT, GOOD), 124, b"\x80" + b"\xff" * 11)), "holds more than"),
    "a size in words": (archive(patched(member(STUDENT, GOOD), 124, b"a gigabyte.\0")), "is not a tar archive"),
    "10,000 characters": (archive(member("cells/" + "a" * 10_000, b"1")), "or an extension"),
    "a link of 10,000 characters": (
        archive(member(STUDENT, type=tarfile.SYMTYPE, linkname="a" * 10_000)),
        "or an extension",
    ),
    "an extended header": (archive(member(STUDENT, b"30 mtime=1\n", type=tarfile.XHDTYPE)), "or an extension"),
    "a global header": (archive(member(STUDENT, b"30 mtime=1\n", type=tarfile.XGLTYPE)), "or an extension"),
    "a sparse file": (archive(member(STUDENT, GOOD, type=tarfile.GNUTYPE_SPARSE)), "or an extension"),
    "a contiguous file": (archive(member(STUDENT, GOOD, type=tarfile.CONTTYPE)), "or an extension"),
    "a volume": (archive(member(STUDENT, type=b"V")), "or an extension"),
    "a block device": (archive(member(STUDENT, type=tarfile.BLKTYPE)), "a device"),
    "a type that nobody knows": (archive(member(STUDENT, type=b"!")), "or an extension"),
    "backslashes": (archive(member("..\\..\\evil", b"1")), "is not an entry of a cache"),
    "a drive": (archive(member("C:/evil", b"1")), "is not an entry of a cache"),
    "a dot before": (archive(member(f"./{STUDENT}", GOOD)), "is not an entry of a cache"),
    "two slashes": (archive(member(STUDENT.replace("/", "//"), GOOD)), "is not an entry of a cache"),
    "a slash behind": (archive(member(f"{STUDENT}/", GOOD)), "is not an entry of a cache|is a link, a folder"),
    "letters of other scripts": (archive(member("cells/ß", b"1")), "is not a tar archive"),
    "control characters": (archive(member("cells/\x1b[31m", b"1")), "is not an entry of a cache"),
    "what was set aside": (archive(member("damaged/x", b"1")), "is not an entry of a cache"),
    "the file that is held": (archive(member(".writable", b"1")), "is not an entry of a cache"),
    "an unfinished lesson": (archive(member(f"teachers/{'0' * 32}.part", b"1")), "is not an entry of a cache"),
    "decoded images": (archive(member(f"data/{'0' * 32}/images.npy", b"1")), "is not an entry of a cache"),
    "a second copy of looks": (archive(member(LOOKS.replace("json", "copy"), b"[5]")), "is not an entry of a cache"),
    "one file where case is no matter": (
        archive(*[member(f"answers/{'0' * 32}/{p}/output", b"logits") for p in ("Probs", "probs")]),
        "twice",
    ),
}


def npy(descr: str = "'<f4'", shape: str = "(6, 3)", body: bytes = bytes(72), text: str | None = None) -> bytes:
    """Return an array with a header of any text."""
    head = (text or f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}").encode("latin-1", "replace")
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + body


THERE = npy("'|b1'", "(6,)", bytes(6))


def zipped(values: bytes = npy(), there: bytes = THERE, how: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", how) as f:
        for name, array in {"there": there, "values": values, **more}.items():
            f.writestr(f"{name}.npy", array)
    return content.getvalue()


def twice(content: bytes, old: bytes, new: bytes) -> bytes:
    """Change what stands in both the header of a part and the table of contents."""
    assert old in content
    return content.replace(old, new)


def central(content: bytes, at: int, value: bytes) -> bytes:
    """Change the first entry of the table of contents alone."""
    begin = content.index(b"PK\x01\x02") + at
    return content[:begin] + value + content[begin + len(value) :]


def wide(content: bytes) -> bytes:
    """Claim a table of contents of a terabyte, as large zips may."""
    end = content.index(b"PK\x05\x06")
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2, 2, 10**12, 0)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1)
    return content[:end] + record + locator + content[end:]


def savez(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def compressed() -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, there=np.ones(10**7, bool), values=np.zeros((10**7, 3), np.float32))
    return content.getvalue()


def altered(**fields: object) -> bytes:
    return json.dumps({**json.loads(GOOD), **fields}).encode()


DEEP = "[" * 50_000
MANY = io.BytesIO()
with zipfile.ZipFile(MANY, "w") as _f:
    for _number in range(3_000):
        _f.writestr(f"{_number}.npy", b"")
VALUES = told(6).values.numpy()
NO_BLOCK, NO_STUDENT, NO_LOOKS = "is not a block of answers", "is not a student's result", "is not a list of looks"

ENTRIES: dict[str, tuple[str, bytes, str]] = {
    "10**12 items": (BLOCK, zipped(npy(shape="(1000000000000,)")), NO_BLOCK),
    "10**30 items": (BLOCK, zipped(npy(shape=f"({10**30},)")), NO_BLOCK),
    "a mask of 10**12": (BLOCK, zipped(there=npy("'|b1'", f"({10**12},)")), NO_BLOCK),
    "a header that is cut": (BLOCK, zipped(npy(text="{'descr': '<f4', 'shape': (")), NO_BLOCK),
    "a header that goes deep": (BLOCK, zipped(npy(text=DEEP)), NO_BLOCK),
    "a header of code": (BLOCK, zipped(npy(text="__import__('os').system('touch evil')")), NO_BLOCK),
    "a header of brackets": (BLOCK, zipped(npy(text="(" * 150)), NO_BLOCK),
    "a header of no letters": (BLOCK, zipped(npy(text="\xff\xfe\x00")), NO_BLOCK),
    "a header of a list": (BLOCK, zipped(npy(text="[1, 2]")), NO_BLOCK),
    "an unknown version": (BLOCK, zipped(npy().replace(b"NUMPY\x01", b"NUMPY\x09")), NO_BLOCK),
    "a version of other letters": (BLOCK, zipped(npy().replace(b"NUMPY\x01", b"NUMPY\x03")), NO_BLOCK),
    "negative sides": (BLOCK, zipped(npy(shape="(-6, -3)")), NO_BLOCK),
    "sides of words": (BLOCK, zipped(npy(shape="('a',)")), NO_BLOCK),
    "sides of truth": (BLOCK, zipped(npy(shape="(True, 18)")), NO_BLOCK),
    "objects": (BLOCK, zipped(npy("'|O'", "(1,)", b"\x80\x04K\x01.")), NO_BLOCK),
    "fields": (BLOCK, zipped(npy("[('a', '<f4')]", "(18,)")), NO_BLOCK),
    "a type that nobody knows": (BLOCK, zipped(npy("'<q9'")), NO_BLOCK),
    "items without size": (BLOCK, zipped(npy("'|V0'", f"({10**15},)", b"")), NO_BLOCK),
    "big ends first": (BLOCK, zipped(npy("'>f4'")), NO_BLOCK),
    "an array that is cut": (BLOCK, zipped(npy(body=bytes(40))), NO_BLOCK),
    "an array with more behind it": (BLOCK, zipped(npy(body=bytes(80))), NO_BLOCK),
    "packed": (BLOCK, compressed(), NO_BLOCK),
    "packed by bzip2": (BLOCK, zipped(how=zipfile.ZIP_BZIP2), NO_BLOCK),
    "packed by who knows what": (BLOCK, central(zipped(), 10, b"\x63\0"), NO_BLOCK),
    "under a password": (BLOCK, central(zipped(), 8, b"\x01\0"), NO_BLOCK),
    "for a later zip": (BLOCK, central(zipped(), 6, b"\xff\0"), NO_BLOCK),
    "patched data": (BLOCK, central(zipped(), 8, b"\x20\0"), NO_BLOCK),
    "a part of 4 GB": (BLOCK, central(zipped(), 20, b"\xfe\xff\xff\xff" * 2), NO_BLOCK),
    "a part that is another": (BLOCK, central(zipped(), 42, b"\x40\0\0\0"), NO_BLOCK),
    "another checksum of a part": (BLOCK, central(zipped(), 16, b"\0\0\0\1"), NO_BLOCK),
    "a table of a terabyte": (BLOCK, wide(zipped()), NO_BLOCK),
    "3,000 parts": (BLOCK, MANY.getvalue(), NO_BLOCK),
    "a part above": (BLOCK, twice(zipped(x=npy()), b"x.npy", b"../.y"), NO_BLOCK),
    "two parts of one name": (BLOCK, twice(zipped(valuez=npy()), b"valuez", b"values"), NO_BLOCK),
    "no parts": (BLOCK, b"PK\x05\x06" + bytes(18), NO_BLOCK),
    "a comment": (BLOCK, zipped()[:-2] + b"\x01\0x", NO_BLOCK),
    "four bytes": (BLOCK, b"PK\x03\x04", NO_BLOCK),
    "log-probabilities above zero": (BLOCK, savez(there=np.ones(6, bool), values=-VALUES), "not valid answers"),
    "no numbers": (BLOCK, savez(there=np.ones(6, bool), values=VALUES * np.float32("nan")), "not valid answers"),
    "a mask of another length": (BLOCK, savez(there=np.ones(5, bool), values=VALUES), "another shape"),
    "a lone array": (BLOCK, npy(), NO_BLOCK),
    "a seal of another name": (BLOCK, sealed(STUDENT, zipped()), "not the one it is named after"),
    "a seal over something else": (STUDENT, sealed(STUDENT, GOOD) + b" ", "another checksum"),
    "a seal with nothing under it": (STUDENT, sealed(STUDENT, b""), NO_STUDENT),
    "a seal over a seal": (STUDENT, sealed(STUDENT, sealed(STUDENT, GOOD)), NO_STUDENT),
    "a first line without end": (STUDENT, b"distill-audit entry " + b"0" * MB, NO_STUDENT),
    "a name of 10,000 characters under a seal": (STUDENT, sealed("x" * 10_000, GOOD), NO_STUDENT),
    "a student of 10**9 images": (
        STUDENT,
        altered(test={"dtype": "uint16", "shape": [10**9], "data": "eJwDAAAAAAE="}),
        "size differs from its stated shape",
    ),
    "sides below zero": (
        STUDENT,
        altered(test={"dtype": "uint16", "shape": [-5], "data": "eJwDAAAAAAE="}),
        "size differs from its stated shape",
    ),
    "digits without end": (STUDENT, GOOD.replace(b'"charged":0', b'"charged":' + b"9" * 10_000), NO_STUDENT),
    "counts below zero": (STUDENT, altered(charged=-5), "out of range"),
    "a field that nobody knows": (STUDENT, altered(more=1), NO_STUDENT),
    "UTF-16": (STUDENT, GOOD.decode().encode("utf-16"), NO_STUDENT),
    "no UTF-8": (STUDENT, GOOD.replace(b"crop", b"\xff\xfe"), NO_STUDENT),
    "half of a pair": (STUDENT, GOOD.replace(b"crop", b"\\ud800"), NO_STUDENT),
    "another student": (STUDENT, result(cell(1)).model_dump_json().encode(), "not the one it is named after"),
    "another student under a seal": (
        STUDENT,
        sealed(STUDENT, result(cell(1)).model_dump_json().encode()),
        "not the one it is named after",
    ),
    "a million looks": (LOOKS, b"[" + b"5," * 30_000 + b"5]", NO_LOOKS),
    "looks that go deep": (LOOKS, b"[" * 60_000, NO_LOOKS),
    "looks below one": (LOOKS, b"[0, -5]", NO_LOOKS),
    "halves of looks": (LOOKS, b"[5.5]", NO_LOOKS),
    "looks of truth": (LOOKS, b"[true]", NO_LOOKS),
    "looks without end": (LOOKS, b"[Infinity, NaN]", NO_LOOKS),
    "digits of looks": (LOOKS, b"[" + b"9" * 6_000 + b"]", NO_LOOKS),
    "a word and a line": (OUTPUT, b"logits\n", "unknown kind of output"),
    "no word": (OUTPUT, b"", "unknown kind of output"),
    "a word of other letters": (OUTPUT, b"\xff\xfe", "unknown kind of output"),
    "a checkpoint of a pickle": (TEACHER, b"\x80\x04\x95.", "not a checkpoint"),
    "a checkpoint without a card": (
        TEACHER,
        b"\x02\0\0\0\0\0\0\0{}",
        "not a teacher that this tool trained|not a checkpoint",
    ),
    "a checkpoint with a header of 2**60": (TEACHER, struct.pack("<Q", 2**60) + b"{}", "not a checkpoint"),
}
