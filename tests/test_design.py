"""The experimental design by itself: which students an audit trains, which it compares, and how many it counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import pytest

from attacks.base import Attack
from attacks.controls.ce import CE
from attacks.controls.ls import LS
from attacks.labels.label_mixup import LabelMixup
from attacks.logits.soft_kd import SoftKD
from attacks.surrogate.knockoff import Knockoff
from audit.plan import count, design
from audit.plan.design import Arm, Attacks, Design, Pair, TeacherRole
from audit.plan.suite import FIRST_NULL_SEED, FIRST_TUNING_SEED, LONGER, Suite
from reports.record import Regime
from teachers.training import Recipe

SUITE = Suite(
    "by-hand-0",
    (SoftKD.name, LabelMixup.name, Knockoff.name),
    (CE.name,),
    settings=2,
    tuning_seeds=2,
    seeds=3,
    bite_seeds=2,
    query_seeds=1,
    budgets=3,
    steps=100,
    epochs=0,
)
PLAIN = Recipe("a-network", 100)
ATTACKS: Attacks = {attack.name: attack for attack in (SoftKD, LabelMixup, Knockoff)}
TUNED = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + 2)


def designed(
    *attacks: type[Attack], roles: tuple[TeacherRole, ...] = ("audited", "ordinary"), **more: object
) -> Design:
    offered = {attack.name: attack for attack in attacks}
    made = Design(
        suite=SUITE,
        recipe=PLAIN,
        seeds=3,
        most=5,
        ls=(LS(smoothing=0.1), LS(smoothing=0.0)),
        baselines=(CE.grid(),),
        attacks=dict.fromkeys(roles, offered),
        presets={},
    )
    return replace(made, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Decided:
    """Choices by hand: an arm of the preferred technique where there is one, else the first."""

    prefers: object = None
    asked: int | None = None
    failed: str = ""  # a technique

    def best(self, arms: tuple[Arm, ...]) -> Arm | None:
        if not arms or any(arm.technique.name == self.failed for arm in arms):
            return None
        return next((arm for arm in arms if self.prefers in (arm.technique, arm.name)), arms[0])

    def regime(self, arm: Arm) -> Regime | None:
        return Regime(recipe=asdict(PLAIN), view=arm.attack.views or "crop", source="original")

    def set_aside(self, pair: Pair) -> str | None:
        return None

    def queries(self, arm: Arm) -> int | None:
        return self.asked


def students(arm: Arm) -> set[str]:
    """Name an arm's students by all that determines them."""
    return {repr((replace(arm, role="tune", seeds=range(0), chosen_from=(), share=1.0), seed)) for seed in arm.seeds}


def counted(made: Design) -> dict[str, tuple[int, int]]:
    """Return the least and the most students of every phase."""
    work = count.students(made, students)
    names = dict.fromkeys(one.phase for one in work)
    return {n: (sum(w.least for w in work if w.phase == n), sum(w.most for w in work if w.phase == n)) for n in names}


def test_an_attack_is_tuned_over_as_many_settings_as_the_ls_student() -> None:
    made = designed(SoftKD, roles=("audited",))
    ls, ce, attack = made.sweep(), made.alone()[1], made.settings(SoftKD, "audited")
    assert made.tuning() == [*ls, *ce, *attack]
    assert len(attack) == len(ls) == 2
    assert {arm.splits for arm in made.tuning()} == {"validation"}
    assert {arm.seeds for arm in made.tuning()} == {TUNED}
    assert [arm.teacher for arm in made.tuning()] == [None] * 3 + ["audited"] * 2


def test_a_preset_is_tuned_by_the_first_judged_seed_alone() -> None:
    preset = SoftKD(temperature=7.0)
    made = designed(SoftKD, Knockoff, presets={SoftKD.name: preset, Knockoff.name: Knockoff()})
    (mine,), (other,) = (made.settings(SoftKD, role) for role in ("audited", "ordinary"))
    assert (mine.technique, mine.seeds, mine.splits, mine.role) == (preset, range(1), "both", "judge")
    assert other.role == "positive control"
    assert mine in made.tuning(), "its regime must be known"
    assert Knockoff.name not in {arm.name for arm in made.tuning()}, "its control needs no regime"


def test_what_an_attack_has_to_beat_depends_on_what_it_holds_and_needs() -> None:
    made = designed(*ATTACKS.values())
    soft, mixup, knockoff = (made.settings(attack, "audited")[0] for attack in ATTACKS.values())
    assert made.controls(Decided(), knockoff) == made.sweep(), "no LS student sees its images"
    of_mixup = made.controls(Decided(), mixup)
    assert [arm.technique for arm in of_mixup] == [
        *(LS(smoothing=s, view=view) for view in ("crop", "mixup") for s in (0.1, 0.0))
    ]
    own = made.controls(Decided(), soft)[-4:]
    assert {(arm.technique, arm.teacher) for arm in own} == {(soft.technique, None)}
    assert {arm.target: arm.name for arm in own} == {
        0.1: "soft-kd of smoothed labels",  # as earlier records name it
        0.01: "soft-kd of labels smoothed by 0.01",
        0.0001: "soft-kd of labels smoothed by 0.0001",
        0.0: "soft-kd of labels smoothed by 0",
    }


def test_a_pair_holds_what_both_of_its_arms_were_chosen_from() -> None:
    made = designed(SoftKD, LabelMixup)
    pairs = made.pairs(Decided(prefers="soft-kd of smoothed labels"))
    knockoff, control = made.judged(pairs["audited"][SoftKD.name], 4)
    assert knockoff.seeds == control.seeds == range(4)
    assert (knockoff.splits, control.splits) == ("both", "both")
    assert (len(knockoff.chosen_from), len(control.chosen_from)) == (2, 4 + 4)
    assert control.target == 0.1
    assert pairs["audited"][LabelMixup.name].control.technique == LS(smoothing=0.1)
    assert list(made.pairs(Decided(failed=LabelMixup.name))["audited"]) == [SoftKD.name]


def test_the_null_control_differs_in_its_seeds_alone() -> None:
    other, ls = designed().null(Decided(prefers=LS(smoothing=0.0)))
    assert other.seeds == range(FIRST_NULL_SEED, FIRST_NULL_SEED + 3)
    assert replace(other, seeds=ls.seeds, role=ls.role) == ls
    assert ls.technique == LS(smoothing=0.0)


def test_the_positive_control_of_labels_has_a_tenth_of_them_on_both_sides() -> None:
    made = designed(*ATTACKS.values())
    pairs = made.pairs(Decided(prefers=LS(smoothing=0.0, view="mixup")))["ordinary"]
    knockoff, control = made.positive(pairs[LabelMixup.name])
    assert knockoff.tenth
    assert control.tenth
    assert control.technique == LS(smoothing=0.0), "the smoothing of its control, with the plain views"
    knockoff, control = made.positive(pairs[SoftKD.name])
    assert not knockoff.tenth
    assert not control.tenth
    assert knockoff.seeds == control.seeds == range(SUITE.bite_seeds)


def test_a_curve_has_points_once_the_attacks_own_queries_are_known() -> None:
    made = designed(Knockoff)
    mine, other = (pairs[Knockoff.name] for pairs in made.pairs(Decided()).values())
    (alone,) = made.curve(Decided(), mine)
    assert (alone.budget, alone.seeds, alone.role) == (None, range(SUITE.query_seeds), "cost")
    assert [arm.budget for arm in made.curve(Decided(asked=1_000), mine)] == [100, 316, None]
    assert {arm.role for arm in made.curve(Decided(asked=1_000), other)} == {"positive control"}


def test_twice_the_steps_are_tried_where_several_seeds_choose() -> None:
    made = designed(SoftKD, Knockoff)
    choices = Decided()
    ls, usual, longer = made.longer(choices, made.pairs(choices))
    assert (ls.recipe.steps, usual.recipe.steps, longer.recipe.steps) == (LONGER * 100, 100, LONGER * 100)
    assert usual == replace(made.settings(SoftKD, "audited")[0], role="tune")
    single = replace(made, suite=replace(SUITE, tuning_seeds=1))
    assert single.longer(choices, single.pairs(choices)) == []
    free = designed(Knockoff)
    assert free.longer(choices, free.pairs(choices)) == []


def test_students_are_counted_as_by_hand() -> None:
    """One attack, two teachers; two tuning seeds, three to five judged, two on the ordinary teacher."""
    assert counted(designed(SoftKD)) == {
        "tuning": (2 * 2 + 1 * 2 + 2 * 2 * 2, 14),  # LS, CE, two settings on each teacher
        # or other LS students; the own loss by ε; two settings on a twin
        "matching controls": (0 + 4 * 2 + 2 * 2, 2 * (2 * 2 + 4 * 2) + 2 * 2),
        "twice the steps": (2 + 2, 4),  # of the LS student and of the attack
        # the attack, own loss, twin, LS and null, CE; where little is shared, an LS student of its own, too
        "judging": (3 * 3 + (3 + 3) + 3, 4 * 5 + (3 + 3) + 3),
        "positive control": (2, 4),  # the attack; its control may have been trained; of a home-made teacher: the same
    }


def test_a_teacher_that_is_the_ordinary_one_shows_the_positive_control_by_judged_students() -> None:
    found = counted(designed(SoftKD, roles=("audited",)))
    assert found["positive control"] == (0, 0)
    few = counted(designed(SoftKD, roles=("audited",), seeds=2, most=2, suite=replace(SUITE, bite_seeds=3)))
    assert few["positive control"] == (1 + 1, 1 + 1), "one seed more than was judged: the attack, and its control"


def test_a_control_of_another_kind_has_a_tenth_of_the_labels_as_it_is() -> None:
    made = designed(LabelMixup)
    pair = made.pairs(Decided())["ordinary"]["label-mixup"]
    other = replace(pair.control, technique=CE())
    mine, control = made.positive(pair._replace(control=other))
    assert mine.tenth
    assert control == replace(other.on("positive control", SUITE.bite_seeds), tenth=True)


def test_label_only_attacks_may_be_set_aside() -> None:
    found = counted(designed(LabelMixup, roles=("audited",)))
    assert found["matching controls"] == (2 * 2 + 2 * 2, 2 * 2 + 2 * 2)
    assert found["twice the steps"] == (0, 4)
    assert found["judging"] == (3 + 3 + 3, 3 * 5 + 3 + 3 + 3)
    assert found["positive control"] == (2 + 2, 2 + 2)


def test_attacks_without_original_images_are_counted_with_their_curves() -> None:
    found = counted(designed(Knockoff))
    assert found["matching controls"] == (0, 0)
    assert found["judging"] == (1 + 3 + 3 + 3, 5 + 5 + 3 + 3)
    assert found["smaller budgets"] == (2, 2), "its own budget was judged"
    assert found["positive control"] == (3, 3), "all points, on the ordinary teacher"
    work = (w for w in count.students(designed(Knockoff), students) if w.phase == "smaller budgets")
    lengths = sorted(w.length for w in work if w.most)
    assert lengths == pytest.approx([0.1, 10**-0.5])


def test_stored_students_are_not_counted() -> None:
    made = designed(SoftKD)
    stored = {name for arm in made.tuning() for name in students(arm)}
    tuning = [w for w in count.students(made, students, stored) if w.phase == count.TUNING]
    assert tuning
    assert {(w.least, w.most) for w in tuning} == {(0, 0)}


@pytest.mark.parametrize("truths", [(0.1,), (0.1, 0.01, 0.0)])
def test_a_further_control_is_counted_by_itself(monkeypatch: pytest.MonkeyPatch, truths: tuple[float, ...]) -> None:
    monkeypatch.setattr(design, "TRUTHS", truths)
    found = counted(designed(SoftKD, roles=("audited",)))
    assert found["matching controls"] == (2 * len(truths) + 2 * 2, 2 * len(truths) + 2 * 2 + 2 * 2)


def test_settings_race_that_are_tried_against_each_other() -> None:
    made = designed(SoftKD)
    grid = made.settings(SoftKD, "audited")
    own = tuple(replace(arm, target=epsilon) for arm in grid for epsilon in (0.1, 0.0))
    found = design.races([*made.sweep(), *grid, *made.twins(SoftKD), *own, *made.sweep()])
    assert found[:3] == [made.sweep(), grid, made.twins(SoftKD)]
    assert found[3:] == [(arm,) for arm in own], "an attack's own loss is tried by smoothing"
