"""Images on disk are the same data set, and memory does not grow with it."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from audit.cache.store import Cache
from teachers.data import folders, pixels
from teachers.data.stored import StoredImages, chunks
from teachers.oracle import at_once, log_probs
from teachers.storage.store import read_pool
from teachers.targets.target import smoothed_truth
from teachers.task import Augment, Pool, few_labels, few_shot
from teachers.views import KINDS, Viewer, ViewSet

N, SIDE = 600, 12


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, 3, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture
def stored(images: np.ndarray, tmp_path: Path) -> StoredImages:
    np.save(tmp_path / "images.npy", images)
    return StoredImages(tmp_path / "images.npy")


def test_any_index_reads_what_an_array_would_give(images: np.ndarray, stored: StoredImages) -> None:
    rows = np.array([5, 2, 400])
    for key in (7, slice(3, 9), slice(None, None, 50), rows):
        assert np.array_equal(stored[key], images[key])
        assert stored[key].flags.writeable
    part = stored.take(np.arange(100, 500))
    assert np.array_equal(part[rows[:2]], images[100:500][rows[:2]])
    assert np.array_equal(np.asarray(part), images[100:500])
    assert np.array_equal(np.concatenate(list(chunks(part))), images[100:500])
    assert all(np.array_equal(a, b) for a, b in zip(part, images[100:500], strict=True))
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(part))), images[100:500])
    assert (len(part), part.shape) == (400, (400, 3, SIDE, SIDE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_on_disk_is_the_same_pool(images: np.ndarray, stored: StoredImages, kind: str, tmp_path: Path) -> None:
    labels, augment = np.arange(N) % 10, Augment(pad=2, flip=True)
    held, lazy = Pool(images, labels, augment), Pool(stored, labels, augment)  # type: ignore[arg-type]
    assert (held.digest, held.pixels) == (lazy.digest, lazy.pixels)
    for change in (lambda pool: few_shot(pool, 0.3), lambda pool: few_labels(pool, 0.3)):
        assert change(held).digest == change(lazy).digest
    index, view = torch.tensor([3, 599, 3]), torch.tensor([0, 1, 1])
    views = ViewSet(kind, 2)  # type: ignore[arg-type]
    assert torch.equal(Viewer(held, views)(index, view), Viewer(lazy, views)(index, view))
    kept = Cache(tmp_path / "cache").pool(lazy)
    assert kept.stat().st_size < 30_000
    read = read_pool(kept)
    assert isinstance(read.images, StoredImages)
    assert read.digest == held.digest


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_folder_stays_on_disk(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(20):
                shape = (SIDE, SIDE) if mode == "L" else (SIDE, SIDE, 3)
                Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / split / name / f"{i}.png")
    held = folders.image_folder(tmp_path)
    monkeypatch.setattr(pixels, "LARGE", 1)
    for _ in range(2):  # decoded, and read back
        lazy = folders.image_folder(tmp_path, tmp_path / "cache")
        assert isinstance(lazy.train.images, StoredImages)
        assert lazy.digest == held.digest
    assert len(list((tmp_path / "cache").rglob("images*"))) == 1


# Freed memory goes back at once, so that what is left does not depend on how threads took turns.
FRUGAL = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from teachers.oracle import at_once, log_probs
from teachers.targets.target import smoothed_truth
from audit.cache.store import Cache
from teachers.data.stored import StoredImages
from teachers.task import Augment, Pool
folder, count = Path(sys.argv[1]), int(sys.argv[2])
file = np.lib.format.open_memmap(folder / f"{count}.npy", "w+", np.uint8, (count, 3, 32, 32))
for at in range(0, count, 1_000):
    file[at:at + 1_000] = at % 251
del file
pool = Pool(StoredImages(folder / f"{count}.npy"), np.arange(count) % 10, Augment(pad=4, flip=True))
subject = smoothed_truth(pool, 10, 1, "cpu")
Cache(folder / "cache").pool(pool)
assert len(log_probs(subject.full, pool)) == count
print(next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon")))
"""


def test_images_are_read_a_few_at_a_time_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = StoredImages.__getitem__

    def noted(self: StoredImages, key: object) -> np.ndarray:
        part = real(self, key)
        read.append(part.size // (3 * 32 * 32))
        return part

    monkeypatch.setattr(StoredImages, "__getitem__", noted)
    most = at_once((3, 32, 32))
    np.save(tmp_path / "images.npy", np.zeros((3 * most, 3, 32, 32), np.uint8))
    pool = Pool(StoredImages(tmp_path / "images.npy"), np.arange(3 * most) % 10, Augment(pad=4, flip=True))
    target = smoothed_truth(pool, 10, 1, "cpu")
    Cache(tmp_path / "cache").pool(pool)
    assert len(log_probs(target.full, pool)) == 3 * most
    assert sum(read) >= 3 * most
    assert max(read) <= most


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    used = []
    for count in (4_000, 32_000):
        program = [sys.executable, "-c", PROGRAM, str(tmp_path), str(count)]
        used.append(int(subprocess.run(program, capture_output=True, check=True, env=FRUGAL).stdout))
    grown, data = used[1] - used[0], 28_000 * 3 * 32 * 32 / 1024  # KiB
    assert grown < data / 4, f"{grown} KiB more for {data:.0f} KiB of images"
