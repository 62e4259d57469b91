"""What a process of its own for the teachers costs: the same audit in turn, isolated and not, every student trained.

Both use the same number of workers; the ordinary teacher lies in the cache. Prints the ratio of the median times.

    python benchmarks/isolation.py [--effort smoke] [--attacks all] [--rounds 3] [--jobs 2]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from audit.pipeline import run
from audit.plan.options import Options

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", default="smoke")
    parser.add_argument("--attacks", default="all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        taught = folder / "taught"
        for number in range(-1, 2 * given.rounds):  # the first teaches the ordinary teacher
            isolate, cache, out = bool(number % 2), folder / f"cache{number}", folder / f"out{number}"
            if number >= 0:
                shutil.copytree(taught, cache / "teachers")
            began = time.perf_counter()
            asked = Options(
                teacher="demo", attacks=given.attacks, effort=given.effort, jobs=given.jobs, cache=cache, out=out
            )
            run(replace(asked, isolate=isolate))
            if number < 0:
                shutil.copytree(cache / "teachers", taught)
                continue
            seconds[isolate].append(time.perf_counter() - began)
            print(f"{'isolated' if isolate else 'in this process'}: {seconds[isolate][-1]:.1f} s", flush=True)
    print(f"isolated over not: {median(seconds[True]) / median(seconds[False]):.3f}")
