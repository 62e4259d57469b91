"""Every student that a row compares is the one that it names, and the best of what was tried on validation images."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audits import TINY, request, smoke
from record_changes import Change, bite_of, found_in, of, of_bite, renamed, rewritten
from shipped import STUDENT

from audit import pipeline
from audit.analysis.derive import derived
from audit.finished.verify import verify
from audit.plan.suite import EFFORTS
from reports.record import PackedArray, Parameters, Record, Trial, load

pytestmark = pytest.mark.usefixtures("curves_once")

APART = replace(
    TINY, name="tiny-apart", attacks=("soft-kd", "dist", "label-mixup", "knockoff", "noise"), controls=("ce", "dist-ls")
)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an audit of a teacher that is not the ordinary one, with baselines."""
    place = tmp_path_factory.mktemp("apart")
    with smoke(APART):
        return pipeline.run(request(place / "cache", place / "out", teacher="placebo")).folder


def tuned(record: Record, name: str, teacher: str | None, **parameters: object) -> list[Trial]:
    """Return students that an attack or a control was tuned with."""
    same = (t for t in record.trials if (t.name, t.role, t.teacher) == (name, "tune", teacher))
    return [t for t in same if parameters.items() <= t.parameters.items()]


def unchosen(trials: list[Trial], parameters: Parameters) -> set[str]:
    return {t.cell for t in trials if t.parameters != parameters}


def better(cells: Callable[[Record], set[str]]) -> Change:
    """Let students be right on all validation images that were not chosen for it."""

    def changed(record: Record) -> Record:
        all_, chosen = PackedArray.of(np.ones(record.task.validation, bool)), cells(record)
        assert chosen
        trials = (t.model_copy(update={"validated": all_}) if t.cell in chosen else t for t in record.trials)
        return record.model_copy(update={"trials": tuple(trials)})

    return changed


def parameters_of(record: Record, cells: tuple[str, ...]) -> Parameters:
    return next(t.parameters for t in record.trials if t.cell in cells)


def untuned(record: Record) -> Record:
    gone = tuned(record, "ls", None, view="mixup")
    assert gone
    return record.model_copy(update={"trials": tuple(t for t in record.trials if t not in gone)})


def unplanned(record: Record) -> Record:
    first, *others = record.trials
    return record.model_copy(update={"trials": (first.model_copy(update={"planned": None}), *others)})


NULLS = f"ls (null) on {STUDENT}"
MISTAKEN: dict[str, tuple[Change, str]] = {
    "a bite of another attack": (
        of_bite("soft-kd", lambda r: {"students": bite_of(r, "dist").students}),
        "students of the bite of soft-kd",
    ),
    "a bite of the audited teacher": (
        of_bite("soft-kd", lambda r: {"students": found_in(r, "soft-kd").students}),
        "students of the bite of soft-kd",
    ),
    "a bite of fewer students": (
        of_bite(
            "soft-kd", lambda r: {k: getattr(bite_of(r, "soft-kd"), k)[:1] for k in ("students", "control_students")}
        ),
        "students of the bite of soft-kd",
    ),
    "a bite of another parameter": (
        renamed(lambda r: bite_of(r, "soft-kd").students, parameters={"temperature": 9.0, "weight": 0.9}),
        "settings of the bite of soft-kd",
    ),
    "a bite of other seeds": (
        renamed(lambda r: bite_of(r, "soft-kd").students[1:], seed=7),
        "students of the bite of soft-kd",
    ),
    "a bite of a budget": (
        renamed(lambda r: bite_of(r, "soft-kd").students, budget=77),
        "students of the bite of soft-kd",
    ),
    "a bite of a third teacher": (
        renamed(lambda r: bite_of(r, "soft-kd").students, fingerprint="0" * 64),
        "student soft-kd, seed 0",
    ),
    "a bite of another task": (
        renamed(lambda r: bite_of(r, "soft-kd").students, task="0" * 64),
        "student soft-kd, seed 0",
    ),
    "a bite with all labels": (
        of_bite("label-mixup", lambda r: {"control_students": found_in(r, "ls (null)").control_students}),
        "controls of the bite of label-mixup",
    ),
    "a bite over another baseline": (
        of_bite("soft-kd", lambda r: {"control_students": found_in(r, "ce").students}),
        "controls of the bite of soft-kd",
    ),
    "a bite whose controls have other seeds": (
        of_bite("soft-kd", lambda r: {"control_students": bite_of(r, "soft-kd").control_students[::-1]}),
        "controls of the bite of soft-kd",
    ),
    "a bite that rises from another attack's": (
        of_bite("knockoff", lambda r: {"curve": (bite_of(r, "noise").curve[0], *bite_of(r, "knockoff").curve[1:])}),
        "curve of the bite of knockoff",
    ),
    "a curve of another attack": (
        of("knockoff", lambda r: {"curve": found_in(r, "noise").curve}),
        "curve of knockoff",
    ),
    "a curve of the ordinary teacher": (
        of("knockoff", lambda r: {"curve": bite_of(r, "knockoff").curve}),
        "curve of knockoff",
    ),
    "a curve turned round": (
        of("knockoff", lambda r: {"curve": found_in(r, "knockoff").curve[::-1]}),
        "curve of knockoff",
    ),
    "a curve without a point": (
        of("knockoff", lambda r: {"curve": found_in(r, "knockoff").curve[1:]}),
        "curve of knockoff",
    ),
    "a curve at another budget": (
        renamed(lambda r: found_in(r, "knockoff").curve[0].students, budget=77),
        "curve of knockoff",
    ),
    "a baseline's students under another's name": (
        of("soft-kd", lambda r: {"baseline": "ce", "baseline_students": found_in(r, "dist-ls").students}),
        "baseline of soft-kd",
    ),
    "a baseline of null students": (
        of("soft-kd", lambda r: {"baseline": "ls", "baseline_students": found_in(r, "ls (null)").students}),
        "baseline of soft-kd",
    ),
    "no baseline": (of("soft-kd", lambda r: {"baseline": "", "baseline_students": ()}), "baseline of soft-kd"),
    "a control row of another baseline": (
        of("ce", lambda r: {"students": found_in(r, "dist-ls").students}),
        f"students of ce on {STUDENT}",
    ),
    "a control row against another baseline": (
        of("ce", lambda r: {"control_students": found_in(r, "dist-ls").students}),
        f"controls of ce on {STUDENT}",
    ),
    "a control row of another parameter": (
        of("dist-ls", lambda r: {"parameters": found_in(r, "dist-ls").parameters | {"beta": 3.0}}),
        f"students of dist-ls on {STUDENT}",
    ),
    "a control row of other seeds": (
        renamed(lambda r: found_in(r, "ce").students[1:], seed=7),
        f"students of ce on {STUDENT}",
    ),
    "a control row set aside": (
        of("ce", lambda r: {"status": "failed", "students": (), "control_students": ()}),
        f"students of ce on {STUDENT}",
    ),
    "a null control of itself": (
        of("ls (null)", lambda r: {"students": found_in(r, "ls (null)").control_students}),
        f"students of {NULLS}",
    ),
    "a null control of fewer students": (
        of(
            "ls (null)",
            lambda r: {k: getattr(found_in(r, "ls (null)"), k)[:1] for k in ("students", "control_students")},
        ),
        f"students of {NULLS}",
    ),
    "a weaker LS student": (
        better(lambda r: unchosen(tuned(r, "ls", None, view="crop"), found_in(r, "ls (null)").control_parameters)),
        "settings of controls of knockoff",
    ),
    "a weaker null control": (
        better(lambda r: unchosen(tuned(r, "ls", None, view="crop"), found_in(r, "ls (null)").control_parameters)),
        f"settings of {NULLS}",
    ),
    "a weaker control than the matched one": (
        better(lambda r: unchosen(tuned(r, "ls", None, view="mixup"), found_in(r, "label-mixup").control_parameters)),
        "settings of controls of label-mixup",
    ),
    "a weaker control than the attack's own loss": (
        lambda r: better(lambda r: {t.cell for t in tuned(r, "soft-kd", None)})(
            of("soft-kd", lambda r: {k: getattr(found_in(r, "knockoff"), k) for k in CONTROL})(r)
        ),
        "settings of controls of soft-kd",
    ),
    "a weaker control of a bite": (
        better(lambda r: unchosen(tuned(r, "ls", None, view="crop"), found_in(r, "ls (null)").control_parameters)),
        "settings of controls of the bite of label-mixup",
    ),
    "a weaker baseline": (better(lambda r: {t.cell for t in tuned(r, "ce", None)}), "settings of baseline of knockoff"),
    "a weaker setting of a baseline": (
        better(lambda r: unchosen(tuned(r, "dist-ls", None), found_in(r, "dist-ls").parameters)),
        f"settings of dist-ls on {STUDENT}",
    ),
    "a weaker setting on the ordinary teacher": (
        better(lambda r: unchosen(tuned(r, "dist", "ordinary"), parameters_of(r, bite_of(r, "dist").students))),
        "settings of the bite of dist",
    ),
    "matched controls that were never tuned": (untuned, "settings of controls of label-mixup"),
    "a student that does not say what it is": (unplanned, "student ls, seed 1000"),
}
CONTROL = ("control", "control_parameters", "control_students")


@pytest.mark.parametrize("name", MISTAKEN)
def test_students_that_are_not_what_their_row_says_are_noticed(
    apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """All numbers, reports and digests are made to follow from what was forged."""
    monkeypatch.setitem(EFFORTS, "smoke", APART)
    change, where = MISTAKEN[name]
    folder = Path(shutil.copytree(apart, tmp_path / "copy"))
    assert where in [d.where for d in verify(rewritten(folder, derived(change(load(apart)))))]


def test_an_audit_apart_from_the_ordinary_teacher_verifies(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EFFORTS, "smoke", APART)
    assert list(verify(apart)) == []


def test_no_record_says_that_a_suite_is_complete_which_is_not_known(apart: Path) -> None:
    assert ("suite.complete", "True", "False") in list(verify(apart))
