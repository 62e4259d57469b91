"""That no name of a stranger tells a terminal or a job anything."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pages import HOSTILE
from sample_record import large_record, sample_record

from audit.policy import terminal as gate_terminal
from audit.policy.gate import GateResult
from audit.policy.rules import RuleResult
from reports.printable import clean, printable
from reports.verdict import print_verdict

FORGED = "::stop-commands::x\n::error::y\r\x1b[31m ##[add-mask]z :::: ###[#[ \u202e"


@pytest.mark.parametrize("name", [FORGED, *HOSTILE.values()])
def test_what_is_printable_is_one_line_and_no_command(name: str) -> None:
    said = printable(name)
    assert said.isprintable()
    assert "::" not in said
    assert "##[" not in said
    assert printable(said) == said == clean(said)


def test_other_texts_stay_as_they_are() -> None:
    assert printable("dkd on top:3 [b] # 日本語: 1 %") == "dkd on top:3 [b] # 日本語: 1 %"


def of_a_gate() -> None:
    found = (RuleResult("waiver", "warn", FORGED), RuleResult("verdict", "fail", FORGED))
    gate_terminal.print_gate(GateResult(sample_record(hostile=FORGED), Path("out"), found))


def of_an_audit() -> None:
    record = large_record(hostile=FORGED)
    said = dict.fromkeys(("sentence", "scope", "settle"), FORGED)
    surfaces = tuple(row.model_copy(update={"surface": FORGED}) for row in record.surfaces)
    verdict = record.verdict.model_copy(update={**said, "reasons": (FORGED,)})
    print_verdict(record.model_copy(update={"verdict": verdict, "surfaces": surfaces}), Path(FORGED))


@pytest.mark.parametrize("told", [of_a_gate, of_an_audit])
def test_a_forged_name_is_told_as_text(told: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    told()
    out, _ = capsys.readouterr()
    assert "stop-commands" in out
    assert "::" not in out
    assert "##[" not in out
    assert not set(out) & {"\x1b", "\r", "\u202e"}
