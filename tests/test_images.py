"""Pictures and data sets of strangers: one sentence, in little time and memory; and how pictures are read."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hostile_images as hostile
import numpy as np
import pytest
from PIL import Image

from teachers.data import datasets, images, pixels
from teachers.data.class_names import class_names
from teachers.data.images import picture
from teachers.errors import RefusedInput
from teachers.task import known

PICTURES = {name: (suffix, make) for name, suffix, make in hostile.pictures()}
FOLDERS = {name: (spoil, words) for name, spoil, words in hostile.folders()}
SETS = {name: (kind, make) for name, kind, make in hostile.sets()}
CLASS_FILES = {name: (make, words) for name, make, words in hostile.class_files()}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_corpus_is_large() -> None:
    assert sum(map(len, (PICTURES, FOLDERS, SETS, CLASS_FILES))) >= 90


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_no_picture_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    suffix, make = PICTURES[name]
    bad = hostile.folder(tmp_path / "data") / "test" / "dog" / f"bad{suffix}"
    make(bad)
    with pytest.raises(RefusedInput) as refused:
        datasets.load(str(tmp_path / "data"), tmp_path / "cache")
    said = str(refused.value)
    assert str(bad) in said
    assert not re.search("0x[0-9a-f]{6}", said), "the address of an object"
    assert said.isprintable()
    assert not (tmp_path / hostile.MARKER).exists()
    assert not [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]


@pytest.mark.filterwarnings("ignore")  # as where a whole folder is decoded
@pytest.mark.parametrize(
    ("name", "words"),
    {
        "13000 x 13000 pixels with alpha": r"13000x13000 pixels of mode RGBA take 1\.3 GiB, above 1",
        "a picture as EPS": "it is none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP",
        "a comment of 200 MB": "far larger than a picture's",
        "a TIFF of two million strips": "one of its tags holds 2097152 numbers",
        "a file of 256 MiB and a byte": "larger than 256 MiB",
        "a pipe": "a pipe and not a regular file",
        "a link to a device": "a device and not a regular file",
        "a link to nothing": "a link to nothing",
    }.items(),
)
def test_the_sentence_says_what_is_wrong(name: str, words: str, tmp_path: Path) -> None:
    suffix, make = PICTURES[name]
    make(tmp_path / f"bad{suffix}")
    with pytest.raises(RefusedInput, match=words):
        picture(tmp_path / f"bad{suffix}")


PROGRAM = """
import resource, sys, warnings
from pathlib import Path
import hostile_images as hostile
from teachers.errors import RefusedInput
from teachers.data.images import picture
bad = Path(sys.argv[1])
hostile.put(hostile.png(8, 8))(bad / "good.png")
suffix, make = {n: (s, m) for n, s, m in hostile.pictures()}[sys.argv[2]]
make(bad / f"bad{suffix}")
warnings.simplefilter("ignore")
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
open("/proc/self/clear_refs", "w").write("5")
before = peak()
try:
    picture(bad / f"bad{suffix}")
except RefusedInput:
    print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("name", [name for name in PICTURES if any(c.isdigit() for c in name)])
def test_it_takes_little_memory_to_refuse(name: str, tmp_path: Path) -> None:
    """Files count as they are: at most 256 MiB of one, and a head of 64 MiB beside it."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    program = [sys.executable, "-c", PROGRAM, str(tmp_path), name]
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=env, timeout=500)
    assert int(done.stdout) < 420 * 1024, "KiB"


def test_a_picture_that_takes_for_ever_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SECONDS", -1)
    hostile.put(hostile.bytes_of("PNG"))(tmp_path / "slow.png")
    with pytest.raises(RefusedInput, match=r"slow\.png cannot be read as an image \(it takes more than -1 s"):
        picture(tmp_path / "slow.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_every_format_is_read_whatever_its_suffix(kind: str, tmp_path: Path) -> None:
    hostile.put(hostile.bytes_of(kind))(tmp_path / "a.png")
    assert picture(tmp_path / "a.png").size == (8, 8)
    (tmp_path / "link.jpg").symlink_to("a.png")
    assert picture(tmp_path / "link.jpg").size == (8, 8)


def test_a_head_is_read_once(tmp_path: Path) -> None:
    """A thousand tags that all point to the same megabyte are a file of one."""
    stream = images.MeteredBytes(b"\0" * 2**20)
    for _ in range(2):
        stream.seek(0)
        assert len(stream.read()) == 2**20
    stream.seek(0)
    with pytest.raises(ValueError, match="far larger than a picture's"):
        stream.read()


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"]


@pytest.mark.parametrize("mode", MODES)
def test_gray_modes_are_one_channel_others_three_and_a_network_decides_otherwise(mode: str, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(colours).convert("L" if mode == "LA" else mode).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    image.save(path, **({"compression": "raw"} if mode == "CMYK" else {}))
    with Image.open(path) as stored:
        natural = stored.convert("L" if mode in ("1", "L", "LA") else "RGB")
    for channels, wanted in ((None, natural), (1, natural.convert("L")), (3, natural.convert("RGB"))):
        read = picture(path, channels)
        assert read.mode == wanted.mode
        assert np.array_equal(np.asarray(read), np.asarray(wanted))


def test_sixteen_bits_a_colour_are_read_as_eight(tmp_path: Path) -> None:
    pixels_ = b"".join(b"\0" + b"\x12\x34" * 24 for _ in range(8))
    hostile.put(hostile.png(8, 8, colour=2, depth=16, pixels=pixels_))(tmp_path / "a.png")
    assert set(np.asarray(picture(tmp_path / "a.png")).flat) == {0x12}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_folder_is_read_in_the_channels_that_are_asked_for(mode: str, channels: int, tmp_path: Path) -> None:
    root = hostile.folder(tmp_path / "data")
    for file in root.rglob("*.png"):
        Image.open(file).convert(mode).save(file)
    natural = datasets.load(str(root))
    asked = datasets.load(str(root), channels=channels)
    assert asked.shape == (channels, 8, 8)
    if natural.shape[0] == channels:
        assert asked.digest == natural.digest
    else:
        assert np.array_equal(asked.test.images, pixels.in_channels(natural.test.images, channels))


def test_embedded_and_torchvisions_sets_follow_the_network_too() -> None:
    gray, colours = datasets.load("digits"), datasets.load("digits", channels=3)
    assert colours.shape == (3, 8, 8)
    assert all(np.array_equal(colours.train.images[:, [c]], gray.train.images) for c in range(3))
    assert datasets.load("digits", channels=1).digest == gray.digest


@pytest.mark.parametrize("name", FOLDERS)
def test_a_data_set_that_cannot_be_used_gets_a_sentence(name: str, tmp_path: Path) -> None:
    spoil, words = FOLDERS[name]
    spoil(hostile.folder(tmp_path / "data"))
    with pytest.raises(RefusedInput, match=words) as refused:
        datasets.load(str(tmp_path / "data"))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", SETS)
def test_what_torchvision_would_read_runs_nothing_and_waits_for_nothing(name: str, tmp_path: Path) -> None:
    kind, make = SETS[name]
    make(tmp_path / "set")
    with pytest.raises(RefusedInput) as refused:
        datasets.load(f"torchvision:{kind}:{tmp_path / 'set'}")
    assert str(tmp_path / "set") in str(refused.value)
    assert not (tmp_path / hostile.MARKER).exists()


@pytest.mark.parametrize("name", CLASS_FILES)
def test_a_file_of_classes_that_is_none_gets_a_sentence(name: str, tmp_path: Path) -> None:
    make, words = CLASS_FILES[name]
    make(tmp_path / "names.txt")
    with pytest.raises(RefusedInput, match=words) as refused:
        class_names(tmp_path / "names.txt")
    assert str(tmp_path / "names.txt") in str(refused.value)


def test_classes_compare_whatever_way_accents_are_written(tmp_path: Path) -> None:
    """As where training data was zipped on macOS and test data was not."""
    root = hostile.folder(tmp_path / "data", (hostile.COMPOSED, "caff", "dog"))
    before = datasets.load(str(root))
    (root / "test" / hostile.COMPOSED).rename(root / "test" / hostile.DECOMPOSED)
    after = datasets.load(str(root))
    assert after.digest == before.digest  # labels, too: the other spelling sorts elsewhere
    assert list(known(after.test)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    (tmp_path / "names.txt").write_text(f"dog\r\n{hostile.DECOMPOSED}\r\ncaff\r\n", encoding="utf-8-sig")
    names = class_names(tmp_path / "names.txt")
    assert names == ("dog", hostile.DECOMPOSED, "caff")


def told(root: Path) -> str:
    lines: list[str] = []
    datasets.load(str(root), note=lines.append)
    (line,) = lines
    return line


def test_one_line_says_what_was_taken(tmp_path: Path) -> None:
    root = hostile.folder(tmp_path / "data", count=10)
    assert told(root).endswith(
        "data: 2 classes; 18 images of train/ to train on, 2 held out of train/ for validation, 20 of test/ for the "
        "test"
    )
    (root / "test").rename(root / "val")
    hostile.folder(root)
    assert "20 from val/ for validation, 6 of test/ for the test" in told(root)


def test_the_same_line_says_what_was_left_out(tmp_path: Path) -> None:
    root = hostile.folder(tmp_path / "data")
    cat = root / "train" / "cat"
    for name in ("a.xml", "b.xml", "c.TXT", "d.avif", "README", ".hidden.txt"):
        (cat / name).write_text("x")
    for place in (cat / "img" / "deep", root / "valid" / "cat", root / "train", root):
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(place / "1.png")
    (root / "train" / "gone").symlink_to("nowhere")
    (root / ".git").mkdir()
    assert told(root).endswith(
        "; left out: the folder valid/, 1 image in sub-folders of class folders (the first: "
        f"{cat / 'img'}), 2 images outside of class folders, 5 files of other kinds (2 .xml, 1 .avif, 1 .txt, 1 no "
        "suffix), 1 link to nothing"
    )
    for name in ("val", "validation"):
        hostile.folder(tmp_path / name)
        (tmp_path / name / "test").rename(root / name)
    assert "6 from validation/ for validation" in told(root)
    assert "left out: the folders val/, valid/" in told(root)


def test_a_file_that_is_rewritten_with_its_size_and_its_times_is_read_again(tmp_path: Path) -> None:
    root, cache = hostile.folder(tmp_path / "data"), tmp_path / "cache"
    file = root / "test" / "dog" / "0.png"
    old, times = file.read_bytes(), file.stat()
    before = datasets.load(str(root), cache)
    for seed in range(1, 200):  # another picture of as many bytes
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(file)
        if file.stat().st_size == len(old):
            break
    assert len(old) == file.stat().st_size
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert datasets.load(str(root), cache).digest == datasets.load(str(root)).digest != before.digest
    file.write_bytes(old)
    assert datasets.load(str(root), cache).digest == before.digest


def test_a_folder_that_was_moved_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = hostile.folder(tmp_path / "data"), tmp_path / "cache"
    before = datasets.load(str(root), cache)
    root.rename(tmp_path / "moved")
    monkeypatch.setattr(pixels, "picture", lambda path, channels: pytest.fail(f"decoded {path} again"))
    assert datasets.load(str(tmp_path / "moved"), cache).digest == before.digest


@pytest.mark.parametrize("where", [10, 200, -1, None])
def test_damage_to_what_was_kept_is_told_and_mended(where: int | None, tmp_path: Path) -> None:
    root, cache = hostile.folder(tmp_path / "data"), tmp_path / "cache"
    before = datasets.load(str(root), cache)
    (kept,) = cache.rglob("images.npy")
    whole = kept.read_bytes()
    damaged = bytearray(whole)
    if where is None:
        damaged = damaged[:50]
    else:
        damaged[where] ^= 1
    kept.write_bytes(damaged)
    lines: list[str] = []
    assert datasets.load(str(root), cache, note=lines.append).digest == before.digest
    assert f"{kept} is damaged; its images are decoded again" in lines
    assert kept.read_bytes() == whole


def test_names_of_files_may_be_any_bytes(tmp_path: Path) -> None:
    root = hostile.folder(tmp_path / "data")
    before = datasets.load(str(root), tmp_path / "cache").digest
    home = os.fsencode(root / "train" / "cat")
    os.rename(home + b"/2.png", home + b"/caf\xe9.png")
    assert datasets.load(str(root), tmp_path / "cache").digest == before
    with open(home + b"/caf\xe9.png", "wb") as file:
        file.write(b"no picture")
    with pytest.raises(RefusedInput, match=r"caf\\xe9\.png cannot be read"):
        datasets.load(str(root))
    odd = tmp_path / os.fsdecode(b"d\xe9")
    hostile.folder(odd)
    assert json.loads(json.dumps(datasets.load(str(odd)).name)) == r"d\xe9"


def test_images_that_no_disk_holds_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = hostile.folder(tmp_path / "data")
    monkeypatch.setattr(pixels.shutil, "disk_usage", lambda path: Free(1_000))
    with pytest.raises(RefusedInput, match=r"12 images of 8x8 pixels take .* in the cache, where .* are free"):
        datasets.load(str(root), tmp_path / "cache")


class Free:
    def __init__(self, free: int) -> None:
        self.free = free
