"""Every setting of the grids of attacks that see probabilities, on validation images: which ones a suite tries.

Prints and stores the margin of each setting over the LS student, in points; resumable, since students stay in the
cache. Nothing here sees the test split.

    python benchmarks/grids.py demo permuted cmim.pt [--attacks soft-kd,dkd] [--seeds 2] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

from attacks.base import Attack
from attacks.registry import OURS
from audit.attempt.attempt import bed
from audit.plan.options import Options
from audit.statistics.compare import paired
from audit.trials.protocol import StudentTrials
from teachers.storage.store import default_cache

FOUND = Path(__file__).with_name("grids.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teachers", nargs="+")
    parser.add_argument("--attacks", default="")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=default_cache())
    given = parser.parse_args()
    wanted = [a for a in OURS if a.needs == "probs" and a.holds == "original"]
    if given.attacks:
        wanted = [a for a in OURS if a.name in given.attacks.split(",")]
    for teacher in given.teachers:
        names = ",".join(attack.name for attack in wanted)
        options = Options(teacher=teacher, attacks=names, jobs=given.jobs, cache=given.cache)
        with bed(options, given.seeds) as trials:
            for attack in wanted:
                row = {told(setting): margin(trials, setting) for setting in attack.grid()}
                kept = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}
                own = kept.setdefault(Path(teacher).stem, {}) | {attack.name: row}
                FOUND.write_text(json.dumps(kept | {Path(teacher).stem: own}, indent=1) + "\n", encoding="utf-8")
                print(teacher, attack.name, row, flush=True)


def margin(trials: StudentTrials, setting: Attack) -> list[float]:
    """Return the mean of a setting's margin over the best LS student, and its standard error, in points."""
    sweep = trials.design.sweep()
    (target,) = trials.targets.values()
    arm = replace(sweep[0], technique=setting, target=target.role)
    trials.train(setting.name, (*sweep, arm))
    best = trials.best(sweep)
    assert best is not None
    found = paired(trials.arrays.tuning(trials.keys(arm)), trials.arrays.tuning(trials.keys(best)))
    return [round(100 * found.mean, 2), round(100 * found.se, 2)]


def told(setting: Attack) -> str:
    """Return what a setting changes of its attack's default."""
    default = asdict(type(setting)())
    changes = {f.name: value for f in fields(setting) if (value := getattr(setting, f.name)) != default[f.name]}
    texts = (f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in changes.items())
    return ", ".join(texts) or "default"


if __name__ == "__main__":
    main()
