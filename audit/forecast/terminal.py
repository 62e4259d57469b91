"""Terminal output of `audit plan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from audit.forecast.forecast import Forecast, Row, Span
from audit.plan.suite import named
from reports import terminal
from reports.wording import duration, points, priced, size


def print_forecasts(found: Sequence[Forecast]) -> None:
    """Print the forecast of every surface's audit."""
    for one in found:
        _print_forecast(one)
    if len(found) > 1:
        students, seconds, queries = (
            sum(span.most for span in spans)
            for spans in ([f.trained for f in found], [f.seconds for f in found], [f.queries for f in found])
        )
        terminal.say(
            f"All {len(found)} surfaces: at most {students:,.0f} students, {duration(seconds)} and {queries:,.0f} "
            "queries; the real numbers are lower, because the surfaces share students without a teacher",
            whole=True,
        )


def _print_forecast(found: Forecast) -> None:
    """Print the forecast of one audit."""
    from audit.statistics.power import POWER

    def say(line: str) -> None:
        terminal.say(line, whole=True)

    looks = f"{found.seeds[1]} seeds" if found.seeds[0] == found.seeds[1] else "{} to {} seeds".format(*found.seeds)
    say(
        f"{found.teacher} behind {found.surface}, suite {found.suite}: {found.attacks} attacks, students "
        f"{' and '.join(found.students)}, {looks}, {found.images:,} test images"
    )
    rows = [(row.name, _span(row.students, "{:,.0f}".format), _span(row.seconds, duration)) for row in found.rows]
    number = _span(found.teachers.students, "{:,.0f}".format)
    rows.append(("teachers", f"({number})", _span(found.teachers.seconds, duration)))
    rows.append(("answers", "", _span(found.answering, duration)))
    rows.append(("all", _span(found.trained, "{:,.0f}".format), _span(found.seconds, duration)))
    terminal.table(("phase", "students", f"time, {found.workers} at once"), rows)
    if found.words:
        whole = Row("teacher that no attack copies (all)", found.trained, found.seconds)
        taken = [
            (row.name, _span(row.students, "{:,.0f}".format), _span(row.seconds, duration))
            for row in (*found.words, whole)
        ]
        terminal.table(("to the word of an", "students", "time"), taken)
    if found.kept:
        say(f"{found.kept} more tuning students are in the cache already")
    say(
        f"Memory: {size(found.memory)}; answers stay on disk, twice {size(found.stored)} for a teacher and one kind of "
        "view (attacks that look at all of them at once take a few times that)"
    )
    cost = "" if found.price is None else f", {_span(found.queries, partial(priced, found.price))} to pay"
    say(f"Queries to the teacher: {_span(found.queries, '{:,.0f}'.format)} ({found.auditor:,} the auditor's own){cost}")
    gain = points(found.power.gain, 1, sign=False)
    say(
        f"With {POWER:.0%} power it detects a gain of {gain} points, and rules out an attack whose margin is "
        f"{points(found.power.resistance, 1)} points or less"
    )
    say(_undistillable(found, POWER))
    told = ", ".join(f"{name} {points(power.gain, 1, sign=False)}" for name, power in found.efforts.items())
    say(f"(detectable gain in points, by effort: {told}; variances are those of {found.scatter.source})")
    if left := found.techniques - found.measured:
        say(f"{left} techniques were not timed: the table has the median of the others that hold as much data")


def _undistillable(found: Forecast, power: float) -> str:
    """Say how likely UNDISTILLABLE is where no attack gains anything, and what makes it likely."""
    suite = named(found.suite)
    if suite is not None and suite.tuning_seeds < 2:
        return f"No audit with {found.suite} ends UNDISTILLABLE: one seed tunes a setting (flag light-tuning)"
    joint, own = found.joint, points(found.delta, sign=False)
    told = f"If none of {joint.attacks} attacks on original images gains anything, {joint.undistillable:.0%} of such "
    told += f"audits end UNDISTILLABLE at a tolerance of {own} points"
    if joint.undistillable >= power:
        return told
    wider = [] if joint.delta is None else [f"a tolerance of {points(joint.delta, sign=False)} points (--delta)"]
    more = [] if joint.images is None else [f"{joint.images:,} test images"]
    needed = " or ".join([*wider, *more]) or "a larger test split and more seeds"
    return f"{told}; {power:.0%} of them would at {needed}"


def print_forecasts_json(found: Sequence[Forecast]) -> None:
    """Print the forecasts as JSON, in seconds, bytes and fractions; several surfaces stand under `surfaces`."""
    plans = [{**asdict(f), "trained": asdict(f.trained), "seconds": asdict(f.seconds)} for f in found]
    terminal.data(plans[0] if len(plans) == 1 else {"surfaces": plans})


def _span(span: Span, written: Callable[[float], str]) -> str:
    least, most = written(span.least), written(span.most)
    return least if least == most else f"{least} – {most}"
