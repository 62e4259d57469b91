"""`--groups` becomes the group of every test image, or one sentence that says why not."""

from pathlib import Path

import numpy as np
import pytest

from teachers.data.datasets import load
from teachers.data.grouping import suggested, test_groups
from teachers.errors import AuditError, RefusedInput, UsageError
from teachers.names import STEM
from teachers.task import Pool, Task

test_groups.__test__ = False  # type: ignore[attr-defined]  # a function of ours, no test

FILES = ("cat/clip1_0001.png", "cat/clip1_0002.png", "cat/clip2_0001.png", "dog/clip1_0001.png", "dog/still.png")


def task(*files: str, images: int = 5) -> Task:
    pool = Pool(np.zeros((len(files) or images, 1, 2, 2), np.uint8))
    return Task("pets", ("cat", "dog"), pool, pool, pool, files)


def written(folder: Path, text: str | bytes, name: str = "groups.csv") -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / name)


def groups(asked: str, of: Task) -> list[int]:
    found = test_groups(asked, of)
    assert found is not None
    assert found.dtype == np.uint32
    return found.tolist()


def test_nothing_asked_is_no_groups() -> None:
    assert test_groups("", task(*FILES)) is None


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        (STEM, [0, 0, 1, 2, 3]),
        (r"(clip\d|still)", [0, 0, 1, 0, 2]),
        (r"^(\w+)/", [0, 0, 0, 1, 1]),
        (r"^(?:cat|dog)/(.*?)(_\d+)?\.", [0, 0, 1, 0, 2]),
    ],
)
def test_a_pattern_groups_by_what_its_first_brackets_hold(pattern: str, numbers: list[int]) -> None:
    assert groups(pattern, task(*FILES)) == numbers


def test_a_file_names_images_by_path_by_name_or_by_number(tmp_path: Path) -> None:
    of = task(*FILES)
    by_path = "file,film\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(FILES))
    assert groups(written(tmp_path, by_path), of) == [0, 1, 0, 1, 0]
    with_split = "".join(f"test/{name}, f{i}\r\n" for i, name in enumerate(FILES)) + "train/cat/x.png,f9\r\n\r\n"
    assert groups(written(tmp_path, "\ufeff" + with_split), of) == [0, 1, 2, 3, 4]
    bare = [name if "clip1_0001" in name else name.partition("/")[2] for name in FILES]
    assert groups(written(tmp_path, "".join(f'"{name}","1, 2"\n' for name in bare[:4]) + f"{bare[4]},x"), of) == [
        0
    ] * 4 + [1]
    numbers = "index,group\n" + "".join(f"{i},{i // 2}\n" for i in reversed(range(5)))
    assert groups(written(tmp_path, numbers, "groups.txt"), task()) == [0, 0, 1, 1, 2]


def test_a_file_with_brackets_in_its_name_is_a_file(tmp_path: Path) -> None:
    text = "".join(f"{i},{i}\n" for i in range(5))
    assert groups(written(tmp_path, text, "groups (1)"), task()) == [0, 1, 2, 3, 4]


def test_glyphs_know_the_font_and_the_variant_of_their_images() -> None:
    glyphs = load("glyphs")
    fonts, variants = (np.array(groups(name, glyphs)) for name in ("font", "variant"))
    assert fonts.max() + 1 == 20
    assert variants.max() + 1 == 1228
    labels = np.tile(np.arange(62), 100)
    for variant in range(50):
        mine = variants == variant
        assert len(set(fonts[mine])) == len(set(labels[mine])) == 1


FAULTS = {
    "a pattern without brackets": ("clip", UsageError, "no pattern with a group in brackets"),
    "no pattern": ("(clip", UsageError, "is no pattern"),
    "a pattern that is no string of bytes": ("(\\", UsageError, "is no pattern"),
    "a pattern too large": ("(a){99999999999999999999}", UsageError, "is no pattern"),
    "a pattern that misses an image": (r"(clip\d)", UsageError, "gives no group to 1 of 5 test images (dog/still.png)"),
    "a pattern whose brackets stay empty": (r"cat|dog|(x)", UsageError, "gives no group to 5 of 5"),
    "a pattern that makes one group": (r"(\.png)", UsageError, "puts all 5 test images into one group"),
    "no file": ("nothing.csv", RefusedInput, "there is no file"),
    "a long name": ("x" * 5_000, UsageError, "no pattern with a group in brackets"),
    "NUL": ("a\0b", UsageError, "no pattern with a group in brackets"),
    "an unknown home": ("~nobody-here/(x)", UsageError, "is not a known home folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pattern_that_cannot_be_used_gets_a_sentence(fault: str) -> None:
    asked, error, sentence = FAULTS[fault]
    with pytest.raises(error) as raised:
        test_groups(asked, task(*FILES))
    assert sentence in str(raised.value)
    assert str(raised.value).count("\n") == 0
    assert len(str(raised.value)) < 600


TEXTS: dict[str, tuple[str | bytes, str]] = {
    "an empty file": ("", "is empty"),
    "blank lines": ("\n\n ,\n", "is empty"),
    "one column": ("cat/clip1_0001.png\n", "line 1 has 1 columns"),
    "three columns": ("a,b,c\n", "line 1 has 3 columns"),
    "an empty group": ("dog/still.png,\n", "line 1 has an empty cell"),
    "an unknown image": ("dog/still.png,a\ncow/1.png,b\n", "line 2: cow/1.png is not a file of the test split"),
    "a name of two classes": ("clip1_0001.png,a\n", "line 1: clip1_0001.png is not a file"),
    "two groups for one image": ("dog/still.png,a\nstill.png,b\n", "is in two groups, a and b"),
    "an image without a group": ("dog/still.png,a\n", "gives no group to 4 of 5 test images"),
    "one group": ("".join(f"{name},a\n" for name in FILES), "into one group"),
    "UTF-16": ("dog/still.png,a\n".encode("utf-16"), "is not UTF-8 text"),
    "bytes": (b"\xff\xfe\x00\x01,\x80", "is not UTF-8 text"),
    "NUL": (b"dog/still.png,a\0\n", "gives no group to 4 of 5"),
    "a heading alone": ("file,group\n", "gives no group to 5 of 5"),
    "a heading in the middle": ("dog/still.png,a\nfile,group\n", "line 2: file is not a file"),
    "a field without an end": ('"dog/still.png,a\n' + "x" * 200_000, "field larger than field limit"),
    "a name without an end": ("x" * 100_000 + ",a\n", "is not a file of the test split"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_file_that_cannot_be_used_gets_a_sentence(text: str, tmp_path: Path) -> None:
    content, sentence = TEXTS[text]
    with pytest.raises(AuditError) as raised:
        test_groups(written(tmp_path, content), task(*FILES))
    assert sentence in str(raised.value)
    assert len(str(raised.value)) < 1_000


def test_a_folder_of_groups_is_refused(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").mkdir()
    with pytest.raises(RefusedInput, match="is a folder"):
        test_groups(str(tmp_path / "groups.csv"), task(*FILES))


def test_images_without_names_need_a_file_of_numbers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"have no file names; give a CSV file .* number of the image from 0 to 4"):
        test_groups(r"(.+)_\d+", task())
    with pytest.raises(UsageError, match="5 is not the number of a test image, 0 to 4"):
        test_groups(written(tmp_path, "5,a\n"), task())


def named(stems: int, each: int, form: str = "c/{stem}_{i:04}.png") -> tuple[str, ...]:
    return tuple(form.format(stem=f"clip{s}", s=s, i=i) for s in range(stems) for i in range(each))


SUGGESTING = {
    "frames": named(8, 5),
    "frames without a line between": named(8, 5, "c/{stem}-{i}.jpg"),
    "numbers of films": named(8, 5, "c/{s:03} {i}.png"),
    "days and times": named(8, 5, "c/2020010{s}_12{i:04}.jpg"),
    "patients": named(8, 5, "c/patient{s}.slice{i}.png"),
    "some frames among stills": named(4, 5) + tuple(f"c/still-{chr(97 + i)}.png" for i in range(26)),
}
SILENT = {
    "numbered files": tuple(f"{c}/{i:05}.png" for c in "ab" for i in range(50)),
    "files numbered in their class": tuple(f"{c}/{c}_{i}.png" for c in ("cat", "dog") for i in range(50)),
    "files numbered through": tuple(f"{c}/IMG_{i}.JPEG" for c in ("cat", "dog") for i in range(50)),
    "the number first": tuple(f"a/{i}_airplane.png" for i in range(50)),
    "names": tuple(f"a/{chr(97 + i)}{chr(97 + j)}.png" for i in range(7) for j in range(7)),
    "a few pairs": (*(f"a/x{chr(97 + i)}.png" for i in range(26)), "a/y1.png", "a/y2.png"),
    "no files": (),
}


@pytest.mark.parametrize("names", SUGGESTING)
def test_names_with_running_numbers_suggest_what_their_pattern_makes(names: str) -> None:
    found = suggested(task(*SUGGESTING[names]))
    assert found is not None
    assert found.tolist() == groups(STEM, task(*SUGGESTING[names]))
    assert len(set(found.tolist())) < len(found) / 1.5


@pytest.mark.parametrize("names", SILENT)
def test_names_that_number_the_files_of_a_class_suggest_nothing(names: str) -> None:
    assert suggested(task(*SILENT[names])) is None


def test_names_of_hashes_suggest_nothing() -> None:
    rng = np.random.default_rng(0)
    assert suggested(task(*(f"c/{rng.bytes(n).hex()}.jpg" for n in (4, 8, 16) for _ in range(1_000)))) is None


def test_a_folder_knows_the_files_of_its_test_split(tmp_path: Path) -> None:
    from PIL import Image

    for split, films in (("train", "xy"), ("test", "ab")):
        for c in ("cat", "dog"):
            (tmp_path / split / c).mkdir(parents=True)
            for i in range(4):
                Image.new("L", (8, 8), 40 * i).save(tmp_path / split / c / f"{films[i // 2]}_{i}.png")
    found = load(str(tmp_path))
    assert found.files == tuple(f"{c}/{'ab'[i // 2]}_{i}.png" for c in ("cat", "dog") for i in range(4))
    assert groups(r"([ab])_\d", found) == [0, 0, 1, 1] * 2
