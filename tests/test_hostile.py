"""Files that mean harm, and broken ones: no code runs, one sentence, exit code 4, and no child above its limits."""

import tempfile
from pathlib import Path

import hostile
import pytest
from command_line import call
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from teachers import intake
from teachers.errors import RefusedInput

CASES = hostile.cases()


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_a_sentence_and_nothing_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], grown: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = CASES[name](tmp_path)
    arch = [] if path.suffix == ".onnx" else ["--arch", hostile.ARCH]
    code, out, err = call(capsys, "cmi", "--teacher", str(path), *arch, "--data", "digits")
    assert (code, out) == (4, ""), err
    err = "".join(line for line in err.splitlines(keepends=True) if not line.endswith(" so far\n"))  # on a busy machine
    assert err.startswith("audit: ")
    assert err.count("\n") == 1
    assert len(err) > 40
    assert "Traceback" not in err
    assert not (tmp_path / hostile.MARKER).exists()


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "pickles: partial in a zip": r"would run functools\.partial, posix\.system",
        "pickles: old container, evil system": r"would run posix\.system",
        "pickles: protocol 4": r"would run code when opened \(posix\.system\)",
        "zips: bomb in the index": "a zip bomb",
        "zips: members that overlap": "damaged or hostile",
        "zips: a size too large": "declares two sizes",
        "zips: encrypted": "is encrypted",
        "zips: two members of one name": "several members of one name",
        "zips: a large index": "an index of 34.0 MiB, above 32 MiB",
        "zips: a storage halved": r"record size \(72 bytes\) does not match",
        "tensors: by no stride": "declares 1000000 values, more than the file holds",
        "tensors: beyond its storage": "not resizable",
        "tensors: too many keys": "120000 keys",
        "tensors: sparse": "is sparse",
        "safetensors: a header above the limit": "has a header of",
        "safetensors: too many keys": "100001 keys",
        "folders: linked weights": r"model\.safetensors is a symbolic link",
        "folders: a link to a device": "is a symbolic link",
        "folders: code of its own": "auto_map",
        "folders: shards outside": "is not in the folder",
        "folders: exec in weights": r"would run __builtin__\.exec",
        "programs: torchscript": r"TorchScript program \(__torch__/evil\.py\)",
        "programs: a compiled export": r"torch\.export program \(.*x\.so\)",
        "places: larger than memory": "may take 4.0 TiB of memory to open",
        "places: a pipe": "not a regular file",
    }.items(),
)
def test_the_sentence_says_what_is_wrong(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match=words):
        intake.open_weights(CASES[name](tmp_path))


@pytest.mark.skipif(not hostile.has("onnx"), reason="the extra [onnx] is not installed")
@pytest.mark.parametrize(
    ("name", "words"),
    {
        "above its folder": "outside the folder",
        "at an absolute place": "outside the folder",
        "behind a link": "outside the folder of the file or behind a link",
        "too short": "does not hold as many bytes",
        "values missing": "2556 bytes but its shape declares 2560",
        "nan": "has NaN values",
        "an empty graph": "an empty graph",
        "a foreign operator": "is not accepted by onnxruntime",
    }.items(),
)
def test_the_sentence_says_what_is_wrong_with_an_onnx_file(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match=words):
        intake.open_weights(CASES[f"onnx_files: {name}"](tmp_path))


GOOD = hostile.good()


@pytest.mark.parametrize("name", GOOD)
def test_the_good_ones_open(name: str, tmp_path: Path) -> None:
    path = hostile.put(GOOD[name])(tmp_path)
    assert intake.open_weights(path).kind == {"zip": "torch", "legacy": "torch-legacy"}.get(name, name)


Edit = tuple[int, int, bytes]  # where, how many bytes go, what comes
EDIT = st.tuples(st.integers(0, 2**20), st.integers(0, 64), st.binary(max_size=16))


@pytest.mark.parametrize("name", GOOD)
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
@example(edits=[(0, 0, b"\x00")])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_opens_or_is_refused(name: str, edits: list[Edit], grown: list[int]) -> None:
    mutate(name, edits)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
@given(edits=st.lists(EDIT, min_size=1, max_size=8))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_mutated_files_open_or_are_refused(name: str, edits: list[Edit], grown: list[int]) -> None:
    mutate(name, edits)


def mutate(name: str, edits: list[Edit]) -> None:
    content = bytearray(GOOD[name])
    for at, gone, new in edits:
        start = at % (len(content) + 1)
        content[start : start + gone] = new
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pt"
        path.write_bytes(content)
        try:
            assert intake.open_weights(path).sha256
        except RefusedInput as e:
            refusal = str(e)
        else:
            return
    assert "\n" not in refusal
    assert refusal.startswith(str(path))
