"""How names are written and suggested, and what is wrong with a TOML file said, wherever that is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.plan.toml_files import MOST, Purpose, opened
from teachers.errors import UsageError
from teachers.names import in_quotes, nearest, quoted

PURPOSE = Purpose("--options", "put text in quotes", "there is one level")
POLICY = Purpose("--policy", "put text in quotes", "there is one level", noun="policy")


def test_names_are_suggested_whatever_their_case() -> None:
    known = ["CIFAR10", "MNIST", "glyphs"]
    assert nearest("cifr10", known) == "did you mean CIFAR10?"
    assert nearest("x", known) == "there are CIFAR10, MNIST, glyphs"
    assert nearest("x", []) == "there are none"
    assert nearest("x", known, otherwise="use a folder") == "use a folder"
    assert nearest("glyph", known, otherwise="use a folder") == "did you mean glyphs?"
    assert nearest("glyph", known, otherwise="or use a folder", always=True) == "did you mean glyphs? or use a folder"
    assert nearest("mnist", ["MNIST", "KMNIST"], most=2) == "did you mean MNIST or KMNIST?"


def test_a_name_stands_in_quotes_where_a_list_needs_them() -> None:
    assert [quoted(name) for name in ("a", "a, b", 'a"b')] == ["a", '"a, b"', '"a""b"']
    assert in_quotes("a") == '"a"'


@pytest.mark.parametrize("purpose", [PURPOSE, POLICY])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"cannot read (the policy )?.*f.toml \(No such file or directory\); give a TOML file with --"),
        (b"#" * (MOST + 1), r"(the policy )?.*f.toml is larger than 1.* MiB; give a TOML file with --"),
        (b"\xff\xfea", r"is UTF-16 text; save it as UTF-8; give a TOML file with --"),
        (b"a = b", r"is not valid TOML: .*; put text in quotes$"),
        (b"a = " + b"[" * 9_000, r"is nested too deeply; there is one level$"),
        (b"a = " + b"9" * 9_000, r"is not (valid TOML|a policy): a number in it has thousands of digits$"),
    ],
)
def test_a_toml_file_is_read_or_refused_with_a_sentence(
    tmp_path: Path, purpose: Purpose, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "f.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        opened(path, purpose).content()


def test_an_error_in_a_toml_file_names_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text("a = 1\n[[b]]\nc = 2\n")
    found = opened(path, PURPOSE)
    assert found.content() == {"a": 1, "b": [{"c": 2}]}
    assert str(found.wrong(("b", 0, "c"), "is odd")) == f"{path}, line 3: b.c is odd"
