"""What smoke effort says of ordinary teachers, and of a teacher that knows nothing but labels.

Twenty ordinary teachers of the embedded task, which differ in their seed, and twenty audits of smoothed truth, in which
the attacker holds slightly different images. Controls do not depend on the teacher, so all audits of the first kind
have the same. Writes a table of docs/performance.md. Resumable: teachers, students and audits are kept.

    python benchmarks/smoke.py [--audits 20] [--truths 20] [--jobs 2] [--cache DIR] [--out DIR]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from audit.pipeline import run
from audit.plan.options import Options
from audit.plan.suite import SMOKE
from audit.teach import teach
from reports.record import Record, load
from reports.wording import points, strongest
from teachers.storage.store import default_cache

DOCS = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- from benchmarks/smoke.py -->", "<!-- to here -->"
FIRST_SEED = 1  # the demo teacher has seed 0
SHOT = 0.002  # by so much the attacker's images differ between two audits of smoothed truth, as a share


def requests(audits: int, truths: int, cache: Path, out: Path) -> Iterator[tuple[str, Options]]:
    """Yield what is audited, each with its kind; teachers are taught when they are due."""
    for number in range(audits):
        path = out / f"plain-{number}.pt"
        if not path.exists():
            teach("plain", path, data="glyphs", seed=FIRST_SEED + number, cache=cache)
        yield "ordinary", Options(teacher=str(path), effort="smoke", cache=cache, out=out / f"ordinary-{number}")
    for number in range(truths):
        shots, place = 1 - SHOT * number, out / f"truth-{number}"
        yield "smoothed truth", Options(teacher="smoothed-truth", effort="smoke", shots=shots, cache=cache, out=place)


def line(kind: str, records: list[Record]) -> str:
    """Return a row of the table."""
    words = Counter(record.verdict.word for record in records)
    told = ", ".join(f"{word} {number}" for word, number in words.most_common())
    rows = [row for row in map(strongest, records) if row is not None and row.margin is not None]
    best = [row.margin.mean for row in rows if row.margin is not None]
    least = [min(f.margin.mean for f in row.margins if f.over != "home-made") for row in rows if row.margins]
    span, over = (f"{points(min(v))} to {points(max(v))}" if v else "–" for v in (best, least))
    return f"| {kind} | {len(records)} | {told} | {span} | {over} |"


def main() -> None:
    """Audit, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=20)
    parser.add_argument("--truths", type=int, default=20, help="audits of smoothed truth, about a minute each")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=Path("audit-out/smoke"))
    given = parser.parse_args()
    found: dict[str, list[Record]] = {}
    for kind, options in requests(given.audits, given.truths, given.cache, given.out):
        assert options.out is not None
        if not (options.out / "record.json").exists():
            run(Options(**{**vars(options), "jobs": given.jobs, "quiet": True}))
        record = load(options.out)
        found.setdefault(kind, []).append(record)
        print(f"{options.out.name}: {record.verdict.word} {'; '.join(record.verdict.reasons)}", flush=True)
    rows = [
        f"Suite {SMOKE.name}. Margins in points, of the attack with the largest margin: over its control, and over the",
        "kind of control over which it gains least.",
        "",
        "| teacher | audits | words | margin | least margin |",
        "|---|---|---|---|---|",
        *(line(kind, records) for kind, records in found.items()),
    ]
    page = DOCS.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END, 1)[1]
    DOCS.write_text(f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
