"""Students of a record are trained again from the record alone."""

import shutil
from pathlib import Path

import pytest

from audit.finished.repeat import repeat
from audit.finished.verify import verify
from reports.record import PackedArray, load, save
from teachers.errors import RefusedInput

pytestmark = pytest.mark.usefixtures("tiny")


def test_students_come_out_as_the_record_says(finished: Path, kept: Path) -> None:
    found = list(repeat(finished, 4, seed=1, cache=kept))
    assert len(found) == 4
    assert len({one.trial.key for one in found}) == 4
    assert all(one.same_build and one.agrees and one.differs == 0 for one in found)


@pytest.mark.slow
def test_a_student_that_was_reported_better_than_it_is_differs(finished: Path, kept: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    record = load(folder)
    trials = []
    for trial in record.trials:
        if trial.test_correct is not None and trial.kind == "attack":
            bits = trial.test_correct.array()
            bits[:] = True
            trials.append(trial.model_copy(update={"test_correct": PackedArray.of(bits)}))
        else:
            trials.append(trial)
    save(record.model_copy(update={"trials": tuple(trials)}), folder / "record.json")
    found = list(repeat(folder, 8, cache=kept))
    assert {one.trial.kind for one in found if not one.agrees} == {"attack"}
    assert {one.trial.kind for one in found if one.agrees} == {"control"}


def test_a_student_that_was_trained_otherwise_than_its_name_says_is_refused(
    finished: Path, kept: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    record = load(folder)
    trials = [t.model_copy(update={"cell": t.cell.model_copy(update={"version": "9"})}) for t in record.trials]
    save(record.model_copy(update={"trials": tuple(trials)}), folder / "record.json")
    with pytest.raises(RefusedInput, match="does not match the cell that the record gives for it"):
        list(repeat(folder, 1, cache=kept))
    assert any(d.where.startswith("student ") for d in verify(folder))
