"""Pictures, data sets and files of classes that mean harm or are broken; each is made by a function of a folder."""

import bz2
import io
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

Put = Callable[[Path], object]  # makes what lies at a path
MARKER = "ran"  # a file that payloads leave in the working directory
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 3) -> Path:
    """Make a small data set that is sound."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def bytes_of(kind: str, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 100 if mode in ("I;16", "F", "I", "L") else None).save(out, kind)
    return out.getvalue()


def put(content: bytes) -> Put:
    return lambda path: path.write_bytes(content)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int, height: int, colour: int = 6, depth: int = 8, more: bytes = b"", pixels: bytes = b"\0" * 99
) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def tiff(entries: dict[int, tuple[int, int, int]], more: bytes = b"", size: tuple[int, int] = (8, 8)) -> bytes:
    """Make a little-endian TIFF of gray pixels: tag -> (type, count, value or offset); `more` lies at byte 8."""
    plain = {
        256: (4, 1, size[0]),
        257: (4, 1, size[1]),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 8),
        278: (4, 1, size[1]),
        279: (4, 1, 64),
    }
    tags = sorted((plain | entries).items())
    data = more or b"\x64" * 64
    rows = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + rows + b"\0\0\0\0"


def link_to(target: str) -> Put:
    return lambda path: path.symlink_to(target)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # addresses are short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.write(png(8, 8))
        file.truncate(2**28 + 1)


def _huge_text(path: Path) -> None:
    """Write a picture with a comment of 200 MB, which no disk holds."""
    with path.open("wb") as file:
        file.write(png(8, 8)[:33] + struct.pack(">I", 200_000_000) + b"tEXt")
        file.seek(200_000_000, os.SEEK_CUR)
        file.write(b"\0\0\0\0" + png(8, 8)[33:])


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(%pipe%touch ran) (w) file\nshowpage\n"

FOREIGN = {
    "EPS": EPS,
    "EPS with a preview": struct.pack("<4I", 0xC6D3D0C5, 32, len(EPS), 0) + b"\0" * 16 + EPS,
    "DDS": b"DDS " + struct.pack("<7I", 124, 0x1007, 8, 8, 32, 0, 0) + b"\0" * 200,
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "PSD": b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + b"\0" * 200,
    "ICNS": b"icns" + struct.pack(">I", 200) + b"ic07" + struct.pack(">I", 192) + b"\0" * 184,
    "ICO": b"\0\0\1\0\1\0\x08\x08\0\0\1\0\x20\0\x40\0\0\0\x16\0\0\0" + b"\0" * 64,
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 100,
    "PCX": b"\x0a\x05\x01\x08\0\0\0\0\7\0\7\0" + b"\0" * 200,
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + b"\0" * 100,
    "FLI": struct.pack("<IHHHHHH", 200, 0xAF12, 1, 8, 8, 8, 3) + b"\0" * 200,
    "XPM": b'/* XPM */\nstatic char *x[] = {"8 8 1 1", "a c #000000"};',
    "AVIF": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + b"\0" * 60,
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 60,
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
    "HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "zip": b"PK\3\4" + b"\0" * 100,
    "NumPy": b"\x93NUMPY\1\0\x76\0{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }",
    "pickle": pickle.dumps({"a": 1}),
    "nothing": b"",
    "control characters": b"\x1b]0;x\x07::error::\n##[error]",
}


def pictures() -> Iterator[tuple[str, str, Put]]:
    """Yield what no picture of a data set may be: its name, the suffix of its file, and how it is made."""
    yield "a pipe", ".png", os.mkfifo
    yield "a socket", ".jpg", _socket
    yield "a folder", ".png", Path.mkdir
    yield "a link to a device", ".png", link_to("/dev/zero")
    yield "a link to nothing", ".png", link_to("nowhere.png")
    yield "a link to itself", ".png", lambda path: path.symlink_to(path.name)
    yield "a link to a folder", ".png", link_to("..")
    for name, content in FOREIGN.items():
        yield name, ".png", put(content)
    for kind in ("DDS", "PCX", "TGA", "ICO", "SGI", "EPS"):  # sound ones
        yield f"a picture as {kind}", ".png", put(bytes_of(kind))
    for kind, suffix in [
        ("PNG", "png"),
        ("JPEG", "jpg"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("TIFF", "tif"),
        ("PPM", "ppm"),
    ]:
        whole = bytes_of(kind, size=(64, 64))
        yield f"half of a {kind}", f".{suffix}", put(whole[: len(whole) // 2])
    yield "half of a WEBP", ".webp", put(bytes_of("WEBP")[:20])
    broken = bytearray(bytes_of("PNG", size=(64, 64)))
    broken[60:70] = b"\xff" * 10
    yield "a PNG of damaged pixels", ".png", put(bytes(broken))
    yield "30000 x 30000 pixels", ".png", put(png(30_000, 30_000))
    yield "13000 x 13000 pixels with alpha", ".png", put(png(13_000, 13_000))
    yield "2147483647 x 1 pixels", ".png", put(png(2**31 - 1, 1))
    yield "no pixels", ".png", put(png(0, 8))
    yield "a colour type that is none", ".png", put(png(8, 8, colour=5))
    yield "a comment of 200 MB", ".png", _huge_text
    yield "a profile that unpacks to 300 MB", ".png", lambda path: _bomb(path, b"iCCP")
    yield "a text that unpacks to 300 MB", ".png", lambda path: _bomb(path, b"zTXt")
    yield "a file of 256 MiB and a byte", ".png", _large
    yield "a JPEG of 65500 x 65500 pixels", ".jpg", put(_jpeg(65_500, 65_500))
    yield (
        "a GIF of 65535 x 65535 pixels",
        ".gif",
        put(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2\4\1\0;"),
    )
    yield "a WEBP of 16384 x 16384 pixels", ".webp", put(_webp(16_384, 16_384))
    yield "a BMP of 2 billion pixels", ".bmp", put(_bmp(2**16, 2**15))
    yield "a PPM of 10^16 pixels", ".ppm", put(b"P6 99999999 99999999 255\n" + b"\0" * 99)
    yield "a PPM of words", ".ppm", put(b"P6 eight eight 255\n" + b"\0" * 999)
    yield "a PGM with 16 bits", ".pgm", put(b"P5 8 8 65535\n" + b"\1" * 128)
    yield "a PNG with 16 bits", ".png", put(bytes_of("PNG", "I;16"))
    yield "a TIFF with 16 bits", ".tif", put(bytes_of("TIFF", "I;16"))
    yield "a TIFF of floats", ".tif", put(bytes_of("TIFF", "F"))
    yield "a TIFF of 32-bit numbers", ".tif", put(bytes_of("TIFF", "I"))
    yield "a TIFF of two million strips", ".tif", put(tiff({273: (4, 2**21, 8)}, more=b"\0" * 2**23))
    yield "a TIFF whose tags lie outside", ".tif", put(b"II*\0\xff\xff\xff\x7f" + b"\0" * 64)
    tile = {322: (4, 1, 2**31), 323: (4, 1, 2**31), 324: (4, 1, 8), 325: (4, 1, 64), 259: (3, 1, 5)}
    yield "a TIFF with a tile of 10^18 pixels", ".tif", put(tiff(tile))
    yield "a TIFF of 60000 x 60000 pixels", ".tif", put(tiff({}, size=(60_000, 60_000)))


def _bomb(path: Path, name: bytes) -> None:
    path.write_bytes(png(8, 8, more=chunk(name, b"x\0\0" + zlib.compress(b"\0" * 300_000_000))))


def _jpeg(width: int, height: int) -> bytes:
    whole = bytearray(bytes_of("JPEG"))
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(whole)


def _webp(width: int, height: int) -> bytes:
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in (width, height))
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _bmp(width: int, height: int) -> bytes:
    whole = bytearray(bytes_of("BMP"))
    whole[18:26] = struct.pack("<ii", width, height)
    return bytes(whole)


def _rename(root: Path, old: str, new: bytes | str) -> None:
    for split in ("train", "test"):
        os.rename(root / split / old, os.fsencode(root / split) + b"/" + os.fsencode(new))


def _twins(root: Path) -> None:
    for name in (COMPOSED, DECOMPOSED):
        for split in ("train", "test"):
            (root / split / name).mkdir()
            Image.new("RGB", (8, 8)).save(root / split / name / "1.png")


def _nested(root: Path) -> None:
    for file in sorted((root / "train" / "cat").iterdir()):
        (root / "train" / "cat" / "img").mkdir(exist_ok=True)
        file.rename(root / "train" / "cat" / "img" / file.name)


def folders() -> Iterator[tuple[str, Callable[[Path], object], str]]:
    """Yield data sets that cannot be used: how a sound one is spoiled, and what the refusal says."""
    yield "a class that is no UTF-8", lambda root: _rename(root, "cat", b"caf\xe9"), r"caf\\xe9 has a name"
    yield "two ways to write a class", _twins, r"two class folders café"
    yield "images below a class alone", _nested, r"train/cat/img; move them up"
    yield "no test", lambda root: (root / "test").rename(root / "tests"), r"test is missing; .*there are tests, train"
    yield "a class in one split", lambda root: (root / "train" / "dog").rename(root / "train" / "owl"), "dog, owl"
    yield "a split that is a link to itself", lambda root: _swap(root / "test", "test"), "test is missing"


def _swap(path: Path, target: str) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to(target)


def _idx(path: Path, head: bytes, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + body)


def _mnist(root: Path, images: bytes, labels: bytes) -> None:
    for part in ("train", "t10k"):
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            _idx(root / "MNIST" / "raw" / f"{part}-{kind}-ubyte", content, b"")


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {MARKER}",)


def _cifar(root: Path) -> None:
    home = root / "cifar-10-batches-py"
    home.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (home / name).write_bytes(pickle.dumps(Payload()))


def _legacy(root: Path) -> None:
    import torch

    home = root / "MNIST" / "processed"
    home.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        torch.save((Payload(), Payload()), home / name)


def _usps(content: Callable[[], bytes]) -> Callable[[Path], object]:
    def make(root: Path) -> None:
        root.mkdir(exist_ok=True)
        for name in ("usps.bz2", "usps.t.bz2"):
            (root / name).write_bytes(content())

    return make


def _pipes(root: Path) -> None:
    root.mkdir(exist_ok=True)
    os.mkfifo(root / "usps.bz2")


def _faces(root: Path) -> None:
    """Lay out a set of pictures of which one is EPS."""
    for split in ("train", "test"):
        for name in ("positive", "negative"):
            home = root / "rendered-sst2" / split / name
            home.mkdir(parents=True)
            (home / "1.png").write_bytes(EPS)


IMAGES, LABELS = struct.pack(">4I", 0x803, 20, 28, 28) + b"\0" * 20 * 784, struct.pack(">2I", 0x801, 20) + b"\1" * 20


def sets() -> Iterator[tuple[str, str, Callable[[Path], object]]]:
    """Yield what torchvision would read: its name there, and how it is made."""
    many = struct.pack(">4I", 0x803, 10**9, 1_000, 1)
    yield "10^12 pixels", "MNIST", lambda root: _mnist(root, many + b"\0" * 99, LABELS)
    yield "half of the pixels", "MNIST", lambda root: _mnist(root, IMAGES[:5_000], LABELS)
    yield "no header", "MNIST", lambda root: _mnist(root, b"", b"")
    yield "a type that is none", "MNIST", lambda root: _mnist(root, b"\0\0\x77\3" + IMAGES[4:], LABELS)
    yield "fewer labels than images", "MNIST", lambda root: _mnist(root, IMAGES, LABELS[:4] + b"\0\0\0\1\1")
    yield "code in an old file", "MNIST", _legacy
    yield "code in batches", "CIFAR10", _cifar
    yield "a bomb", "USPS", _usps(lambda: bz2.compress(b"1 1:0\n" * 10**6) * 10)
    yield "no numbers", "USPS", _usps(lambda: bz2.compress(b"one two three\n"))
    yield "no bz2", "USPS", _usps(lambda: b"BZh9 or so")
    yield "a pipe", "USPS", _pipes
    yield "EPS", "RenderedSST2", _faces


def class_files() -> Iterator[tuple[str, Put, str]]:
    """Yield files of class names: how they are made, and what the refusal says."""
    yield "a pipe", os.mkfifo, "a pipe"
    yield "a folder", Path.mkdir, "a folder"
    yield "a socket", _socket, "cannot be opened"
    yield "a device", link_to("/dev/zero"), "a device"
    yield "a link to nothing", link_to("nowhere"), "a link to nothing"
    yield "a link to itself", lambda path: path.symlink_to(path.name), "cannot be opened"
    yield "17 MiB", put(b"a\n" * 2**23 + b"b"), "larger than 16 MiB"
    yield "UTF-16", put("cat\ndog\n".encode("utf-16")), "not UTF-8"
    yield "UTF-16 without a mark", put("cat\ndog\n".encode("utf-16-le")), "NUL"
    yield "latin-1", put("café\n".encode("latin-1")), "not UTF-8"
    yield "nothing but a mark", put(b"\xef\xbb\xbf\n"), "names no class"
    yield "one class in two ways", put(f"{COMPOSED}\ndog\n{DECOMPOSED}\n".encode()), "twice"
