"""Render the record as JUnit XML: one test case for each attack and one for the verdict, for each surface."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from reports import answer
from reports.record import Comparison, Record, Trial
from reports.wording import distils, gain, outcome, probability, span

# Characters that XML 1.0 does not allow, change the text direction or have no width.
_ILLEGAL = re.compile(
    "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)


def render(record: Record, others: Sequence[Record] = ()) -> str:
    """Return the test report: a test suite for each surface; `others`: the records of the other surfaces.

    An attack that makes the teacher distillable is a failure, a crashed one an error, one that does not apply is
    skipped. Numbers are properties of the suite, because the schema that CI servers check has no properties for a case.
    """
    suites = [_suite(one) for one in (record, *others)]
    root = ET.Element("testsuites")
    for kind in ("tests", "failures", "errors"):
        root.set(kind, str(sum(int(suite.attrib[kind]) for suite in suites)))
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


_COUNTED = {"failures": "failure", "skipped": "skipped", "errors": "error"}


def _suite(record: Record) -> ET.Element:
    surface = record.settings.surface
    name = f"distill-audit {record.suite.name}: {record.teacher.name}, surface {surface}"
    suite = ET.Element("testsuite", name=_legal(name))
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(record):
        ET.SubElement(properties, "property", name=_legal(key), value=_legal(value))
    for comparison in record.comparisons:
        _attack(suite, comparison, record)
    _verdict(suite, record)
    results = {kind: str(len(suite.findall(f"testcase/{tag}"))) for kind, tag in _COUNTED.items()}
    suite.attrib |= {"tests": str(len(suite.findall("testcase"))), **results}
    suite.attrib |= {"time": f"{record.times.wall_seconds:.3f}", "timestamp": _legal(record.times.created)}
    return suite


def _properties(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the suite's teacher, surface, verdict and flags, and every judged attack's numbers; margins in points."""
    yield "teacher.sha256", record.teacher.sha256
    yield "surface", record.settings.surface
    yield "verdict", record.verdict.word
    for flag in record.flags:
        yield f"flag.{flag.id}", flag.found
    for row in record.comparisons:
        if row.margin is not None:
            numbers = {"margin": row.margin.mean, "low": row.margin.low, "high": row.margin.high}
            for key, value in (numbers | {"upper": row.margin.upper}).items():
                yield f"{record.name_of(row)}.{key}", f"{100 * value:.4f}"
            yield f"{record.name_of(row)}.queries", str(row.knockoff.queries)


def _attack(suite: ET.Element, comparison: Comparison, record: Record) -> None:
    seconds = sum(t.seconds for t in record.trials if _of(t, comparison))
    case = _case(suite, record, record.name_of(comparison), seconds)
    if comparison.status != "judged":
        reason = f"{outcome(comparison, record)}: {comparison.reason or 'no reason given'}"
        ET.SubElement(case, "error" if comparison.status == "failed" else "skipped", message=_legal(reason))
        return
    found = _found(comparison, record)
    if distils(comparison, record):
        ET.SubElement(case, "failure", type="DISTILLABLE", message=_legal(found)).text = _legal(
            f"{found}\nThe knockoff student beats its control: Holm-adjusted p is below {record.verdict.alpha}."
        )
    else:
        ET.SubElement(case, "system-out").text = _legal(found)


def _of(trial: Trial, comparison: Comparison) -> bool:
    mine = trial.kind == "attack" and trial.cell.technique == comparison.attack
    return mine and comparison.student in ("", trial.cell.student)


def _found(comparison: Comparison, record: Record) -> str:
    """Write the outcome, the margin and its uncertainty."""
    margin = comparison.margin
    if margin is None:
        return "no margin"
    return (
        f"{outcome(comparison, record)}: margin {gain(comparison, record)} points, 95 % interval {span(margin)}, "
        f"Holm-adjusted p {probability(comparison.p_holm)}, {comparison.knockoff.queries:,} queries"
    )


def _verdict(suite: ET.Element, record: Record) -> None:
    verdict = record.verdict
    case = _case(suite, record, "verdict", 0.0)
    message = _legal(f"{verdict.word}: {answer.sentence(record)}")
    body = _legal(
        "\n".join(
            [answer.sentence(record), verdict.sentence, f"Scope: {verdict.scope}", *verdict.reasons, verdict.settle]
        ).strip()
    )
    if verdict.word == "DISTILLABLE":
        ET.SubElement(case, "failure", type=verdict.word, message=message).text = body
    elif verdict.word == "INCONCLUSIVE":
        ET.SubElement(case, "skipped", message=message)
    ET.SubElement(case, "system-out").text = body


def _case(suite: ET.Element, record: Record, name: str, seconds: float) -> ET.Element:
    classname = f"distill-audit.{record.teacher.name}.{record.suite.name}.{record.settings.surface}"
    return ET.SubElement(suite, "testcase", classname=_legal(classname), name=_legal(name), time=f"{seconds:.3f}")


def _legal(text: str) -> str:
    """Replace characters that XML 1.0 does not allow or that are invisible."""
    return _ILLEGAL.sub("\ufffd", text)
