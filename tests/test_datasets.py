"""A data set's name on the command line becomes a task, or one sentence that says why not."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from teachers.data import folders, pixels
from teachers.data.catalogue import CATALOGUE, EMBEDDED
from teachers.data.datasets import LOADERS, load
from teachers.errors import RefusedInput, UsageError
from teachers.task import Augment, Pool, known

COLOURS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200)}


def draw(
    path: Path, colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (8, 6), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def folder(root: Path, train: int = 10, test: int = 2, *, held_out: str = "", mode: str = "RGB") -> Path:
    for split, count in (("train", train), ("test", test), (held_out, 3)):
        for name, colour in COLOURS.items() if split else ():
            for i in range(count):
                draw(root / split / name / f"{i:02}.png", (colour[0], colour[1], colour[2] + i), mode=mode)
    return root


def test_the_catalogue_lists_each_embedded_task_and_both_forms() -> None:
    assert list(CATALOGUE) == ["glyphs", "digits", "DIR", "torchvision:NAME:ROOT"]
    assert EMBEDDED.keys() == LOADERS.keys()
    assert load("glyphs").name == "glyphs"


def test_digits_are_those_of_sklearn() -> None:
    from sklearn.datasets import load_digits

    task = load("digits")
    data, labels = load_digits(return_X_y=True)
    ours = np.concatenate([pool.images for pool in (task.train, task.validation, task.test)]).reshape(len(data), -1)
    theirs = (data.astype(np.int64) * 255 + 8) // 16
    numbers = np.concatenate([pool.labels for pool in (task.train, task.validation, task.test)])
    assert sorted(map(tuple, np.c_[ours, numbers])) == sorted(map(tuple, np.c_[theirs, labels]))


def test_digits_are_split_by_class_and_use_the_whole_range() -> None:
    task = load("digits")
    assert [len(p) for p in (task.train, task.validation, task.test)] == [900, 300, 597]
    assert task.shape == (1, 8, 8)
    assert task.train.augment == Augment(pad=1)
    assert (task.train.images.min(), task.train.images.max()) == (0, 255)
    for pool in (task.train, task.validation, task.test):
        shares = np.bincount(known(pool)) / len(pool)
        assert np.ptp(shares) < 0.015
    assert task.digest == load("digits").digest


def test_a_folder_becomes_a_task_with_sorted_classes_and_a_tenth_of_training_held_out(tmp_path: Path) -> None:
    task = load(str(folder(tmp_path / "pets")))
    assert task.name == "pets"
    assert task.classes == ("cat", "dog", "owl")
    assert task.shape == (3, 6, 8)
    assert [len(p) for p in (task.train, task.validation, task.test)] == [27, 3, 6]
    assert task.train.augment == task.validation.augment == task.test.augment == Augment(pad=1, flip=True)
    assert set(known(task.validation)) == {0, 1, 2}


def test_each_image_keeps_its_label_and_its_pixels(tmp_path: Path) -> None:
    task = load(str(folder(tmp_path)))
    for pool in (task.train, task.validation, task.test):
        for image, label in zip(pool.images, known(pool), strict=True):
            assert tuple(image[:2, 0, 0]) == list(COLOURS.values())[label][:2]
    blue = sorted(int(i[2, 0, 0]) for p in (task.train, task.validation) for i in p.images[known(p) == 0])
    assert blue == list(range(30, 40))


@pytest.mark.parametrize("name", ["validation", "val"])
def test_a_validation_folder_is_used_as_it_is(tmp_path: Path, name: str) -> None:
    task = load(str(folder(tmp_path, held_out=name)))
    assert [len(p) for p in (task.train, task.validation, task.test)] == [30, 9, 6]


def test_a_large_training_split_gives_up_at_least_three_thousand_images() -> None:
    labels = np.arange(15_001) % 9  # a third of an image is lost to rounding in each class
    pool = Pool(np.zeros((15_001, 1, 1, 1), np.uint8), labels)
    train, validation = folders._held_out(pool, tuple("abcdefghi"))
    assert 3_000 <= len(validation) < 3_020
    assert len(train) + len(validation) == 15_001


def test_gray_images_have_one_channel_and_one_coloured_image_makes_three(tmp_path: Path) -> None:
    folder(tmp_path, mode="L")
    assert load(str(tmp_path)).shape == (1, 6, 8)
    draw(tmp_path / "test" / "owl" / "99.png")
    assert load(str(tmp_path)).shape == (3, 6, 8)


def test_other_files_are_ignored(tmp_path: Path) -> None:
    before = load(str(folder(tmp_path))).digest
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._00.png"):
        (tmp_path / "train" / "cat" / name).write_bytes(b"no image")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    assert load(str(tmp_path)).digest == before


def test_size_resizes_the_shorter_side_and_crops_the_middle(tmp_path: Path) -> None:
    folder(tmp_path)
    wide = tmp_path / "test" / "owl" / "99.png"
    stripes = Image.new("RGB", (24, 8), (255, 0, 0))
    stripes.paste((0, 0, 255), (8, 0, 16, 8))
    stripes.save(wide)
    task = load(str(tmp_path), size=4)
    assert task.shape == (3, 4, 4)
    assert task.test.images[-1][:, 2, 2].tolist() == [0, 0, 255]


def test_the_cache_is_read_back_and_forgotten_when_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = folder(tmp_path / "pets"), tmp_path / "cache"
    cold = load(str(root), cache)
    (kept,) = (cache / "data").glob("*/*")
    assert kept.name == "images.npy"
    with monkeypatch.context() as patched:
        patched.setattr(pixels, "picture", lambda path, channels: pytest.fail(f"decoded {path} again"))
        assert load(str(root), cache).digest == cold.digest
    draw(root / "test" / "owl" / "00.png", (1, 2, 3), size=(8, 6))
    assert load(str(root), cache).digest != cold.digest
    assert load(str(root), cache, size=4).shape == (3, 4, 4)


def refusal(root: Path, size: int | None = None) -> str:
    with pytest.raises(RefusedInput) as refused:
        load(str(root), size=size)
    return str(refused.value)


def test_a_missing_folder_or_split_is_refused_by_name(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")
    assert str(tmp_path / "train") in refusal(tmp_path)
    draw(tmp_path / "train" / "cat" / "1.png")
    assert str(tmp_path / "test") in refusal(tmp_path)


def test_an_empty_class_folder_is_refused_by_name(tmp_path: Path) -> None:
    (folder(tmp_path) / "train" / "yak").mkdir()
    assert str(tmp_path / "train" / "yak") in refusal(tmp_path)


def test_an_unreadable_image_is_refused_by_name(tmp_path: Path) -> None:
    whole = (folder(tmp_path) / "train" / "cat" / "00.png").read_bytes()
    for content in (b"not an image", whole[:-30]):
        broken = tmp_path / "test" / "dog" / "01.png"
        broken.write_bytes(content)
        assert str(broken) in refusal(tmp_path)


def test_sixteen_bit_images_are_refused_by_name(tmp_path: Path) -> None:
    deep = folder(tmp_path) / "train" / "cat" / "00.png"
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(deep)
    assert str(deep) in refusal(tmp_path)


def test_two_image_sizes_are_refused_with_both_files_and_the_way_out(tmp_path: Path) -> None:
    odd = folder(tmp_path) / "test" / "dog" / "01.png"
    draw(odd, size=(9, 6))
    sentence = refusal(tmp_path)
    assert str(odd) in sentence
    assert str(tmp_path / "train" / "cat" / "00.png") in sentence
    assert "--size" in sentence


def test_classes_that_differ_between_splits_are_refused_by_name(tmp_path: Path) -> None:
    draw(folder(tmp_path) / "test" / "yak" / "1.png")
    assert "yak" in refusal(tmp_path)
    draw(tmp_path / "train" / "yak" / "1.png")
    assert "class yak has 1 training images" in refusal(tmp_path)


def test_fewer_than_two_classes_are_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    assert "at least 2" in refusal(tmp_path)
    for split in ("train", "test"):
        for i in range(3):
            draw(tmp_path / split / "cat" / f"{i}.png")
    assert "has 1 class;" in refusal(tmp_path)


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(UsageError, match="did you mean glyphs"):
        load("glyps")
    with pytest.raises(UsageError, match="did you mean CIFAR10"):
        load("torchvision:cifar_10:/data")
    with pytest.raises(UsageError, match="torchvision:NAME:ROOT"):
        load("torchvision:CIFAR10")


def test_size_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(UsageError, match="leave --size out"):
        load("digits", size=9)
    with pytest.raises(UsageError, match="at least 1 pixel"):
        load("digits", size=0)


def write_idx(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes())


def mnist(root: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = labels
        write_idx(root / name / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(root / name / "raw" / f"{part}-labels-idx1-ubyte", labels)


@pytest.mark.parametrize(("name", "flip"), [("MNIST", False), ("FashionMNIST", True)])
def test_a_torchvision_set_on_disk_is_read_and_digits_are_not_mirrored(tmp_path: Path, name: str, flip: bool) -> None:
    mnist(tmp_path, name)
    task = load(f"torchvision:{name.lower()}:{tmp_path}")
    assert task.name == name
    assert task.shape == (1, 28, 28)
    assert [len(p) for p in (task.train, task.validation, task.test)] == [30, 10, 20]
    assert len(task.classes) == 10
    for pool in (task.train, task.validation, task.test):
        assert (pool.images[:, 0, 0, 0] == known(pool)).all()
        assert pool.augment == Augment(pad=3, flip=flip)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10", "USPS"])
def test_a_torchvision_set_not_on_disk_is_refused_and_not_downloaded(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedInput, match=f"{name} finds no train split"):
        load(f"torchvision:{name}:{tmp_path}")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
