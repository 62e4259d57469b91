"""The reference bag: what is shipped gives the page that is printed, and says where another teacher stands."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from record_changes import changed
from sample_record import sample_record
from scipy.stats import spearmanr

from audit.plan.suite import BAG, named
from reports import bag as bags
from reports import wording
from reports.bag import Bag, BagTeacher, Control, Row, comparable, standing
from reports.record import Flag, PackedArray, Record
from reports.settings import PROCEDURAL
from teachers.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return benchmarks/bag.py."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("bag")


def bag_of(record: Record, margins: list[float], **changes: Any) -> Bag:
    """Return a bag of the record's own question, with one teacher for every margin."""
    nothing = PackedArray.of(np.zeros((2, 3), bool))
    row = {"parameters": {}, "correct": nothing, "passes": True, "control": 0, "baseline": 0}
    teachers = tuple(
        BagTeacher(
            method="plain",
            seed=i,
            sha256=f"{i:064d}",
            shots=1.0,
            pool=record.task.pool_digest,
            test_accuracy=0.8,
            cmi=0.5,
            flags=(),
            rows=(Row(attack="soft-kd", margin=-0.5, **row), Row(attack="dkd", margin=m, **row)),
        )
        for i, m in enumerate(margins)
    )
    return Bag(**{**question(record), "controls": (), "teachers": teachers, **changes})


def of_all_classes() -> Record:
    """Return an audit whose attacker saw every class, as the bag's did."""
    record = sample_record("DISTILLABLE")
    return record.model_copy(update={"settings": replace(record.settings, drop_classes=(), surrogate=PROCEDURAL)})


def question(record: Record) -> dict[str, Any]:
    return {
        "date": "2026-11-21",
        "task": record.task.name,
        "task_digest": record.task.digest,
        "images": 3,
        "student": record.settings.student,
        "suite": record.suite,
    }


def drawn_bag(gains: dict[str, dict[str, float]], cmi: dict[str, float | None]) -> Bag:
    """Draw three teachers of every method whose attacks gain what is said, and 0 otherwise."""
    rng = np.random.default_rng(0)
    images, seeds = 6_000, 4
    ease = rng.random((seeds, images))

    def right(accuracy: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
        again = rng.random((seeds, images)) < 0.2
        return np.where(again, rng.random((seeds, images)), ease) < accuracy

    controls = [right(0.7), right(0.7)]

    def taught(method: str, seed: int, shots: float) -> BagTeacher:
        rows = []
        for attack in BAG.attacks:
            correct = right(0.7 + gains[method].get(attack, -0.02))
            margin = float(correct.mean() - controls[0].mean())
            row = {"parameters": {}, "correct": PackedArray.of(correct), "passes": True, "control": 0, "baseline": 1}
            rows.append(Row(attack=attack, margin=margin, **row))
        fixed = {"method": method, "seed": seed, "shots": shots, "cmi": cmi[method], "rows": tuple(rows)}
        return BagTeacher(sha256="0" * 64, pool="1" * 64, test_accuracy=0.8 + 0.001 * seed, flags=(), **fixed)

    record = of_all_classes()
    teachers = [taught(m, s, shots) for m in gains for shots in (1.0, 0.1) for s in range(3)]
    names = zip(("ls", "dist-ls"), controls, strict=True)
    held = [Control(name=n, parameters={}, cells=(n,), correct=PackedArray.of(c)) for n, c in names]
    suite = record.suite.model_copy(update={"attacks": BAG.attacks})
    return Bag(**{**question(record), "suite": suite, "controls": tuple(held), "teachers": tuple(teachers)})


def test_the_page_says_of_a_bag_of_known_gains_what_is_so(benchmark: ModuleType) -> None:
    gains = {"plain": {"dkd": 0.08}, "cmim": {}, "nasty": {"soft-kd": 0.04}, "stingy": {"mkd": 0.02}}
    gains |= {"mixup": {"avg": 0.02}, "apgp": {"htc": 0.06}}
    cmi = {"plain": 0.9, "cmim": 0.1, "nasty": 0.5, "stingy": None, "mixup": 0.3, "apgp": 0.7}
    bag = drawn_bag(gains, cmi)
    plain, cmim = (benchmark.Entry(bag, name, 1.0) for name in ("plain", "cmim"))
    assert (plain.best, plain.ruling.word) == ("dkd", "DISTILLABLE")
    assert plain.margins["dkd"].mean == pytest.approx(0.08, abs=0.01)
    assert cmim.ruling.word == "UNDISTILLABLE"
    assert [benchmark._withstood(m) for m in (plain.margins["dkd"], cmim.margins["dkd"])] == ["no", "yes"]
    page = benchmark.page(bag)
    assert "over 5 methods (without stingy, whose answers hide classes)" in page
    assert "rank correlation +1.00" in page
    doubt = Flag(id="null-control", found="r", why="w", do="d", caps="inconclusive")
    doubted = tuple(t.model_copy(update={"flags": (doubt,)}) if t.method == "plain" else t for t in bag.teachers)
    assert benchmark.Entry(bag.model_copy(update={"teachers": doubted}), "plain", 1.0).ruling.word == "INCONCLUSIVE"


def saying(teacher: BagTeacher, **values: object) -> BagTeacher:
    """Say something else in every row of a teacher."""
    return teacher.model_copy(update={"rows": tuple(row.model_copy(update=values) for row in teacher.rows)})


def over(bag: Bag, method: str, **kinds: Control) -> Bag:
    """Let all attacks of a method have these controls, too."""
    numbers = {kind.replace("_", " "): len(bag.controls) + i for i, kind in enumerate(kinds)}
    teachers = tuple(saying(t, over=numbers) if t.method == method else t for t in bag.teachers)
    return bag.model_copy(update={"controls": (*bag.controls, *kinds.values()), "teachers": teachers})


def test_a_gain_that_a_twin_gives_makes_no_method_distillable_and_the_page_shows_it(benchmark: ModuleType) -> None:
    bag = drawn_bag({"plain": {"dkd": 0.06}, "cmim": {}}, {"plain": 0.9, "cmim": 0.1})
    assert "over a twin" not in benchmark.page(bag)
    correct = next(row for row in bag.teachers[0].rows if row.attack == "dkd").correct
    gains = over(bag, "plain", twin=Control(name="dkd", parameters={}, cells=("a twin",), correct=correct))
    loses = over(bag, "plain", twin=bag.controls[1])
    words = [benchmark.Entry(b, "plain", 1.0).ruling.word for b in (bag, gains, loses)]
    assert words == ["DISTILLABLE", "INCONCLUSIVE", "DISTILLABLE"]
    assert "| over the baseline | over a twin | verdict |" in benchmark.page(gains)
    assert benchmark.Entry(gains, "plain", 1.0).rivals["twin"]["dkd"].mean == pytest.approx(0, abs=0.01)


def test_attacks_that_are_best_at_the_labels_alone_gain_nothing(benchmark: ModuleType) -> None:
    bag = drawn_bag({"plain": {}}, {"plain": 0.9})
    labels = bag.controls[0].correct

    def word(*same: bool) -> str:
        """Say of every teacher whether the audit found that its attacks' students are their control's."""
        held = (t for t in bag.teachers if t.shots == 1.0)
        teachers = [saying(t, correct=labels, same=one) for t, one in zip(held, same, strict=True)]
        return str(benchmark.Entry(bag.model_copy(update={"teachers": tuple(teachers)}), "plain", 1.0).ruling.word)

    assert word(True, True, True) == "UNDISTILLABLE"
    assert word(True, False, True) == "INCONCLUSIVE", "margins of exactly 0 have no variance"


def test_a_method_is_not_undistillable_by_mis_tuned_attacks_alone(benchmark: ModuleType) -> None:
    bag = drawn_bag({"plain": {}}, {"plain": 0.9})
    assert benchmark.Entry(bag, "plain", 1.0).ruling.word == "UNDISTILLABLE"
    teachers = tuple(saying(t, mis_tuned=True) for t in bag.teachers)
    entry = benchmark.Entry(bag.model_copy(update={"teachers": teachers}), "plain", 1.0)
    assert entry.ruling.word == "INCONCLUSIVE"
    assert "every judged attack that passes the positive control is mis-tuned" in entry.ruling.reasons


def test_few_methods_have_no_rank_correlation(benchmark: ModuleType) -> None:
    bag = drawn_bag({"plain": {"dkd": 0.06}, "cmim": {}}, {"plain": 0.9, "cmim": 0.1})
    assert "Fewer than 5 methods have no rank correlation" in benchmark.page(bag)


def test_a_partial_correlation_of_what_is_ranked_alike_is_not_defined(benchmark: ModuleType) -> None:
    """Margins and accuracies rank five methods alike: nothing is left to correlate."""

    def entry(place: int, cmi: float) -> SimpleNamespace:
        margins = {"dkd": SimpleNamespace(mean=place)}
        return SimpleNamespace(method=str(place), cmi=cmi, best="dkd", margins=margins, accuracy=place)

    told = benchmark.correlation([entry(i, cmi) for i, cmi in enumerate((0.3, 0.1, 0.5, 0.2, 0.4))])
    assert "rank correlation +0.30 [" in told
    assert told.endswith("not defined, as margins rank methods as accuracy does.")


@pytest.fixture(scope="module")
def given() -> Bag:
    """Return the bag that is shipped."""
    found = bags.shipped(bags.REFERENCE)
    assert found is not None
    return found


def test_the_pages_are_those_of_the_bags_that_are_kept(benchmark: ModuleType) -> None:
    pages = benchmark.pages()
    assert "bag.md" in pages
    assert {p.name for p in (ROOT / "docs").glob("bag*.md")} == pages.keys()
    for name, page in pages.items():
        assert page == (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_shipped_bag_holds_every_method_and_its_margins_follow_from_its_students(given: Bag) -> None:
    suite = named(bags.REFERENCE)
    assert suite is not None
    assert {t.method for t in given.teachers} > set(METHODS)
    assert given.suite.digest == suite.digest
    keys = [(t.method, t.seed, t.shots) for t in given.teachers]
    assert len(set(keys)) == len(keys) == 13 * 3 * 2
    controls = [control.correct.array() for control in given.controls]
    for teacher in given.teachers:
        assert [row.attack for row in teacher.rows] == list(suite.attacks)
        for row in teacher.rows:
            margin = row.correct.array().mean() - controls[row.control].mean()
            assert row.margin == pytest.approx(margin, abs=1e-12)


def test_partial_rank_correlation_is_the_textbook_formula(benchmark: ModuleType) -> None:
    data = np.random.default_rng(0).random((12, 3)) @ np.array([[1, 0.5, 0.2], [0, 1, 0.7], [0, 0, 1]])
    r = spearmanr(data).statistic
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert benchmark._partial(data) == pytest.approx(expected)


def test_a_report_says_where_the_teacher_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    record = of_all_classes()
    largest = max(c.margin.mean for c in record.comparisons if c.margin is not None)
    given = bag_of(record, [largest - 0.02, largest - 0.01, largest + 0.01, largest])
    monkeypatch.setattr(bags, "shipped", lambda suite: given if suite == record.suite.name else None)
    said = standing(record)
    assert "at percentile 62 of the reference bag standard-1 of 2026-11-21" in said
    assert "4 other teachers of 1 methods" in said
    assert said in wording.beside(record)
    own = given.model_copy(update={"teachers": given.teachers[:1]})
    own = own.model_copy(update={"teachers": (own.teachers[0].model_copy(update={"sha256": record.teacher.sha256}),)})
    monkeypatch.setattr(bags, "shipped", lambda suite: own)
    assert standing(record) == ""  # a teacher of the bag is not compared with itself


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("suite", {"complete": False}),
        ("suite", {"digest": "other"}),
        ("task", {"digest": "other"}),
        ("settings", {"surface": "top:5"}),
        ("settings", {"labels": 0.1}),
        ("settings", {"budget": 1_000}),
        ("settings", {"drop_classes": ("a",)}),
        ("settings", {"student": "resnet-8"}),
    ],
)
def test_only_audits_that_asked_the_same_are_compared(part: str, change: dict[str, Any]) -> None:
    record = of_all_classes()
    given = bag_of(record, [0.01])
    assert comparable(record, given)
    other = record.model_copy(update={part: changed(getattr(record, part), **change)})
    assert not comparable(other, given)
    assert standing(other) == ""


def test_a_bag_of_another_version_of_the_design_ranks_nothing() -> None:
    record = of_all_classes()
    assert comparable(record, bag_of(record, [0.01]))
    assert not comparable(record.model_copy(update={"design": 4}), bag_of(record, [0.01]))
    assert comparable(record.model_copy(update={"design": 4}), bag_of(record, [0.01], design=4))


def test_what_tuning_saw_is_kept_by_teacher(benchmark: ModuleType) -> None:
    record = sample_record("DISTILLABLE")
    mine = [t.model_copy(update={"role": "tune"}) for t in record.trials if t.teacher == "audited"]
    others = [t.model_copy(update={"teacher": "ordinary", "validation_accuracy": 0.25}) for t in mine]
    alone, both = (benchmark.tried(record.model_copy(update={"trials": (*mine, *more)})) for more in ([], others))
    assert {name: found for name, found in both.items() if "ordinary" not in name} == alone
    apart = {name: found for name, found in both.items() if name.endswith(" of the ordinary teacher")}
    assert len(apart) == len(alone) > 0
    assert {value for found in apart.values() for values in found.values() for value in values} == {0.25}
