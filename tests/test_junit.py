"""The JUnit report: a case for every attack on every surface, by the schema that CI servers check."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from gate_records import distillable, several, undistillable
from pages import HOSTILE, WORDS
from sample_record import sample_record

from reports import junit
from reports.record import Record, load

pytestmark = pytest.mark.usefixtures("figures_once")

# Jenkins' junit-10.xsd, the strictest that is in use: children and attributes by element, the required ones starred.
SCHEMA: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"testsuite"}, {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"properties", "testcase", "system-out", "system-err"},
        {"name*", "tests*", "failures*", "errors*", "time", "skipped", "timestamp", "hostname", "id", "package"},
    ),
    "properties": ({"property"}, set()),
    "property": (set(), {"name*", "value*"}),
    "testcase": ({"skipped", "error", "failure", "system-out", "system-err"}, {"name*", "time", "classname", "group"}),
    "failure": (set(), {"type", "message"}),
    "error": (set(), {"type", "message"}),
    "skipped": (set(), {"type", "message"}),
    "system-out": (set(), set()),
}


def check(element: ET.Element) -> None:
    """Hold an element and all within it to the schema."""
    children, attributes = SCHEMA[element.tag]
    assert {child.tag for child in element} <= children
    assert element.attrib.keys() <= {name.rstrip("*") for name in attributes}
    assert {name[:-1] for name in attributes if name.endswith("*")} <= element.attrib.keys()
    assert not children or not (element.text or "").strip()
    for child in element:
        check(child)


def suites(record: Record, *others: Record) -> list[ET.Element]:
    root = ET.fromstring(junit.render(record, others))
    check(root)
    for kind in ("tests", "failures", "errors"):
        assert int(root.attrib[kind]) == sum(int(suite.attrib[kind]) for suite in root)
    return list(root)


def cases(suite: ET.Element, *inside: str) -> list[str]:
    return [
        c.attrib["name"] for c in suite.findall("testcase") if not inside or any(c.find(t) is not None for t in inside)
    ]


def properties(suite: ET.Element) -> dict[str, str]:
    return {p.attrib["name"]: p.attrib["value"] for p in suite.findall("properties/property")}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_there_is_a_case_for_each_attack_and_the_verdict(name: str) -> None:
    record = sample_record(hostile=name)
    (suite,) = suites(record)
    assert len(cases(suite)) == len(record.comparisons) + 1 == int(suite.attrib["tests"])
    assert len(cases(suite, "failure")) == int(suite.attrib["failures"]) == 3
    assert len(cases(suite, "skipped")) == int(suite.attrib["skipped"]) == 1


def test_what_the_record_calls_distillable_fails_and_nothing_else() -> None:
    failed = {}
    for word in WORDS:
        (suite,) = suites(sample_record(word))
        failed[word] = set(cases(suite, "failure"))
        assert set(cases(suite, "skipped")) == ({"label-kd", "verdict"} if word == "INCONCLUSIVE" else {"label-kd"})
    assert failed == {"DISTILLABLE": {"soft-kd", "dkd", "verdict"}, "UNDISTILLABLE": set(), "INCONCLUSIVE": set()}


def test_an_attack_that_crashed_is_an_error_with_its_reason() -> None:
    record = sample_record("UNDISTILLABLE")
    crashed = record.comparisons[0].model_copy(update={"status": "failed", "reason": "out of memory", "margin": None})
    (suite,) = suites(record.model_copy(update={"comparisons": (crashed, *record.comparisons[1:])}))
    assert cases(suite, "error") == ["soft-kd"]
    assert suite.attrib["errors"] == "1"
    error = suite.find("testcase/error")
    assert error is not None
    assert error.attrib["message"] == "failed: out of memory"


def test_margins_intervals_queries_and_flags_are_properties() -> None:
    record = sample_record()
    told = properties(suites(record)[0])
    assert told["dkd.margin"] == "1.9100"
    assert float(told["dkd.low"]) < 1.91 < float(told["dkd.high"])
    assert told["dkd.queries"] == "3100"
    assert told["flag.few-images-per-class"] == record.flags[0].found
    assert (told["surface"], told["verdict"], told["teacher.sha256"]) == ("probs", "DISTILLABLE", record.teacher.sha256)
    assert "label-kd.margin" not in told, "it was not judged"


def test_every_surface_has_a_suite_of_its_own(tmp_path: Path) -> None:
    folder = several({"probs": distillable(), "label": undistillable()}, tmp_path / "audit")
    root = ET.parse(folder / "junit.xml").getroot()
    check(root)
    probs, label = root
    assert probs.attrib["name"].endswith("surface probs")
    assert label.attrib["name"].endswith("surface label")
    assert cases(probs) == cases(label) == ["soft-kd", "avg", "label-mixup", "knockoff", "verdict"]
    assert (cases(probs, "failure"), cases(label, "failure")) == (["soft-kd", "verdict"], [])
    every = [(c.attrib["classname"], c.attrib["name"]) for c in root.iter("testcase")]
    assert len(every) == len(set(every)) == 10
    record = load(folder)
    assert len(suites(record)) == 1, "from the record alone"
