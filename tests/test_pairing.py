"""Every student that a row compares is the one that it names, and the best of what was tried on validation images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audits import TINY, request, smoke
from margin_forgeries import FORGED, without_margin
from record_changes import Change, after, control_of, found_in, of, of_positive, of_record, renamed
from shipped import STUDENT

from audit import pipeline
from audit.analysis.derive import derived
from audit.finished import identity
from audit.finished.verify import follows, verify
from audit.plan.cells import of_labels
from audit.plan.design import TRUTHS, VERSION, truths
from audit.plan.suite import EFFORTS, FIRST_TUNING_SEED
from reports.record import UNSTATED, BaselineResult, PackedArray, Parameters, Record, Trial, load
from teachers.names import truth_digest

pytestmark = pytest.mark.usefixtures("curves_once")

APART = replace(
    TINY,
    name="tiny-apart",
    steps=25,
    attacks=("soft-kd", "dist", "label-mixup", "knockoff", "noise"),
    controls=("ce", "dist-ls"),
)


@pytest.fixture(scope="module")
def apart(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an audit of a teacher that is not the ordinary one, with baselines."""
    with smoke(APART):
        return pipeline.run(request(taught, tmp_path_factory.mktemp("apart") / "out", teacher="placebo")).folder


def tuned(record: Record, name: str, teacher: str | None, **parameters: object) -> list[Trial]:
    """Return students that an attack or a control was tuned with."""
    same = (t for t in record.trials if (t.cell.technique, t.role, t.teacher) == (name, "tune", teacher))
    return [t for t in same if parameters.items() <= t.cell.parameters.items()]


def unchosen(trials: list[Trial], parameters: Parameters) -> set[str]:
    return {t.key for t in trials if t.cell.parameters != parameters}


def better(cells: Callable[[Record], set[str]]) -> Change:
    """Let students be right on all validation images that were not chosen for it."""

    def changed(record: Record) -> Record:
        all_, chosen = PackedArray.of(np.ones(record.task.validation, bool)), cells(record)
        assert chosen
        trials = (t.model_copy(update={"validation_correct": all_}) if t.key in chosen else t for t in record.trials)
        return record.model_copy(update={"trials": tuple(trials)})

    return changed


def parameters_of(record: Record, cells: tuple[str, ...]) -> Parameters:
    return next(t.cell.parameters for t in record.trials if t.key in cells)


def untuned(record: Record) -> Record:
    gone = tuned(record, "ls", None, view="mixup")
    assert gone
    return record.model_copy(update={"trials": tuple(t for t in record.trials if t not in gone)})


def of_own_loss(record: Record, name: str, smoothing: float, role: str = "tune") -> list[Trial]:
    """Return students with an attack's own loss on labels smoothed by that much."""
    views = int(str(record.suite.recipe["views"]))
    truth = truth_digest(record.task.pool_digest, views, smoothing)
    return [t for t in record.trials if (t.cell.technique, t.cell.teacher, t.role) == (name, truth, role)]


def less_swept(*smoothings: float) -> Change:
    """Leave out the students with the own loss of soft KD at some smoothings."""

    def changed(record: Record) -> Record:
        gone = [t for e in smoothings for t in of_own_loss(record, "soft-kd", e)]
        assert len(gone) >= len(smoothings) * record.suite.tuning_seeds
        return record.model_copy(update={"trials": tuple(t for t in record.trials if t not in gone)})

    return changed


def as_earlier(record: Record) -> Record:
    """State the version of the design of records that state none, with the name that follows."""
    record = record.model_copy(update={"design": UNSTATED})
    return record.model_copy(update={"audit": identity.names(record)[0]})


def with_best_control(name: str, smoothing: float) -> Change:
    """Let an attack's row name its own loss at a smoothing as its control."""

    def changed(record: Record) -> Record:
        named = name + of_labels(smoothing)
        return of(name, lambda r: {"control.name": named, "control.parameters": found_in(r, name).knockoff.parameters})(
            record
        )

    return changed


NULLS = f"ls (null) on {STUDENT}"
MISTAKEN: dict[str, tuple[Change, str]] = {
    "a positive control of another attack": (
        of_positive("soft-kd", lambda r: {"students": control_of(r, "dist").students}),
        "students of the positive control of soft-kd",
    ),
    "a positive control of the audited teacher": (
        of_positive("soft-kd", lambda r: {"students": found_in(r, "soft-kd").knockoff.students}),
        "students of the positive control of soft-kd",
    ),
    "a positive control of fewer students": (
        of_positive(
            "soft-kd", lambda r: {k: getattr(control_of(r, "soft-kd"), k)[:1] for k in ("students", "control_students")}
        ),
        "students of the positive control of soft-kd",
    ),
    "a positive control of another parameter": (
        renamed(lambda r: control_of(r, "soft-kd").students, parameters={"temperature": 9.0, "weight": 0.9}),
        "settings of the positive control of soft-kd",
    ),
    "a positive control of other seeds": (
        renamed(lambda r: control_of(r, "soft-kd").students[1:], seed=7),
        "students of the positive control of soft-kd",
    ),
    "a positive control of a budget": (
        renamed(lambda r: control_of(r, "soft-kd").students, budget=77),
        "students of the positive control of soft-kd",
    ),
    "a positive control of a third teacher": (
        renamed(lambda r: control_of(r, "soft-kd").students, teacher="0" * 64),
        "student soft-kd, seed 0",
    ),
    "a positive control of another task": (
        renamed(lambda r: control_of(r, "soft-kd").students, task="0" * 64),
        "student soft-kd, seed 0",
    ),
    "a positive control with all labels": (
        of_positive("label-mixup", lambda r: {"control_students": found_in(r, "ls (null)").control.students}),
        "controls of the positive control of label-mixup",
    ),
    "a positive control over another baseline": (
        of_positive("soft-kd", lambda r: {"control_students": found_in(r, "ce").knockoff.students}),
        "controls of the positive control of soft-kd",
    ),
    "a positive control whose controls have other seeds": (
        of_positive("soft-kd", lambda r: {"control_students": control_of(r, "soft-kd").control_students[::-1]}),
        "controls of the positive control of soft-kd",
    ),
    "a positive control that rises from another attack's": (
        of_positive(
            "knockoff", lambda r: {"curve": (control_of(r, "noise").curve[0], *control_of(r, "knockoff").curve[1:])}
        ),
        "curve of the positive control of knockoff",
    ),
    "no control with the attack's own loss": (
        after(
            without_margin("soft-kd", "own loss", "twin"),
            lambda r: r.model_copy(
                update={"trials": tuple(t for t in r.trials if (t.cell.technique, t.kind) != ("soft-kd", "control"))}
            ),
        ),
        "settings of controls of soft-kd",
    ),
    "the own loss on labels smoothed by a tenth alone": (less_swept(*TRUTHS[1:]), "settings of controls of soft-kd"),
    "the own loss without one smoothing": (less_swept(0.0001), "settings of controls of soft-kd"),
    "the own loss without the bare labels": (less_swept(0.0), "settings of controls of soft-kd"),
    "the own loss on labels of another smoothing": (
        lambda r: renamed(
            lambda r: tuple(t.key for t in of_own_loss(r, "soft-kd", 0.01)),
            teacher=truth_digest(r.task.pool_digest, int(str(r.suite.recipe["views"])), 0.02),
        )(r),
        "settings of controls of soft-kd",
    ),
    "the own loss on labels of other images": (
        renamed(
            lambda r: tuple(t.key for t in of_own_loss(r, "dist", 0.0001)), teacher=truth_digest("0" * 64, 2, 0.0001)
        ),
        "student dist, seed 1000",
    ),
    "a weaker smoothing of the own loss": (
        lambda r: after(
            better(lambda r: {t.key for e in (0.0, 0.01) for t in of_own_loss(r, "soft-kd", e)}),
            with_best_control("soft-kd", 0.0001),
        )(r),
        "settings of controls of soft-kd",
    ),
    "a design that is not known": (of_record(design=7), "design"),
    "a design of which records were not written": (of_record(design=1), "design"),
    "the design of earlier versions": (of_record(design=UNSTATED), "audit"),
    "the design of earlier versions, with its name": (as_earlier, "student soft-kd, seed 1000"),
    "a curve of another attack": (
        of("knockoff", lambda r: {"curve": found_in(r, "noise").curve}),
        "curve of knockoff",
    ),
    "a curve of the ordinary teacher": (
        of("knockoff", lambda r: {"curve": control_of(r, "knockoff").curve}),
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
        of(
            "soft-kd",
            lambda r: {"baseline": BaselineResult(name="ce", students=found_in(r, "dist-ls").knockoff.students)},
        ),
        "baseline of soft-kd",
    ),
    "a baseline of null students": (
        of(
            "soft-kd",
            lambda r: {"baseline.name": "ls", "baseline.students": found_in(r, "ls (null)").knockoff.students},
        ),
        "baseline of soft-kd",
    ),
    "no baseline": (of("soft-kd", lambda r: {"baseline": None}), "baseline of soft-kd"),
    "a control row of another baseline": (
        of("ce", lambda r: {"knockoff.students": found_in(r, "dist-ls").knockoff.students}),
        f"students of ce on {STUDENT}",
    ),
    "a control row against another baseline": (
        of("ce", lambda r: {"control.students": found_in(r, "dist-ls").knockoff.students}),
        f"controls of ce on {STUDENT}",
    ),
    "a control row of another parameter": (
        of("dist-ls", lambda r: {"knockoff.parameters": found_in(r, "dist-ls").knockoff.parameters | {"beta": 3.0}}),
        f"students of dist-ls on {STUDENT}",
    ),
    "a control row of other seeds": (
        renamed(lambda r: found_in(r, "ce").knockoff.students[1:], seed=7),
        f"students of ce on {STUDENT}",
    ),
    "a control row set aside": (
        of("ce", lambda r: {"status": "failed", "knockoff.students": (), "control.students": ()}),
        f"students of ce on {STUDENT}",
    ),
    "a null control of itself": (
        of("ls (null)", lambda r: {"knockoff.students": found_in(r, "ls (null)").control.students}),
        f"students of {NULLS}",
    ),
    "a null control of fewer students": (
        of(
            "ls (null)",
            lambda r: {
                f"{k}.students": getattr(found_in(r, "ls (null)"), k).students[:1] for k in ("knockoff", "control")
            },
        ),
        f"students of {NULLS}",
    ),
    "a weaker LS student": (
        better(lambda r: unchosen(tuned(r, "ls", None, view="crop"), found_in(r, "ls (null)").control.parameters)),
        "settings of controls of knockoff",
    ),
    "a weaker null control": (
        better(lambda r: unchosen(tuned(r, "ls", None, view="crop"), found_in(r, "ls (null)").control.parameters)),
        f"settings of {NULLS}",
    ),
    "a weaker control than the matched one": (
        better(lambda r: unchosen(tuned(r, "ls", None, view="mixup"), found_in(r, "label-mixup").control.parameters)),
        "settings of controls of label-mixup",
    ),
    "a weaker control than the attack's own loss": (
        lambda r: better(lambda r: {t.key for t in tuned(r, "soft-kd", None)})(
            of("soft-kd", lambda r: {"control": found_in(r, "knockoff").control})(r)
        ),
        "settings of controls of soft-kd",
    ),
    "a weaker control of a positive control": (
        better(lambda r: unchosen(tuned(r, "ls", None, view="crop"), found_in(r, "ls (null)").control.parameters)),
        "settings of controls of the positive control of label-mixup",
    ),
    "a weaker baseline": (better(lambda r: {t.key for t in tuned(r, "ce", None)}), "settings of baseline of knockoff"),
    "a weaker setting of a baseline": (
        better(lambda r: unchosen(tuned(r, "dist-ls", None), found_in(r, "dist-ls").knockoff.parameters)),
        f"settings of dist-ls on {STUDENT}",
    ),
    "a weaker setting on the ordinary teacher": (
        better(lambda r: unchosen(tuned(r, "dist", "ordinary"), parameters_of(r, control_of(r, "dist").students))),
        "settings of the positive control of dist",
    ),
    "matched controls that were never tuned": (untuned, "settings of controls of label-mixup"),
    **FORGED,
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_students_that_are_not_what_their_row_says_are_noticed(
    apart: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """All numbers and digests are made to follow from what was forged."""
    monkeypatch.setitem(EFFORTS, "smoke", APART)
    change, where = MISTAKEN[name]
    assert where in [d.where for d in follows(derived(change(load(apart))))]


def test_an_audit_states_its_design_and_tries_the_own_loss_at_every_smoothing(apart: Path) -> None:
    record = load(apart)
    assert record.design == VERSION
    assert '"design": 5' in (apart / "record.json").read_text()
    for name in ("soft-kd", "dist"):
        tried = [{(str(t.cell.parameters), t.cell.seed) for t in of_own_loss(record, name, e)} for e in TRUTHS]
        chosen = (found_in(record, name).knockoff.students, control_of(record, name).students)
        assert tried == [{(str(parameters_of(record, cells)), FIRST_TUNING_SEED) for cells in chosen}] * 4
    assert truths(UNSTATED) == TRUTHS[:1]


def test_an_audit_apart_from_the_ordinary_teacher_verifies(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EFFORTS, "smoke", APART)
    assert list(verify(apart)) == []


def test_no_record_says_that_a_suite_is_complete_which_is_not_known(apart: Path) -> None:
    assert ("suite.complete", "True", "False") in list(verify(apart))
