"""What the command line prints: verdict, lists, and what there is to know of an attack."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from audit.execution.progress import duration
from reports import terminal, wording
from reports.diagnosis import Diagnosis
from reports.record import Comparison, Record
from teachers.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from audit.forecasting.forecast import Forecast, Span
    from audit.selftest import Checked
    from teachers.methods.base import Method


def tell(record: Record, folder: Path) -> None:
    """Print a verdict for a person."""
    verdict = record.verdict
    terminal.say("")
    terminal.say(verdict.sentence, lead=verdict.word)
    for reason in verdict.reasons:
        terminal.say(f"  · {reason}")
    if verdict.settle:
        terminal.say(f"  To settle it: {verdict.settle}")
    terminal.table(
        ("attack", "knockoff %", "LS %", "margin, points (95 %)", "Holm p", "queries", "bites"),
        ((record.named(row), *_cells(row)) for row in record.comparisons),
        words=("bites",),
    )
    for line in wording.beside(record):
        terminal.say(line)
    if record.hardening:
        _tell_surfaces(record)
        terminal.say(wording.hardening(record))
    if wording.cost(record):
        terminal.say(wording.cost(record))
    for flag in record.flags:
        terminal.say(f"flag {flag.id}: {flag.raised}")
    terminal.say(verdict.scope)
    times = record.times
    terminal.say(
        f"{times.trained} students trained, {times.reused} from the cache, {times.wall_seconds:.0f} s, "
        f"{times.training_share:.0%} of them in training steps. Report: {folder / 'report.html'}",
        whole=True,
    )


def _tell_surfaces(record: Record) -> None:
    rows = []
    for row in record.hardening:
        margin = "" if row.margin is None else f"{wording.points(row.margin.mean)} {wording.span(row.margin)}"
        users = (wording.percent(share) for share in (row.accuracy, row.calibration_error, row.top5))
        rows.append((row.surface, row.word, margin, *users))
    heads = ("surface", "verdict", "margin, points (95 %)", "accuracy", "calibration error", "ranks five classes")
    terminal.table(heads, rows, words=("verdict",))


def _cells(row: Comparison) -> tuple[str, ...]:
    if row.margin is None or row.accuracy is None or row.control_accuracy is None:
        return row.status, "", "", "", "", wording.bites(row)
    m = row.margin
    return (
        f"{100 * row.accuracy:.1f}",
        f"{100 * row.control_accuracy:.1f}",
        f"{wording.points(m.mean)} {wording.span(m)}",
        wording.probability(row.p_holm),
        f"{row.queries:,}",
        wording.bites(row),
    )


def tell_json(record: Record, folder: Path) -> None:
    """Print a verdict for a script."""
    rows = [
        {
            "attack": row.attack,
            "student": row.student,
            "status": row.status,
            "margin": None if row.margin is None else row.margin.mean,
            "low": None if row.margin is None else row.margin.low,
            "high": None if row.margin is None else row.margin.high,
            "p_holm": row.p_holm,
            "bites": None if row.bite is None else row.bite.bites,
        }
        for row in record.comparisons
    ]
    terminal.data({**record.verdict.model_dump(mode="json"), "folder": str(folder), "attacks": rows})


def tell_plans(found: Sequence[Forecast]) -> None:
    """Print what the audit of every surface will take and what it could see."""
    for one in found:
        _tell_plan(one)
    if len(found) > 1:
        students, seconds, queries = (
            sum(span.most for span in spans)
            for spans in ([f.trained for f in found], [f.seconds for f in found], [f.queries for f in found])
        )
        terminal.say(
            f"All {len(found)} surfaces: at most {students:,.0f} students, {duration(seconds)} and {queries:,.0f} "
            "queries; it will be less, for students without a teacher are shared",
            whole=True,
        )


def _tell_plan(found: Forecast) -> None:
    """Print what an audit will take and what it could see."""
    from audit.statistics.power import POWER

    def say(line: str) -> None:
        terminal.say(line, whole=True)

    looks = f"{found.seeds[1]} seeds" if found.seeds[0] == found.seeds[1] else "{} to {} seeds".format(*found.seeds)
    say(
        f"{found.teacher} behind {found.surface}, suite {found.suite}: {found.attacks} attacks, students "
        f"{' and '.join(found.students)}, {looks}, {found.images:,} test images"
    )
    rows = [(row.name, _span(row.students, "{:,.0f}".format), _span(row.seconds, duration)) for row in found.rows]
    rows.append(("answers", "", _span(found.answering, duration)))
    rows.append(("all", _span(found.trained, "{:,.0f}".format), _span(found.seconds, duration)))
    terminal.table(("phase", "students", f"time, {found.workers} at once"), rows)
    if found.kept:
        say(f"{found.kept} more students of the tuning are in the cache already")
    say(f"Memory: {found.memory / 2**30:.1f} GiB")
    cost = "" if found.price is None else f", {_span(found.queries.times(found.price / 1000), '{:,.2f}'.format)} to pay"
    say(f"Queries to the teacher: {_span(found.queries, '{:,.0f}'.format)} ({found.auditor:,} the auditor's own){cost}")
    gain, resistance = (100 * value for value in (found.power.gain, found.power.resistance))
    say(
        f"With {POWER:.0%} power it finds a gain of {gain:.1f} points, and clears an attack whose margin is "
        f"{resistance:+.1f}"
    )
    told = ", ".join(f"{name} {100 * power.gain:.1f}" for name, power in found.efforts.items())
    say(f"(by effort, points of gain: {told}; margins scatter as {found.scatter.source})")
    if found.measured < found.techniques:
        say(f"The time of {found.techniques - found.measured} techniques is that of the others: they were not reached")


def tell_plans_json(found: Sequence[Forecast]) -> None:
    """Print the same for a script; seconds, bytes and fractions. Of several surfaces, under `surfaces`."""
    plans = [{**asdict(f), "trained": asdict(f.trained), "seconds": asdict(f.seconds)} for f in found]
    terminal.data(plans[0] if len(plans) == 1 else {"surfaces": plans})


def _span(span: Span, written: Callable[[float], str]) -> str:
    least, most = written(span.least), written(span.most)
    return least if least == most else f"{least} – {most}"


def tell_cmi(found: Diagnosis, folder: Path) -> None:
    """Print how concentrated a teacher's answers are for a person."""
    rows = []
    for pool in found.pools:
        one, top = pool.temperatures.index(1.0), pool.cmi.index(max(pool.cmi))
        rows.append(
            (
                pool.name,
                f"{pool.images:,}",
                f"{pool.accuracy:.1%}",
                f"{pool.cmi[one]:.3f} {wording.within(pool.cmi[one], pool.se[one])}",
                f"{pool.gamma[one]:.2f}",
                f"{pool.ncmi[one]:.4f}",
                f"{pool.cmi[top]:.3f}",
                f"{pool.temperatures[top]:g}",
                f"{pool.unreliable}",
            )
        )
    heads = ("number", "accuracy", "CMI at T = 1, nats (95 %)", "Γ", "NCMI", "largest CMI", "at T", "small classes")
    terminal.table(("images", *heads), rows)
    spread = ", ".join(f"{shown.name} ({shown.cmi:.3f})" for shown in found.spread)
    lines = [f"Most spread held-out classes: {spread or 'none has two images'}"]
    lines += [wording.behind(found.behind)] if found.behind else []
    lines += [f"Eigen-CAM panels are left out: {found.no_cams}"] if found.no_cams else []
    for line in (*lines, f"Page: {folder / 'cmi.html'}; numbers: {folder / 'cmi.json'}"):
        terminal.say(line, whole=True)


def tell_cmi_json(found: Diagnosis, folder: Path) -> None:
    """Print how concentrated a teacher's answers are for a script: cmi.json without what is there to be drawn."""
    told = found.model_dump(mode="json", exclude={"spread", "triangle", "projection", "cams"})
    terminal.data({**told, "folder": str(folder)})


def tell_selftest(found: Sequence[Checked]) -> None:
    """Print what audits of teachers of known distillability found."""
    heads = ("teacher", "expected", "found", "holds", "why")
    rows = [(one.teacher, one.expected, one.found, "yes" if one.holds else "NO", "; ".join(one.why)) for one in found]
    terminal.table(heads, rows, words=heads)


def listing(what: str) -> str:
    """Return a list of names with a line each.

    Raises UsageError where there is no such list.
    """
    if what == "attacks":
        from attacks.registry import CONTROLS, attacks

        known = {n: f"{a.title} ({a.holds}; needs {a.needs})" for n, a in attacks().items()}
        return _lines(known | {n: f"control: {c.title}" for n, c in CONTROLS.items()})
    if what == "students":
        from teachers.networks import OURS

        more = {"torchvision:NAME": "any torchvision classifier", "timm:NAME": "any timm network"}
        return _lines(OURS | more)
    if what == "data":
        from teachers.datasets import catalogue

        return _lines(catalogue() | {"embedded:NAME": "glyphs or digits, where a folder of this name is here, too"})
    if what == "teachers":
        from audit.subjects import BUILT_IN
        from teachers.methods import METHODS

        more = {"embedded:NAME": "one of the five above, where a file of this name is here, too"}
        return _lines({n: f"audit teach {n}: {m.title} ({m.paper})" for n, m in METHODS.items()} | BUILT_IN | more)
    raise UsageError(f"there is no list of {what!r}; there are attacks, students, data, teachers")


def _lines(known: dict[str, str]) -> str:
    width = max(map(len, known))
    return "\n".join(f"{name:<{width}}  {line}" for name, line in known.items())


THREAT = {
    "original": "the teacher's training images",
    "surrogate": "other images, unlabelled",
    "no data": "no images at all",
}
SEES = {
    "label": "the top class",
    "probs": "probabilities",
    "gradients": "probabilities and the input gradient of the top class",
}


def about(name: str) -> str:
    """Return all there is to know of an attack, a control or a way to train a teacher."""
    from attacks.base import Attack
    from attacks.registry import find
    from teachers.methods import METHODS

    if name in METHODS:
        return _about_method(METHODS[name])
    technique = find(name)
    lines = [f"{name}: {technique.title}", f"paper: {technique.paper}", f"version: {technique.version}"]
    if issubclass(technique, Attack):
        lines.append(f"threat model: the attacker holds {THREAT[technique.holds]} and sees {SEES[technique.needs]}")
    else:
        lines.append("control: trains without a teacher")
    lines.append(f"published: {technique.published or 'no figure that was verified'}")
    lines.append(f"measured: {_measured(name)}")
    lines += ["settings it is tuned over, the default first:"]
    lines += [f"  {setting.parameters}" for setting in technique.grid()]
    if issubclass(technique, Attack):
        lines += [f"preset {preset}: {a.parameters}" for preset, a in technique.presets().items()]
    lines.append(inspect.getdoc(technique) or "")
    return "\n".join(lines)


def _about_method(method: type[Method]) -> str:
    from teachers.methods import written

    lines = [f"{method.name}: {method.title}", f"paper: {method.paper}", *_standings(method.name)]
    lines += ["settings, for --set:"] if fields(method) else []
    lines += [f"  {field.name}={written(field.default)}" for field in fields(method)]
    if method.looks:
        lines.append("looks at an ordinary teacher: the task's own, or the one of --init")
    return "\n".join([*lines, inspect.getdoc(method) or ""])


def _standings(method: str) -> list[str]:
    """Say what teachers of a method gave away in the reference bag, as shipped."""
    from audit.suite import BAG
    from reports.bag import shipped

    bag = shipped(BAG.name)
    lines = []
    for shots in sorted({t.shots for t in bag.teachers}, reverse=True) if bag else ():
        of = [t for t in bag.teachers if (t.method, t.shots) == (method, shots)] if bag else []
        margins = ", ".join(wording.points(t.margin) for t in of)
        if of:
            lines.append(f"measured, {shots:.0%} of the images: largest margins of {len(of)} teachers {margins} points")
    return lines


def _measured(name: str) -> str:
    """Return the row of the bite table, as shipped."""
    import attacks

    path = Path(attacks.__file__).with_name("measured.json")
    rows: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return rows.get(name, "not by us")
