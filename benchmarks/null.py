"""Null audits of real students: LS students pose as attacks on LS students of other seeds, where nobody gains.

A pool of LS students of `glyphs`, of the smoothing that tuning chooses in the standard suite, on seeds that no audit
judges. An audit draws a control and eight "attacks" from it, as disjoint splits or with a bootstrap over students (each
drawn afresh, also twice), and compares them as an audit does. Errors take in the chance of the draw and, by a jackknife
over students, that of the pool. Some students of the same seeds have another smoothing: they tell what pairing by seed
is worth. What the students got right is kept beside this file, so that the check repeats without training.

    python benchmarks/null.py [--draws 10000]
    python benchmarks/null.py --train [--jobs 2] [--cache DIR]     resumable; 300 students, about 12 core-minutes
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from judging import LEVELS, Share, covered, distillable, half_width, look_by_look
from numpy.typing import NDArray
from scatter import ATTACKS

from attacks.controls.ls import LS
from audit.analysis.protocol_flags import NULL_LEVEL
from audit.context import open_context, workbench
from audit.execution.runner import TrialRunner
from audit.plan.design import Arm
from audit.plan.options import Options
from audit.statistics.compare import Margin, paired
from audit.statistics.sequential import HORIZON
from audit.trials.protocol import Experiment, StudentTrials
from teachers.files import write_whole
from teachers.storage.store import default_cache
from teachers.task import known

SHIPPED = Path(__file__).with_name("ls-pool.npz")
FIRST_SEED = 10_000
STUDENTS, TWINS = 240, 60  # of the tuned smoothing; of another one, with the first seeds of these
SEEDS = ((4, 4), (7, 7), (12, 12), (4, 12), (12, 4))  # of an attack and of the control
FIRST = 5  # seeds at the first look, of audits with looks

Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class LSPool:
    """What LS students got right of the test images, by seed."""

    smoothing: float
    correct: Correct  # (students, N)
    twin_smoothing: float
    twins: Correct  # (fewer, N), of the first seeds

    def save(self, path: Path) -> None:
        """Write it whole."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            smoothing=[self.smoothing, self.twin_smoothing],
            images=[self.correct.shape[1]],
            correct=np.packbits(self.correct, axis=1),
            twins=np.packbits(self.twins, axis=1),
        )
        write_whole(path, content.getvalue())

    @classmethod
    def load(cls, path: Path = SHIPPED) -> LSPool:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as held:
            (smoothing, twin), (images,) = held["smoothing"].tolist(), held["images"].tolist()
            correct, twins = (
                np.unpackbits(held[name], axis=1, count=images).astype(bool) for name in ("correct", "twins")
            )
        return cls(smoothing, correct, twin, twins)


def train(request: Options) -> LSPool:
    """Train the pool as an audit trains its controls."""
    with open_context(request) as context:
        return _train(context.experiment, workbench(context, context.cache.root / "null"))


def _train(experiment: Experiment, runner: TrialRunner) -> LSPool:
    with closing(runner.executor):
        trials = StudentTrials(experiment, experiment.design({}), runner, {})
        tried = trials.design.sweep()
        trials.train("tuning", tried)
        best = trials.best(tried)
        assert best is not None
        other = next(arm for arm in tried if arm != best)
        return LSPool(
            smoothing_of(best), right(trials, best, STUDENTS), smoothing_of(other), right(trials, other, TWINS)
        )


def smoothing_of(arm: Arm) -> float:
    """Return the ε of LS students."""
    assert isinstance(arm.technique, LS)
    return arm.technique.smoothing


def right(trials: StudentTrials, arm: Arm, students: int) -> Correct:
    """Return what students of the pool's seeds got right, (students, N)."""
    pool = arm.on("null", students, FIRST_SEED)
    trials.train("pool", [pool])
    packed = [trials.runner.results[key].test for key in trials.keys(pool)]
    return np.array([test.array() == known(trials.experiment.task.test) for test in packed if test is not None])


@dataclass(frozen=True)
class NullAudits:
    """Hold what many null audits came to, each from some students of a pool."""

    drawn: NDArray[np.bool_]
    """Which students an audit holds, (audits, students)."""
    distillable: NDArray[np.float64]
    """Whether the word was DISTILLABLE, at each of LEVELS, (levels, audits)."""
    flagged: NDArray[np.float64]
    """Share of the attacks that would raise the flag of the null control, (audits,)."""
    covered: NDArray[np.float64]
    """Share of 95 % intervals that hold the true margin, zero, (audits,)."""

    def __str__(self) -> str:
        words = "  ".join(str(share(self.drawn, word)) for word in self.distillable)
        return f"{words}  | {share(self.drawn, self.flagged)} | {share(self.drawn, self.covered)}"


def draws(correct: Correct, seeds: tuple[int, int], *, again: bool, audits: int, seed: int) -> NullAudits:
    """Draw null audits, of so many seeds an attack and the control; where `again`, a student may be drawn twice."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((audits, len(correct)), bool)
    words, flagged, hits = np.zeros((len(LEVELS), audits)), np.zeros(audits), np.zeros(audits)
    for i in range(audits):
        size = ATTACKS * seeds[0] + seeds[1]
        tuned = rng.integers(len(correct), size=size) if again else rng.permutation(len(correct))[:size]
        drawn[i, tuned] = True
        margins = list(null_audit(correct[tuned], seeds))
        words[:, i] = [distillable(margins, level) for level in LEVELS]
        flagged[i] = np.mean([abs(m.mean) > half_width(m, NULL_LEVEL / 2) for m in margins])
        hits[i] = covered(margins)
    return NullAudits(drawn, words, flagged, hits)


def with_looks(correct: Correct, *, again: bool, audits: int, seed: int) -> tuple[Share, float]:
    """Draw null audits that look at five seeds and more, as audits do; return the share of DISTILLABLE, and mean seeds.

    An attack is judged at 5 % over all looks.
    """
    rng = np.random.default_rng(seed)
    drawn, words, seeds = np.zeros((audits, len(correct)), bool), np.zeros(audits), np.zeros(audits)
    size = (ATTACKS + 1) * HORIZON
    for i in range(audits):
        tuned = rng.integers(len(correct), size=size) if again else rng.permutation(len(correct))[:size]
        drawn[i, tuned] = True
        control, *attacks = correct[tuned].reshape(ATTACKS + 1, HORIZON, -1)
        word, taken = look_by_look(ATTACKS, partial(_margin, attacks, control), FIRST)
        words[i], seeds[i] = word == "DISTILLABLE", np.mean(taken)
    return share(drawn, words), float(seeds.mean())


def _margin(attacks: list[Correct], control: Correct, i: int, seeds: int) -> Margin:
    return paired(attacks[i][:seeds], control[:seeds])


def null_audit(students: Correct, seeds: tuple[int, int]) -> Iterator[Margin]:
    """Compare eight attacks with the control that lies behind them."""
    control = students[ATTACKS * seeds[0] :]
    for attack in students[: ATTACKS * seeds[0]].reshape(ATTACKS, seeds[0], -1):
        yield paired(attack, control)


def share(drawn: NDArray[np.bool_], audits: NDArray[np.float64]) -> Share:
    """Take the mean over audits, with the error from the draw and from the pool.

    Audits of one pool are not independent. The draws that leave a student out are draws from the pool without it: the
    jackknife over students gives the pool's part, once the part that is due to few draws is taken off (Efron 1992).
    """
    n, left = drawn.shape[1], ~drawn
    without = audits @ left / left.sum(axis=0)  # (students,)
    luck = audits.var() * (1 / left.sum(axis=0) - 1 / len(audits))
    pool = (n - 1) / n * float((((without - audits.mean()) ** 2) - luck).sum())
    return Share(float(audits.mean()), math.sqrt(max(pool, 0.0) + float(audits.var()) / len(audits)))


def pairing(pool: LSPool) -> str:
    """Tell what pairing by seed is worth between two ways to train."""
    mine, other = pool.correct[: len(pool.twins)], pool.twins
    a, b = mine.mean(axis=1), other.mean(axis=1)
    r = float(np.corrcoef(a, b)[0, 1])
    low, high = (math.tanh(math.atanh(r) + z / math.sqrt(len(a) - 3)) for z in (-1.96, 1.96))
    differ, strangers = np.mean(mine != other), np.mean(mine != np.roll(other, 1, axis=0))
    return (
        f"{len(a)} pairs of ε = {pool.smoothing:g} and {pool.twin_smoothing:g}: accuracies {100 * a.mean():.2f} and "
        f"{100 * b.mean():.2f} %, sd over seeds {100 * a.std(ddof=1):.2f} and {100 * b.std(ddof=1):.2f} points, "
        f"correlation {r:+.2f} [{low:+.2f}, {high:+.2f}]\n"
        f"variance of a margin over seeds, points²: paired {1e4 * np.var(a - b, ddof=1):.3f}, unpaired "
        f"{1e4 * (a.var(ddof=1) + b.var(ddof=1)):.3f}; images on which they differ: {differ:.2%}, {strangers:.2%}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=default_cache())
    asked = parser.parse_args()
    if asked.train:
        train(Options(teacher="demo", jobs=asked.jobs, cache=asked.cache)).save(SHIPPED)
    pool = LSPool.load()
    print(f"{len(pool.correct)} LS students, ε = {pool.smoothing:g}; {pool.correct.shape[1]} test images")
    print(pairing(pool))
    print("\nseeds of attack / control | DISTILLABLE at 5 %, at 2.5 % | null-control flag at 1 % | coverage of 95 %")
    for again in (False, True):
        print("bootstrap over students" if again else "disjoint splits")
        for seeds in SEEDS:
            found = draws(pool.correct, seeds, again=again, audits=asked.draws, seed=asked.seed)
            print(f"{seeds[0]:3} /{seeds[1]:3} | {found}", flush=True)
        word, taken = with_looks(pool.correct, again=again, audits=asked.draws // 5, seed=asked.seed)
        print(f"with looks | {word}  ({taken:.1f} seeds on average)", flush=True)


if __name__ == "__main__":
    main()
