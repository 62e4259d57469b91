"""Near-duplicates among test images are found, in independent ones none are; and what the flags make of them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from audit.analysis.image_flags import near_duplicates as flagged
from audit.analysis.image_flags import numbered_files
from audit.statistics.image_groups import resemblance
from reports.record import PackedArray
from teachers.data import glyphs
from teachers.data import resemblance as measure
from teachers.data.datasets import load
from teachers.data.resemblance import near_duplicates
from teachers.task import Images, Pool, Task

FREQUENCIES = np.fft.fftfreq(32)
SMOOTH = np.maximum(np.hypot(FREQUENCIES[:, None], FREQUENCIES), 1 / 32)  # natural images: amplitude 1/f


def scenes(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw independent images with the spectrum of natural ones, (number, 3, 32, 32), of standard deviation 1."""
    found = np.fft.ifft2(np.fft.fft2(rng.standard_normal((number, 3, 32, 32))) / SMOOTH).real
    return found / found.std()


def film(films: int, frames: int, change: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw frames that differ from their film's scene by so many standard deviations."""
    return np.repeat(scenes(films, rng), frames, axis=0) + change * scenes(films * frames, rng)


def task(test: NDArray[np.float64] | Images, train: NDArray[np.float64] | Images) -> Task:
    test_, train_ = (
        a if a.dtype == np.uint8 else np.clip(128 + 50 * a, 0, 255).astype(np.uint8) for a in (test, train)
    )
    return Task("drawn", ("a", "b"), Pool(train_), Pool(train_[:0]), Pool(test_))


def effect(found: NDArray[np.uint32] | None, images: int) -> float:
    """Return the design effect of near-duplicates with equal margins."""
    return 1.0 if found is None else float((np.bincount(found) ** 2).sum() / images)


@pytest.mark.parametrize("change", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("frames", [2, 5, 20])
def test_frames_of_films_that_are_in_the_test_split_alone_are_found(frames: int, change: float) -> None:
    rng = np.random.default_rng(frames)
    films = 400 // frames
    found = near_duplicates(task(film(films, frames, change, rng), film(films, frames, change, rng)))
    assert effect(found, 400) > 0.9 * frames
    assert found is not None
    inside = np.repeat(np.arange(films), frames)
    assert all(len(set(inside[found == number])) == 1 for number in np.unique(found)), "no two films are joined"


@pytest.mark.parametrize("frames", [5, 20])
def test_frames_of_films_that_are_in_both_splits_are_found_where_they_are_nearly_equal(frames: int) -> None:
    rng = np.random.default_rng(frames)
    both = rng.permutation(film(800 // frames, frames, 0.05, rng))
    assert effect(near_duplicates(task(both[:400], both[400:])), 400) > 1.5


def test_copies_that_were_compressed_brightened_or_repeated_are_found() -> None:
    rng = np.random.default_rng(0)
    one = np.clip(128 + 50 * scenes(100, rng), 0, 255).astype(np.uint8)
    coarse = (one // 8 * 8 + 4).astype(np.uint8)
    brighter = np.clip(one.astype(int) + 4, 0, 255).astype(np.uint8)
    found = near_duplicates(task(np.concatenate([one, coarse, brighter, one]), scenes(400, rng)))
    assert found is not None
    assert found.tolist() == list(range(100)) * 4


@pytest.mark.slow
def test_independent_images_raise_nothing() -> None:
    """Drawn characters, written digits in a hundred splits, and scenes: not one flag, so at most 1 % (n = 122)."""
    for name in ("glyphs", "digits"):
        assert near_duplicates(load(name)) is None
    digits = load("digits")
    images = np.concatenate([pool.images for pool in (digits.train, digits.validation, digits.test)])
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(len(images))
        assert near_duplicates(task(images[order[:597]], images[order[597:]])) is None
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert near_duplicates(task(scenes(300, rng), scenes(300, rng))) is None


@pytest.mark.slow
def test_other_draws_of_the_characters_raise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more images are drawn than are compared: as many of the other splits as of the test split."""
    for name, count in (("TRAIN", 30), ("VALIDATION", 1), ("TEST", 30)):
        monkeypatch.setattr(glyphs, name, count)
    for seed in range(50):
        monkeypatch.setattr(glyphs, "SEED", seed)
        assert near_duplicates(glyphs.glyphs()) is None


def test_images_of_few_kinds_that_are_everywhere_alike_are_not_copies() -> None:
    """Points of three dimensions are near each other because there are many: what is told of them does not cap."""
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((3, 768))
    test, train = (rng.standard_normal((n, 3)) @ plane for n in (600, 600))
    shaped = [a.reshape(-1, 3, 16, 16) / 3 for a in (test, train)]
    raised = flagged(near_duplicates(task(*shaped)), None)
    assert raised is None or raised.caps == "nothing"


def test_few_images_or_blank_ones_are_no_trouble() -> None:
    blank = np.zeros((10, 1, 4, 4), np.uint8)
    found = near_duplicates(task(blank, blank))
    assert found is not None
    assert set(found.tolist()) == {0}
    for number in (0, 1, 2):
        assert near_duplicates(task(blank[:number], blank)) is None
    lone = scenes(40, np.random.default_rng(0))
    assert near_duplicates(task(lone, lone[:0])) is None


def test_of_many_images_rows_of_neighbours_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MOST", 200)
    rng = np.random.default_rng(0)
    found = near_duplicates(task(film(100, 10, 0.1, rng), film(40, 10, 0.1, rng)))
    assert found is not None
    assert found.shape == (1000,)
    sizes = np.bincount(found)
    assert sizes.max() == 10
    assert (sizes[sizes > 1].sum(), len(measure.compared(1000))) == (200, 200)


def test_the_flag_caps_where_copies_are_many_and_their_groups_were_not_given() -> None:
    frames = np.arange(1_000) // 20
    raised = flagged(frames, None)
    assert raised is not None
    assert (raised.id, raised.caps) == ("near-duplicates", "inconclusive")
    assert "1,000 of 1,000 test images" in raised.found
    assert "--groups" in raised.do
    assert flagged(frames, frames) is None
    assert flagged(frames, np.arange(1_000) // 40) is None, "larger groups hold them, too"
    halved = flagged(frames, np.arange(1_000) // 10)
    assert halved is not None
    assert halved.caps == "inconclusive"
    assert flagged(None, None) is None


def test_few_copies_are_told_and_do_not_cap() -> None:
    pairs = np.arange(1_000)
    pairs[900:950] = pairs[950:]
    raised = flagged(pairs, None)
    assert raised is not None
    assert raised.caps == "inconclusive", "50 pairs: 1.1 times the variance"
    pairs = np.arange(1_000)
    pairs[980:990] = pairs[990:]
    raised = flagged(pairs, None)
    assert raised is not None
    assert raised.caps == "nothing"
    pairs = np.arange(1_000)
    pairs[998] = pairs[999]
    assert flagged(pairs, None) is None


def margins(rng: np.random.Generator, groups: NDArray[np.int64], shared: float) -> NDArray[np.float64]:
    """Draw margins (N,) of five seeds whose groups share a part of their variance; most are zero, as of students."""
    latent = np.sqrt(shared) * rng.standard_normal(groups.max() + 1)[groups]
    latent = latent + np.sqrt(1 - shared) * rng.standard_normal(len(groups))
    return np.clip(np.rint(latent * 1.2), -2, 2) / 5 + 0.01


def test_names_cap_only_where_margins_of_one_stem_are_alike() -> None:
    rng = np.random.default_rng(0)
    groups, labels = np.arange(2_000) // 10, np.arange(2_000) // 200
    alike = numbered_files(groups, labels, margins(rng, groups, 0.5))
    apart = numbered_files(groups, labels, margins(rng, groups, 0.0))
    unknown = numbered_files(groups, labels, None)
    assert [flag and flag.caps for flag in (alike, apart, unknown)] == ["inconclusive", "nothing", "nothing"]
    assert numbered_files(None, labels, margins(rng, groups, 0.5)) is None
    assert alike is not None
    assert "200 groups" in alike.found


def test_independent_margins_seldom_cap_whatever_their_names() -> None:
    """One in a hundred; classes that differ, unequal groups, and groups across classes change nothing."""
    rng = np.random.default_rng(1)
    capped = 0
    for draw in range(1_000):
        sizes = rng.integers(1, 12, 200)
        groups = np.repeat(np.arange(200), sizes)
        labels = groups % 10 if draw % 2 else np.arange(len(groups)) % 10
        found = numbered_files(groups, labels, margins(rng, groups, 0) + 0.1 * labels)
        assert found is not None
        capped += found.caps != "nothing"
    assert capped / 1_000 <= 0.01


def test_resemblance_is_the_one_way_analysis_of_variance() -> None:
    from scipy.stats import f_oneway

    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 8)
    values = margins(rng, groups, 0.4)
    found = resemblance(values, groups, np.zeros(240, int))
    theirs = f_oneway(*values.reshape(30, 8))
    assert found is not None
    assert found.p == pytest.approx(theirs.pvalue)
    correlation = (theirs.statistic - 1) / (theirs.statistic + 7)
    assert found.correlation == pytest.approx(correlation)
    assert found.effect == pytest.approx(1 + 7 * correlation)
    assert resemblance(np.ones(240), groups, np.zeros(240, int)) is None
    assert resemblance(values, np.arange(240), np.zeros(240, int)) is None


def test_films_in_an_image_folder_are_found_and_can_be_packed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for c in ("cat", "dog"):
            (tmp_path / split / c).mkdir(parents=True)
            for i, image in enumerate(film(10, 5, 0.1, rng)):
                pixels = np.clip(128 + 50 * image, 0, 255).astype(np.uint8).transpose(1, 2, 0)
                Image.fromarray(pixels).save(tmp_path / split / c / f"{split}{i // 5}_{i % 5}.png")
    alike = near_duplicates(load(str(tmp_path)))
    assert alike is not None
    assert alike.tolist() == [i // 5 for i in range(100)]
    assert PackedArray.of(alike).array().tolist() == alike.tolist()
