"""Print a record's verdict."""

from __future__ import annotations

from pathlib import Path

from reports import answer, controls, terminal, wording
from reports.record import Comparison, Record, Times


def print_verdict(record: Record, folder: Path, *, again: bool = False) -> None:
    """Print a verdict for a person; `again`: the audit was finished before, and trained nothing now."""
    verdict = record.verdict
    terminal.say("")
    terminal.say(answer.sentence(record), lead=verdict.word)
    terminal.say(verdict.sentence)
    for reason in verdict.reasons:
        terminal.say(f"  · {reason}")
    if answer.following(record):
        terminal.say(f"  {answer.following(record)}")
    terminal.table(
        ("attack", "knockoff %", "control %", "margin, points [sure range]", "outcome", "queries", "positive control"),
        ((record.name_of(row), *_cells(row, record)) for row in record.comparisons),
        words=("outcome", "positive control"),
    )
    if told := controls.rows(record):
        margins = ((record.name_of(row), *controls.cells(row)) for row in told)
        terminal.table(("margin, points (95 %)", *controls.HEADS.values()), margins)
    for line in wording.beside(record):
        terminal.say(line)
    if record.surfaces:
        _print_surfaces(record)
        terminal.say(wording.hardening(record))
    if wording.cost(record):
        terminal.say(wording.cost(record))
    for flag in record.flags:
        terminal.say(f"flag {flag.id}: {flag.found}")
    terminal.say(verdict.scope)
    terminal.say(f"{_times(record.times, again=again)}. Report: {folder / 'report.html'}", whole=True)


def _times(times: Times, *, again: bool) -> str:
    took = f"{times.reused} from the cache, {wording.duration(times.wall_seconds)}"
    if again:
        return f"0 students trained: this audit was finished before ({times.trained} trained then, {took})"
    return f"{times.trained} students trained, {took}, {times.training_share:.0%} of them in training steps"


def _print_surfaces(record: Record) -> None:
    rows = []
    for row in record.surfaces:
        margin = "" if row.margin is None else f"{wording.points(row.margin.mean)} {wording.span(row.margin)}"
        users = (wording.percent(share) for share in (row.accuracy, row.calibration_error, row.top5))
        rows.append((row.surface, row.word, margin, *users))
    heads = ("surface", "verdict", "margin, points (95 %)", "accuracy", "calibration error", "ranks five classes")
    terminal.table(heads, rows, words=("verdict",))


def _cells(row: Comparison, record: Record) -> tuple[str, ...]:
    if row.margin is None or row.knockoff.accuracy is None or row.control.accuracy is None:
        return wording.STATUS.get(row.status, row.status), "", "", "", "", wording.positive_control(row)
    return (
        f"{100 * row.knockoff.accuracy:.1f}",
        f"{100 * row.control.accuracy:.1f}",
        wording.gain(row, record),
        wording.outcome(row, record),
        f"{row.knockoff.queries:,}",
        wording.positive_control(row),
    )


def print_verdict_json(record: Record, folder: Path, *, again: bool = False) -> None:
    """Print a verdict as JSON; `again`: the audit was finished before, and trained nothing now."""
    rows = [
        {
            "attack": row.attack,
            "student": row.student,
            "status": row.status,
            "margin": None if row.margin is None else row.margin.mean,
            "low": None if row.margin is None else row.margin.low,
            "high": None if row.margin is None else row.margin.high,
            "p_holm": row.p_holm,
            "outcome": wording.outcome(row, record),
            "sure": None if row.margin is None else wording.sure(row, record),
            "margins": controls.plain(row),
            "passes_positive_control": None if row.positive_control is None else row.positive_control.passes,
            "mis_tuned": row.mis_tuned,
        }
        for row in record.comparisons
    ]
    trained = 0 if again else record.times.trained
    terminal.data(
        {
            **record.verdict.model_dump(mode="json"),
            "answer": answer.sentence(record),
            "folder": str(folder),
            "trained": trained,
            "attacks": rows,
        }
    )
