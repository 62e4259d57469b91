"""Procedural surrogate pictures are varied, unlabelled and repeatable."""

import time

import numpy as np
import pytest

from teachers.data import procedural as module
from teachers.data.procedural import procedural


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 32), (1, 28, 20), (3, 9, 17), (1, 1, 1)])
def test_any_image_shape_can_be_drawn(shape: tuple[int, int, int]) -> None:
    pool = procedural(19, shape)
    assert pool.images.shape == (19, *shape)
    assert pool.images.dtype == np.uint8
    assert pool.labels is None


def test_the_same_seed_draws_the_same_pictures_and_another_seed_others() -> None:
    assert procedural(50, (3, 8, 8), seed=1).digest == procedural(50, (3, 8, 8), seed=1).digest
    assert procedural(50, (3, 8, 8), seed=1).digest != procedural(50, (3, 8, 8), seed=2).digest


def test_at_least_half_of_any_number_of_pictures_are_strokes() -> None:
    strokes = [kind is module._strokes for kind in module.KINDS]
    for count in range(1, 2 * len(strokes) + 1):
        assert 2 * sum(strokes[i % len(strokes)] for i in range(count)) >= count


def test_pictures_differ_from_each_other_and_none_is_blank() -> None:
    images = procedural(2_000, (1, 16, 16)).images.reshape(2_000, -1)
    assert len(np.unique(images, axis=0)) == 2_000
    assert images.std(axis=1).min() > 2
    assert images.min() == 0
    assert images.max() == 255


def test_grounds_are_dark_and_light_and_ink_is_lighter_and_darker() -> None:
    images = procedural(2_000, (1, 16, 16)).images.reshape(2_000, -1).astype(np.float64)
    medians = np.median(images, axis=1)
    assert 0.3 < (medians < 64).mean() < 0.9
    assert (medians > 128).mean() > 0.1
    skew = images.mean(axis=1) - medians
    assert 0.2 < (skew > 0).mean() < 0.9


def test_colour_pictures_have_colour() -> None:
    images = procedural(200, (3, 16, 16)).images.astype(np.float64).mean((2, 3))
    assert np.median(np.ptp(images, axis=1)) > 10


def test_pictures_do_not_depend_on_how_many_are_drawn_after_them_in_later_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHUNK", 16 * 16 * 16)
    few, many = procedural(32, (1, 16, 16)), procedural(64, (1, 16, 16))
    assert (many.images[:32] == few.images).all()


def test_every_kind_leaves_ink_and_ground() -> None:
    rng = np.random.default_rng(0)
    side = ((np.arange(32) + 0.5 - 16) / 16).astype(np.float32)
    for draw in set(module.KINDS):
        ink = draw(200, side[:, None], side[None, :], 1 / 16, rng)
        assert ink.min() >= 0
        assert ink.max() <= 1
        assert ((ink.max((1, 2)) > 0.5) & (ink.min((1, 2)) < 0.5)).mean() > 0.9


def test_twenty_thousand_small_pictures_take_seconds() -> None:
    start = time.process_time()
    assert len(procedural(20_000, (1, 16, 16))) == 20_000
    assert time.process_time() - start < 5
