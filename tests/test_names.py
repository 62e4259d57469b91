"""Names of classes in a list, and names that come with the tool beside files of the user's."""

from pathlib import Path

import hostile_images as hostile
import pytest
from command_line import call

from audit.plan.embedded import meant
from audit.plan.names import classes, text_of
from teachers.data.catalogue import EMBEDDED
from teachers.errors import UsageError
from teachers.intake import reordered
from teachers.intake.assemble import Teacher
from teachers.names import BUILT_IN

KNOWN = ("a", "b", "a,b", "tench, Tinca tinca", 'say "a"', hostile.COMPOSED, '"a"', "")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ("a",)),
        ("b,a", ("b", "a")),
        ("a,b", ("a,b",)),  # a name that is there as it stands
        ("a , b", ("a,b",)),
        ('"a",b', ("a", "b")),
        ('"a","b"', ("a", "b")),
        ("b,a,b", ("b", "a,b")),
        ("tench, Tinca tinca", ("tench, Tinca tinca",)),
        ("a,tench,Tinca tinca,b", ("a", "tench, Tinca tinca", "b")),
        ('say "a"', ('say "a"',)),
        ('"say ""a"""', ('say "a"',)),
        (hostile.DECOMPOSED, (hostile.COMPOSED,)),
        ("a,,a, ", ("a",)),
        ("", ()),
    ],
)
def test_a_list_of_classes_may_hold_names_with_commas(text: str, names: tuple[str, ...]) -> None:
    assert classes(text, KNOWN) == (names, "")


@pytest.mark.parametrize(("text", "unknown"), [("c", "c"), ("a,c,b", "c"), ("tench", "tench"), ('"', '"')])
def test_the_first_name_that_is_none_is_returned(text: str, unknown: str) -> None:
    assert classes(text, KNOWN)[1] == unknown


def test_a_list_is_written_so_that_it_is_read_back() -> None:
    for names in (KNOWN[:2], KNOWN[2:5], KNOWN[::-1][1:], ("b", '"a"')):
        assert classes(text_of(names), KNOWN) == (tuple(names), "")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_folder_called_like_an_embedded_data_set_stops_every_command(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile.folder(here / name)
    for command in (
        ("run", "--teacher", "demo", "--data", name),
        ("plan", "--teacher", "demo", "--data", name),
        ("cmi", "--teacher", "demo", "--data", name),
        ("inspect", "m.pt", "--data", name),
        ("teach", "plain", "--out", "m.pt", "--data", name),
        ("cache", "warm", "--teacher", "demo", "--data", name),
    ):
        code, _, err = call(capsys, *command)
        assert (code, err.count("\n")) == (2, 1), err
        assert f"give embedded:{name} or ./{name}" in err


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_file_called_like_a_built_in_teacher_stops_every_command(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / name).write_bytes(b"a checkpoint")
    for command in (("run", "--teacher", name), ("cmi", "--teacher", name), ("inspect", name)):
        code, _, err = call(capsys, *command)
        assert (code, err.count("\n")) == (2, 1), err
        assert f"give embedded:{name} or ./{name}" in err


def test_both_can_be_named_without_doubt(here: Path) -> None:
    hostile.folder(here / "digits")
    assert meant("embedded:digits", EMBEDDED, "data set") == "digits"
    assert meant("./digits", EMBEDDED, "data set") == "./digits"
    assert meant(str(here / "digits"), EMBEDDED, "data set") == str(here / "digits")
    assert meant("glyphs", EMBEDDED, "data set") == "glyphs"
    with pytest.raises(UsageError, match="no data set called 'cifar' comes with the tool"):
        meant("embedded:cifar", EMBEDDED, "data set")


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_whatever_lies_there_counts(make: "hostile.Put", here: Path) -> None:
    make(here / "demo")
    with pytest.raises(UsageError, match=r"embedded:demo or \./demo"):
        meant("demo", BUILT_IN, "teacher")


@pytest.mark.parametrize("written", [".lock", "audit.id", "record.json", "cmi.json", "surfaces"])
def test_an_audit_may_be_called_like_its_teacher(written: str, here: Path) -> None:
    """`--out demo`: the same command goes on from there."""
    (here / "demo").mkdir()
    (here / "demo" / written).touch()
    assert meant("demo", BUILT_IN, "teacher") == "demo"


def test_a_teacher_to_start_from_may_be_called_like_a_built_in_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "demo").write_bytes(b"no checkpoint")
    code, _, err = call(capsys, "teach", "nasty", "--out", "m.pt", "--data", "digits", "--init", "./demo")
    assert code == 4, err
    assert "demo" in err


def test_the_order_of_outputs_compares_names_as_they_are_read() -> None:
    teacher = Teacher("t", "0", None, "a", "m", (0.0,), (1.0,))
    assert reordered(teacher, (hostile.DECOMPOSED, "dog"), (hostile.COMPOSED, "dog")) is teacher
    with pytest.raises(UsageError, match="only one has 'cat'"):
        reordered(teacher, (hostile.DECOMPOSED, "cat"), (hostile.COMPOSED, "dog"))
