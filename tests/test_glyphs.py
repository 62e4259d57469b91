"""The embedded task is the same everywhere, balanced, and neither hopeless nor trivial."""

import hashlib

import numpy as np
import pytest

from teachers.data import glyphs as module
from teachers.data.glyphs import CLASSES, Draws, glyphs
from teachers.task import Augment, Pool, Task, known

DIGEST = "06323ef73885f6ba2b5116d8a50e66081cddfbe806c798f94d9b2d10b878b154"


@pytest.fixture(scope="module")
def task() -> Task:
    return glyphs()


def test_every_machine_draws_the_same_bytes(task: Task) -> None:
    assert task.digest == DIGEST


def test_the_splits_have_the_promised_sizes(task: Task) -> None:
    assert [len(p) for p in (task.train, task.validation, task.test)] == [3_100, 3_100, 6_200]
    assert task.shape == (1, 16, 16)
    assert task.classes == CLASSES
    assert len(set(CLASSES)) == 62


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_class_is_equally_frequent_and_only_shifts_are_safe(task: Task, split: str) -> None:
    pool: Pool = getattr(task, split)
    assert len(set(np.bincount(known(pool), minlength=62))) == 1
    assert pool.augment == Augment(pad=1, flip=False)
    assert pool.images.dtype == np.uint8


def test_no_image_is_drawn_twice(task: Task) -> None:
    images = np.concatenate([p.images for p in (task.train, task.validation, task.test)])
    assert len({hashlib.sha256(i.tobytes()).digest() for i in images}) == len(images)


def test_class_means_tell_some_letters_apart_but_not_all(task: Task) -> None:
    train, test = (p.images.reshape(len(p), -1).astype(np.float64) for p in (task.train, task.test))
    means = np.stack([train[known(task.train) == c].mean(0) for c in range(62)])
    nearest = (test @ means.T - (means**2).sum(1) / 2).argmax(1)
    accuracy = (nearest == known(task.test)).mean()
    assert 0.25 < accuracy < 0.75


def test_a_letter_drawn_without_noise_or_turning_is_its_bitmap_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NOISE", 0), ("ROTATION", 0), ("SHIFT", 0.0), ("CONTRAST", (1, 1)), ("SIZES", (13, 13))):
        monkeypatch.setattr(module, name, value)
    with np.load(module.BITMAPS) as file:
        bitmaps = file["bitmaps"].astype(np.float64)
    halves = bitmaps.reshape(-1, 16, 2, 16, 2).mean((2, 4)).reshape(62, 20, 16, 16)  # 26 px to the em becomes 13
    task = glyphs()
    errors = np.abs(halves[known(task.train)] - task.train.images).max((2, 3)).min(1)  # against the nearest font
    assert errors.max() <= 1


def test_normal_draws_have_mean_zero_and_sd_one() -> None:
    draws = Draws(1).normal(100_000) / module.ONE
    assert abs(draws.mean()) < 0.02
    assert abs(draws.std() - 1) < 0.02
    assert 0.94 < (np.abs(draws) < 1.96).mean() < 0.96
