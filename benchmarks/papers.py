"""What the three papers say of their teachers, measured: nasty, MCMI, CMIM, each against the ordinary teacher.

Nasty teachers (2105.07381): students that distil from one fall below the student alone; ω is swept on validation, on
the first teacher, and the most harmful one whose teacher stays within two points of the ordinary one is taken. MCMI
(2401.08732): with 5 % of the images, its students are better than those of the ordinary teacher. CMIM (2507.00012): its
students are no better than LS students. Students train by soft KD at the nasty teacher's temperature, the papers'
α = 0.9, untuned; the LS student is the best of its sweep on validation. Every number but the sweep's is of the last
step, on test images, over three teachers and three students of each. Resumable: teachers and students are kept in the
cache.

    python benchmarks/papers.py                                                             # glyphs, on a CPU
    python benchmarks/papers.py --data CIFAR10 --device cuda --teacher resnet18-small --teacher-epochs 100 \\
        --students cnn-32-64-128,resnet-20 --epochs 100
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks.base import Technique
from attacks.controls.ce import CE
from attacks.controls.ls import LS, SWEEP
from attacks.logits.soft_kd import SoftKD
from audit.attempt.attempt import bed
from audit.context import open_context
from audit.plan.cells import Use
from audit.plan.options import Options
from audit.plan.suite import FIRST_TUNING_SEED
from audit.statistics.compare import Margin, over_teachers, paired
from audit.teach import teach
from reports import wording
from teachers import intake
from teachers.data import datasets
from teachers.oracle import top_classes
from teachers.storage.store import default_cache
from teachers.task import Pool, known

METHODS = ("plain", "nasty", "mcmi", "cmim")
FEW = 0.05  # of the images
LOSS = 0.02  # of the teacher's accuracy, that a nasty setting may cost
BATCH = 128

Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class Runner:
    """What all measurements share."""

    given: Namespace
    images: int  # of the training split

    def teacher(self, method: str, seed: int, *settings: str) -> Path:
        """Return a teacher's checkpoint."""
        given = self.given
        path: Path = given.out / f"{'-'.join([method, *settings]).replace('=', '')}-{seed}.pt"
        steps = given.teacher_steps or (given.teacher_epochs and round(given.teacher_epochs * self.images / BATCH))
        teach(
            method,
            path,
            data=given.data,
            architecture=given.teacher,
            steps=steps or None,
            seed=seed,
            settings=settings,
            device=given.device,
            cache=given.cache,
        )
        return path

    def students(
        self, technique: Technique, teacher: Path, student: str, shots: float = 1.0, *, judged: bool = True
    ) -> Correct:
        """Return what a technique's students get right, (S, N): on test images, or those that tune on validation."""
        given = self.given
        request = Options(
            teacher=str(teacher),
            attacks=SoftKD.name,
            student=student,
            shots=shots,
            jobs=given.jobs,
            device=given.device,
            cache=given.cache,
        )
        asks = isinstance(technique, SoftKD)
        with bed(request, given.seeds) as trials:
            experiment, runner, (target,) = trials.experiment, trials.runner, trials.targets.values()
            steps = given.steps or (given.epochs and round(given.epochs * len(experiment.pool) / BATCH))
            experiment = replace(
                experiment, recipe=replace(experiment.recipe, steps=max(steps or 0, experiment.recipe.steps, 1))
            )
            if given.steps:
                experiment = replace(experiment, recipe=replace(experiment.recipe, steps=given.steps))
            seeds = range(given.seeds) if judged else range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + given.seeds)
            cells = [
                experiment.cell(technique, s, target if asks else None, splits="both" if judged else "validation")
                for s in seeds
            ]
            uses = [Use(c, "judge", target.role if asks else None, "attack" if asks else "control") for c in cells]
            runner.train(technique.name, uses)
            results = runner.found([cell.key for cell in cells])
            assert results is not None, "a student failed; the journal says why"
        exam = experiment.task.test if judged else experiment.task.validation
        answers = [r.test if judged else r.validation for r in results]
        return np.stack([a.array() == known(exam) for a in answers if a is not None])

    def accuracy(self, teacher: Path, pool: Pool) -> float:
        """Return a teacher's accuracy."""
        request = Options(teacher=str(teacher), device=self.given.device, cache=self.given.cache)
        with open_context(request) as context:
            return float((top_classes(context.targets.audited.full, pool) == known(pool)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--teacher", help="architecture")
    parser.add_argument("--students", default="strided-8-16-32,resnet-8", help="architectures")
    parser.add_argument("--omegas", default="0.005,0.01,0.02,0.04")
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--teachers", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=0.0, help="of a student; the standard suite's at least")
    parser.add_argument("--steps", type=int, default=0, help="of a student, in place of epochs")
    parser.add_argument("--teacher-epochs", type=float, default=0.0)
    parser.add_argument("--teacher-steps", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=Path("audit-out/papers"))
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds: an interval needs at least 2")
    task = datasets.load(given.data, given.cache, None)
    runner = Runner(given, len(task.train))
    students, kd = given.students.split(","), SoftKD(temperature=given.temperature)

    omega = sweep(runner, task.validation, students[0], kd)
    settings = {"nasty": (f"weight={omega}", f"temperature={given.temperature:g}")}
    paths = {m: [runner.teacher(m, s, *settings.get(m, ())) for s in range(given.teachers)] for m in METHODS}
    print(f"\n| teacher | test accuracy, % (n = {given.teachers}) |\n|---|---|")
    for method in METHODS:
        print(f"| {method} | {spread([runner.accuracy(p, task.test) for p in paths[method]])} |", flush=True)

    print("\n| students | alone (CE) | LS | of plain | of nasty | nasty − alone | plain − LS | CMIM − LS |")
    print("|---|---|---|---|---|---|---|---|")
    for student in students:
        first = paths["plain"][0]
        alone = runner.students(CE(), first, student)
        best = max(SWEEP, key=lambda s: runner.students(LS(smoothing=s), first, student, judged=False).mean())
        smooth = runner.students(LS(smoothing=best), first, student)
        of = {m: np.stack([runner.students(kd, p, student) for p in paths[m]]) for m in ("plain", "nasty", "cmim")}
        told = [f"{100 * c.mean():.1f}" for c in (alone, smooth, of["plain"], of["nasty"])]
        gains = [compare(of["nasty"], alone), compare(of["plain"], smooth), compare(of["cmim"], smooth)]
        print(f"| {student} | {' | '.join([*told, *map(points, gains)])} |", flush=True)

    print(f"\n| students with {FEW:.0%} of the images | alone (CE) | of plain | of MCMI | MCMI − plain |")
    print("|---|---|---|---|---|")
    for student in students:
        alone = runner.students(CE(), paths["plain"][0], student, FEW)
        plain, mcmi = (np.stack([runner.students(kd, p, student, FEW) for p in paths[m]]) for m in ("plain", "mcmi"))
        told = [f"{100 * c.mean():.1f}" for c in (alone, plain, mcmi)]
        print(f"| {student} | {' | '.join([*told, points(compare(mcmi, plain))])} |", flush=True)


def sweep(runner: Runner, validation: Pool, student: str, kd: SoftKD) -> str:
    """Print what every ω does on validation, and return the one to take."""
    plain = runner.accuracy(runner.teacher("plain", 0), validation)
    print(f"| ω | teacher, % | KL to the ordinary teacher at {kd.temperature:g}, nats | its {student} students, % |")
    print("|---|---|---|---|", flush=True)
    found: list[tuple[float, float, str]] = []
    for omega in runner.given.omegas.split(","):
        path = runner.teacher("nasty", 0, f"weight={omega}", f"temperature={kd.temperature:g}")
        accuracy = runner.accuracy(path, validation)
        reached = float(runner.students(kd, path, student, judged=False).mean())
        card = intake.open_weights(path).card
        apart = card.measured[f"KL to the ordinary teacher at temperature {kd.temperature:g}"] if card else np.nan
        print(f"| {omega} | {100 * accuracy:.1f} | {apart:.2f} | {100 * reached:.1f} |", flush=True)
        found.append((accuracy, reached, omega))
    allowed = [f for f in found if f[0] >= plain - LOSS]
    best = min(allowed or [max(found)], key=lambda f: f[1])[2]
    told = "" if allowed else f", though all lose more than {100 * LOSS:g} points of the teacher's"
    print(f"\nThe ordinary teacher: {100 * plain:.1f} % of {len(validation):,} validation images.")
    print(f"Taken: ω = {best}{told}.")
    return best


def compare(knockoff: Correct, control: Correct) -> Margin:
    """Compare students over teachers, or over seeds where there is one teacher."""
    if len(knockoff) == 1:
        return paired(knockoff[0], control[0] if control.ndim == 3 else control)
    return over_teachers(knockoff, control)


def points(margin: Margin) -> str:
    """Write a margin in points with its interval."""
    low, high = margin.interval()
    return f"{wording.points(margin.mean, 1)} [{wording.points(low, 1)}, {wording.points(high, 1)}]"


def spread(accuracies: Sequence[float]) -> str:
    """Write a mean with the standard deviation over teachers."""
    deviation = f" ± {100 * np.std(accuracies, ddof=1):.1f}" if len(accuracies) > 1 else ""
    return f"{100 * np.mean(accuracies):.1f}{deviation}"


if __name__ == "__main__":
    main()
