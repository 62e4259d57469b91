"""How long the page of a large record takes to build, which part of it takes longest, and how large it is.

The record has 30 attacks, 100 classes and 10 surfaces, or is that of a folder. The first page pays for imports and
fonts, as a command does; the others are built in the same process.

    python benchmarks/page.py [--record DIR] [--repeats 5]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from teachers.units import size

STARTED = time.perf_counter()


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return median(found)


def main() -> None:
    """Print a line for every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, help="a folder that `audit run` wrote")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()

    from reports import cost_figures, figures, html
    from reports.record import load, save

    with tempfile.TemporaryDirectory() as place:
        if asked.record is None:
            sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
            from sample_record import large_record  # type: ignore[import-not-found]

            asked.record = Path(place) / "record.json"
            save(large_record(), asked.record)
        record = load(asked.record)
        page = html.render(record)
        print(f"imports, record and first page: {time.perf_counter() - STARTED:.2f} s; {size(len(page.encode()))}")
        parts: dict[str, Callable[[], object]] = {
            "record, read": lambda: load(asked.record),
            "page": lambda: html.render(record),
            "  figure of margins": lambda: figures.margins(record),
            "  figure of costs": lambda: cost_figures.costs(record),
            "  figure of CMI": lambda: figures.cmi_curve(record.cmi),
            "  figure of classes": lambda: figures.cmi_per_class(record.cmi, record.task.classes),
        }
        for name, part in parts.items():
            print(f"{name:22s} {seconds(part, asked.repeats):6.3f} s")


if __name__ == "__main__":
    main()
