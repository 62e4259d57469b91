"""The experimental design, stated once: which students an audit trains, and which it compares with which. No torch.

A new kind of control is a new arm in `controls` (an attack has to beat it) or in `beside` (trained once a student
architecture). `audit run`, `audit plan` and `audit cache warm` read both; `audit verify` has a checker of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

from audit.plan.cells import OF_OWN, Cell, Role, of_labels
from audit.plan.suite import FIRST_NULL_SEED, FIRST_TUNING_SEED, LONGER, Suite, cost_shares
from reports.record import UNSTATED, Over, Regime
from teachers.names import own_teacher_digest, truth_digest
from teachers.precision import FLOAT32

if TYPE_CHECKING:  # these import torch
    from attacks.base import Attack, Control, Technique
    from attacks.controls.ls import LS
    from teachers.training import Recipe

VERSION = 5  # of what is compared with what: a new number makes every audit another one
TENTH = 0.1  # of the labels: the threat model in which label-only attacks must pass the positive control
# ε of teachers that know smoothed labels alone: whom an attack's own loss asks. With 0 they tell the label and no more,
# as a surface does that shows one class: every loss that keeps the contract of attacks takes such answers.
TRUTHS = (0.1, 0.01, 0.0001, 0.0)
EARLIER = {UNSTATED: (0.1,)}  # the same by earlier versions, of which there are records

TeacherRole = Literal["audited", "ordinary"]
OwnTeacher = Literal["twin", "home-made"]  # that an attacker trains on their own images: teachers/targets/home.py
Attacks = dict[str, "type[Attack]"]


@dataclass(frozen=True)
class Arm:
    """Students that differ in nothing but the seed."""

    technique: Technique
    recipe: Recipe
    seeds: range
    role: Role = "tune"
    target: TeacherRole | OwnTeacher | float | None = None  # a teacher, the ε of a truth, or nobody: whom they ask
    splits: Literal["validation", "both"] = "validation"
    tenth: bool = False  # whether they hold a tenth of the labels
    budget: int | None = None  # None: the audit's
    share: float = 1.0  # of the queries that the attack makes without that budget
    chosen_from: tuple[Arm, ...] = ()  # what validation chose this one among

    @property
    def teacher(self) -> TeacherRole | None:
        """The teacher of the audit that the students ask; those of all others, and of nobody, are controls."""
        return self.target if self.target in ("audited", "ordinary") else None

    @property
    def own(self) -> OwnTeacher | None:
        """The teacher that the attacker trains, if the students ask one."""
        return self.target if self.target in ("twin", "home-made") else None

    @property
    def name(self) -> str:
        """What a report calls it."""
        asked = of_labels(self.target) if isinstance(self.target, float) else OF_OWN.get(self.own or "", "")
        return self.technique.name + asked

    @property
    def attack(self) -> type[Attack]:
        """The attack of knockoffs."""
        return type(cast("Attack", self.technique))

    def on(self, role: Role, seeds: int, first: int = 0) -> Arm:
        """Return the same on other seeds, and measured on the test images, too."""
        return replace(self, role=role, seeds=range(first, first + seeds), splits="both")


class Pair(NamedTuple):
    """What an attack is judged by: students of its best setting, and of the best that does without the teacher."""

    knockoff: Arm
    control: Arm


Pairs = dict[TeacherRole, dict[str, Pair]]  # by role of the teacher, then by attack


class Choices(Protocol):
    """What the students so far decide: a running audit reads their results, a forecast imagines them."""

    def best(self, arms: tuple[Arm, ...]) -> Arm | None:
        """Return what is best on validation; None if a student of any failed."""

    def leaders(self, race: tuple[Arm, ...], number: int) -> tuple[Arm, ...]:
        """Return so many of these settings, the best on their first seed; none if a student failed."""

    def regime(self, arm: Arm) -> Regime | None:
        """Return the training conditions of a tuned setting; None if it failed."""

    def set_aside(self, pair: Pair) -> str | None:
        """Return why an attack on the audited teacher is its own control, or None."""

    def queries(self, arm: Arm) -> int | None:
        """Return the largest number of queries of an arm's students; None before they are trained."""


@dataclass(frozen=True)
class Design:
    """What an audit trains of one student architecture, as far as its choices are known."""

    suite: Suite
    recipe: Recipe
    seeds: int  # judged at the first look
    most: int  # judged at the last look
    ls: tuple[LS, ...]  # the settings of the LS student
    baselines: tuple[tuple[Control, ...], ...]  # the settings of each other student without a teacher
    attacks: Mapping[TeacherRole, Attacks]  # that each teacher's surface allows; the ordinary teacher's last
    presets: Mapping[str, Attack]  # by attack: a named setting in place of tuning
    whole: bool = True  # whether the attacker holds everything that the ordinary teacher was trained on
    table: bool = True  # whether it also trains what the word does without: baselines, positive controls, curves

    @property
    def ordinary(self) -> TeacherRole:
        """The role of the ordinary teacher, which may be the audited one."""
        return [*self.attacks][-1]

    def word(self) -> Design:
        """Return the design of what a word needs before the table is full."""
        return replace(self, baselines=(), table=False)

    def settings(self, attack: type[Attack], teacher: TeacherRole) -> tuple[Arm, ...]:
        """Return an attack's settings, as many as an LS student's, or a preset; of one alone, the first judged seed."""
        preset = self.presets.get(attack.name)
        grid = attack.grid()[: self.suite.settings] if preset is None else (preset,)
        arms = tuple(self._tried(setting, teacher) for setting in grid)
        return arms if len(arms) > 1 else (arms[0].on("judge" if teacher == "audited" else "positive control", 1),)

    def sweep(self, regime: Regime | None = None) -> tuple[Arm, ...]:
        """Return the smoothings of the LS student, with the plain recipe or matched to an attack's regime."""
        if regime is None:
            return tuple(map(self._tried, self.ls))
        stated = {"precision": FLOAT32, **regime.recipe}  # written from a recipe, which leaves out what came later
        matched = replace(self.recipe, **stated)  # type: ignore[arg-type]
        return tuple(self._tried(replace(ls, view=regime.view), recipe=matched) for ls in self.ls)

    def controls(self, choices: Choices, setting: Arm) -> tuple[Arm, ...]:
        """Return what a setting of an attack may have to beat."""
        if setting.attack.holds != "original":
            return self.sweep()
        matched = self.sweep(choices.regime(setting))
        own = tuple(self._tried(setting.technique, e) for e in TRUTHS) if setting.attack.needs == "probs" else ()
        return (*self.sweep(), *matched, *own)

    def alone(self) -> list[tuple[Arm, ...]]:
        """Return the settings of every student without a teacher, the LS student first."""
        return [self.sweep(), *(tuple(map(self._tried, settings)) for settings in self.baselines)]

    def _tried(
        self, technique: Technique, target: TeacherRole | OwnTeacher | float | None = None, recipe: Recipe | None = None
    ) -> Arm:
        seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.suite.tuning_seeds)
        return Arm(technique, recipe or self.recipe, seeds, target=target)

    def best_settings(self, choices: Choices, teacher: TeacherRole) -> list[Arm]:
        """Return every attack's best setting; of an attack that failed, none."""
        tried = (self.settings(attack, teacher) for attack in self.attacks[teacher].values())
        return [arm for arms in tried if (arm := chosen(choices, arms)) is not None]

    def pairs(self, choices: Choices) -> Pairs:
        """Return every attack's best setting with its best control, for the attacks of which no student failed."""
        found: Pairs = {}
        for teacher in self.attacks:
            best = ((arm, chosen(choices, self.controls(choices, arm))) for arm in self.best_settings(choices, teacher))
            pairs = [Pair(arm, control) for arm, control in best if control is not None]
            held = [pair for pair in pairs if teacher != "audited" or self.beatable(choices, pair)]
            found[teacher] = {pair.knockoff.technique.name: pair for pair in held}
        return found

    def best_alone(self, choices: Choices) -> list[Arm]:
        """Return the best setting of every student without a teacher, the LS student first."""
        return [arm for arms in self.alone() if (arm := chosen(choices, arms)) is not None]

    def tuning(self) -> list[Arm]:
        """Return what is tuned with; a single setting's student only where its regime must be known."""
        attacks = (
            arms
            for teacher, offered in self.attacks.items()
            for attack in offered.values()
            if len(arms := self.settings(attack, teacher)) > 1 or attack.holds == "original"
        )
        return [arm for arms in (*self.alone(), *attacks) for arm in arms]

    def heats(self, arms: Iterable[Arm]) -> list[Arm]:
        """Return settings as they are trained first: those that race, on their first seed alone."""
        return [replace(arm, seeds=arm.seeds[:1]) if self._raced(race) else arm for race in races(arms) for arm in race]

    def finals(self, choices: Choices, arms: Iterable[Arm]) -> tuple[Arm, ...]:
        """Return the settings to choose among, which are trained on all seeds: of a race, the best on the first."""
        number = self.suite.finalists or 0
        return tuple(
            arm for race in races(arms) for arm in (choices.leaders(race, number) if self._raced(race) else race)
        )

    def _raced(self, race: tuple[Arm, ...]) -> bool:
        number = self.suite.finalists
        return number is not None and len(race) > number and len(race[0].seeds) > 1

    def matching(self, choices: Choices) -> list[Arm]:
        """Return the control candidates of every attack's best setting."""
        best = (arm for teacher in self.attacks for arm in self.best_settings(choices, teacher))
        twins = [arms for attack in self.attacks["audited"].values() if len(arms := self.twins(attack)) > 1]
        controls = (control for arm in best for control in self.controls(choices, arm))
        return [*controls, *(arm for arms in twins for arm in arms)]

    def longer(self, choices: Choices, pairs: Pairs) -> list[Arm]:
        """Return what is tuned for twice the steps: the LS student, and the best of the attacks on original data.

        It shows whether the usual steps are enough. An attack of a single setting has no students of these seeds yet:
        it is trained for the usual steps, too.
        """
        mine = (p.knockoff for p in pairs["audited"].values() if choices.set_aside(p) is None)
        best = choices.best(tuple(arm for arm in mine if arm.attack.holds == "original"))
        if best is None or not self.table:
            return []
        return [
            arm
            for ls in self.longer_ls(choices)
            for arm in (ls, *(self._tried(best.technique, best.target, r) for r in (self.recipe, ls.recipe)))
        ]

    def longer_ls(self, choices: Choices) -> list[Arm]:
        """Return the LS student for twice the steps; nothing where settings are chosen by a single seed."""
        recipe = replace(self.recipe, steps=LONGER * self.recipe.steps)
        best = self.best_alone(choices)[0]
        return [self._tried(best.technique, recipe=recipe)] if self.suite.tuning_seeds > 1 else []

    def judged(self, pair: Pair, seeds: int) -> Pair:
        """Return an attack's judged students and their controls, paired by seed."""
        return Pair(pair.knockoff.on("judge", seeds), pair.control.on("judge", seeds))

    def rivals(self, choices: Choices, pair: Pair) -> dict[Over, Arm]:
        """Return everything that students gain over only if the teacher told them something.

        That is the best LS student, the best of the attack's own loss without a teacher, and the attack on a twin with
        the setting that is best there: what suits the audited teacher may not suit a twin. Empty for attacks without
        original images, which have no such alternatives.
        """
        knockoff, tried = pair.knockoff, pair.control.chosen_from
        if knockoff.attack.holds != "original":
            return {}
        alone: dict[Over, Arm | None] = {
            "ls": choices.best(tuple(arm for arm in tried if arm.target is None)),
            "own loss": choices.best(tuple(arm for arm in tried if isinstance(arm.target, float))),
            "twin": chosen(choices, self.twins(knockoff.attack)),
        }
        return {over: arm for over, arm in alone.items() if arm is not None}

    def twins(self, attack: type[Attack]) -> tuple[Arm, ...]:
        """Return an attack's settings on a twin; nothing for an attack without original images."""
        if attack.holds != "original":
            return ()
        return tuple(self._tried(arm.technique, "twin") for arm in self.settings(attack, "audited"))

    def beatable(self, choices: Choices, pair: Pair) -> bool:
        """Whether every kind of control that an attack has to beat was trained: no student of them failed."""
        return pair.knockoff.attack.holds != "original" or "twin" in self.rivals(choices, pair)

    def home(self, pair: Pair) -> Arm | None:
        """Return an attack's students of a home-made teacher; None for attacks without original images.

        `pair`: on the ordinary teacher. That is the home-made teacher where the attacker holds all it was trained on.
        """
        if pair.knockoff.attack.holds != "original":
            return None
        arm = pair.knockoff.on("positive control", self.suite.bite_seeds)
        return arm if self.whole else replace(arm, target="home-made")

    def at_look(self, choices: Choices, pair: Pair, seeds: int) -> list[Arm]:
        """Return all students that a look at an attack takes.

        Knockoff students come before the rivals: on a teacher that tells smoothed labels alone, both are the same.
        """
        knockoff, control = self.judged(pair, seeds)
        return [control, knockoff, *(arm.on("judge", seeds) for arm in self.rivals(choices, pair).values())]

    def first_seeds(self, attack: type[Attack], seeds: int) -> int:
        """Return how many seeds an attack is judged on at first: fewer where it holds no original images."""
        return seeds if attack.holds == "original" else min(seeds, self.suite.query_seeds)

    def beside(self, choices: Choices, pairs: Pairs) -> list[Arm]:
        """Return what is trained beside judged attacks: null control, students without a teacher, positive control."""
        if not self.table:
            return [*reversed(self.null(choices))]
        alone = [arm.on("judge", self.seeds) for arm in self.best_alone(choices)]
        mine = {name for name, pair in pairs["audited"].items() if choices.set_aside(pair) is None}
        home = (self.home(pair) for name, pair in pairs[self.ordinary].items() if name in mine)
        shown = (
            self.curve(choices, pair)
            if pair.knockoff.attack.holds != "original"
            else reversed(self.positive(pair))  # controls first
            for pair in pairs[self.ordinary].values()
        )
        taught = (arm for arm in home if arm is not None)
        return [*reversed(self.null(choices)), *alone, *(arm for arms in shown for arm in arms), *taught]

    def null(self, choices: Choices) -> Pair:
        """Return LS students of other seeds in the place of an attack, and LS students."""
        ls = self.best_alone(choices)[0]
        return Pair(ls.on("null", self.seeds, FIRST_NULL_SEED), ls.on("judge", self.seeds))

    def positive(self, pair: Pair) -> Pair:
        """Return what shows whether an attack on original data beats its control on the ordinary teacher.

        A label-only attack has a tenth of the labels, and so has what it must beat: of LS students, the plain one.
        """
        seeds = self.suite.bite_seeds
        if not labels_only(pair.knockoff.attack):
            return Pair(*(arm.on("positive control", seeds) for arm in pair))
        best = pair.control.technique
        plain = self._tried(replace(best, view=self.ls[0].view)) if isinstance(best, type(self.ls[0])) else pair.control
        return Pair(*(replace(arm.on("positive control", seeds), tenth=True) for arm in (pair.knockoff, plain)))

    def curve(self, choices: Choices, pair: Pair) -> list[Arm]:
        """Return a steal-cost curve: smaller budgets once an attack's own number of queries is known, and that."""
        role: Role = "cost" if pair.knockoff.target == "audited" else "positive control"
        own = pair.knockoff.on(role, self.first_seeds(pair.knockoff.attack, self.suite.bite_seeds))
        queries, shares = choices.queries(own), cost_shares(self.suite.budgets)[:-1]
        fewer = [] if queries is None else [replace(own, budget=max(1, round(queries * s)), share=s) for s in shares]
        return [*fewer, own]

    def cheaper(self, choices: Choices, pairs: Pairs) -> list[Arm]:
        """Return the steal-cost curves of all attacks that hold no original images."""
        every = (pair for found in pairs.values() for pair in found.values() if self.table)
        return [arm for p in every if p.knockoff.attack.holds != "original" for arm in self.curve(choices, p)]


def chosen(choices: Choices, arms: tuple[Arm, ...]) -> Arm | None:
    """Return what is best on validation, and what it was chosen from; None if a student failed."""
    best = choices.best(arms)
    return None if best is None else replace(best, chosen_from=arms)


def races(arms: Iterable[Arm]) -> list[tuple[Arm, ...]]:
    """Group the settings that are tried against each other, in their order.

    These are the settings of one technique that see the same views for as many steps, and ask the same teacher. An
    attack's own loss on smoothed labels is tried by smoothing, which is a teacher: each of its settings is on its own.
    """
    found: dict[object, list[Arm]] = {}
    for arm in dict.fromkeys(arms):
        kind = arm.technique if isinstance(arm.target, float) else arm.technique.name
        alike = kind, getattr(arm.technique, "view", None), arm.recipe, arm.target, arm.tenth
        found.setdefault(alike, []).append(arm)
    return [*map(tuple, found.values())]


def labels_only(attack: type[Attack]) -> bool:
    """Whether an attack on original data uses nothing but labels."""
    return attack.holds == "original" and attack.needs == "label"


def truths(version: int) -> tuple[float, ...]:
    """Return the smoothings that a version of the design sweeps; none of a version that is not known."""
    return TRUTHS if version == VERSION else EARLIER.get(version, ())


def smoothing(cell: Cell, swept: tuple[float, ...] = TRUTHS) -> float | None:
    """Return by how much the labels are smoothed that a student learns from with an attack's own loss: it is a control.

    None where it asked another teacher than those that know such labels and nothing else.
    """
    views = int(cell.recipe.get("views", 0))
    return next((e for e in swept if cell.teacher == truth_digest(cell.pool, views, e)), None)


def own_teacher(cell: Cell) -> OwnTeacher | None:
    """Return which teacher of the attacker's own a student asked: it is a control. None for every other student."""
    kinds: tuple[OwnTeacher, ...] = ("twin", "home-made")
    return next((kind for kind in kinds if cell.teacher == own_teacher_of(cell, kind)), None)


def own_teacher_of(cell: Cell, kind: OwnTeacher) -> str:
    """Return the fingerprint of the attacker's own teacher for a student.

    Every judged seed asks a twin of its own; seeds of tuning ask those of the first judged ones.
    """
    student, number = str(cell.recipe.get("architecture", "")), cell.seed % FIRST_TUNING_SEED
    return own_teacher_digest(kind, cell.task, cell.pool, student, cell.device, number)
