"""Settings of the ways to teach, compared on validation images: how the defaults were chosen.

Teaches `glyphs` with every setting, then tries a few attacks on validation images and prints their margins over the LS
student, or what else it must beat, in points; resumable. Nothing here sees the test split.

    python benchmarks/settings.py cmim "cmim:weight=4" "nasty:weight=0.02,temperature=20" [--seeds 2] [--jobs 2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from attacks.base import Attack
from attacks.registry import attacks as known_attacks
from audit.attempt.attempt import bed, measured
from audit.attempt.settings import changed
from audit.plan.options import Options
from audit.statistics import cmi
from audit.teach import teach
from teachers.oracle import log_probs, top_classes
from teachers.storage.store import default_cache
from teachers.task import known

ATTACKS = (
    "soft-kd:temperature=4.0",
    "soft-kd:temperature=1.0",
    "lskd:supervised=1.0",
    "dkd:beta=2.0",
    "avg",
    "inversion",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--attacks", default=";".join(ATTACKS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--teacher-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=Path("audit-out/settings"))
    given = parser.parse_args()
    attacks = {text: parse(text) for text in given.attacks.split(";")}
    print(f"| setting | teacher, % | CMI | {' | '.join(attacks)} |\n|{'---|' * (3 + len(attacks))}", flush=True)
    for text in given.settings:
        name, _, fields = text.partition(":")
        path = given.out / f"{text.replace('/', '_').replace(':', '-')}-{given.teacher_seed}.pt"
        settings = fields.split(",") if fields else ()
        teach(name, path, data="glyphs", seed=given.teacher_seed, settings=settings, cache=given.cache)
        names = ",".join(attack.name for attack in attacks.values())
        request = Options(teacher=str(path), attacks=names, jobs=given.jobs, cache=given.cache)
        with bed(request, given.seeds) as trials:
            experiment, (target,) = trials.experiment, trials.targets.values()
            labels = known(experiment.task.validation)
            accuracy = float((top_classes(target.full, experiment.task.validation) == labels).mean())
            answers = log_probs(target.full, experiment.task.validation)
            peak = cmi.curve(answers, labels, len(experiment.task.classes)).peak
            margins = [measured(trials, a, anew=False).margin for a in attacks.values()]
        told = " | ".join(f"{100 * m.mean:+.1f}" for m in margins)
        print(f"| {text} | {100 * accuracy:.1f} | {peak:.2f} | {told} |", flush=True)


def parse(text: str) -> Attack:
    """Read `name:field=value,field=value`."""
    name, _, fields = text.partition(":")
    return changed(known_attacks()[name](), fields.split(",") if fields else ())


if __name__ == "__main__":
    main()
