"""All flags there are, and the page that tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from audit import checks, teacher_checks
from audit.checks import Doubt
from reports.record import Flag, Probe
from reports.wording import CAPS

if TYPE_CHECKING:
    from audit.derive import Facts

PARTS = {"Protocol, data and controls": checks, "The teacher's answers": teacher_checks}

HEAD = """# Flags

A flag is a doubt about the protocol. It is printed with the verdict and stands in the report, and what it allows the
verdict to be is part of the [rules](verdict.md). Flags follow from the record alone: `audit verify` finds them again. A
teacher at chance on validation images raises none: it is refused before anything is trained.
"""


def doubts() -> dict[str, list[Doubt]]:
    """Return every flag there is, by the part of the audit that it doubts, in the order of the code."""
    return {part: [v for v in vars(file).values() if isinstance(v, Doubt)] for part, file in PARTS.items()}


def page() -> str:
    """Write docs/flags.md."""
    return "\n".join(_lines())


def raised(facts: Facts) -> list[Flag]:
    """Return the flags that the probe of the teacher raises."""
    probe = facts.record.probe
    if probe is None:
        return []
    copies = probe.duplicated.array()[facts.judged]
    found = [*of_answers(probe), teacher_checks.duplicates(int(copies.sum()), len(copies))]
    return [flag for flag in found if flag is not None]


def of_answers(probe: Probe) -> list[Flag]:
    """Return the flags that a teacher's own answers raise."""
    tried = {other.normalize: other.correct.array() for other in probe.normalised}
    found = [
        teacher_checks.noisy_answers(probe.repeated.array()),
        teacher_checks.batch_dependent(probe.repeated.array(), probe.regrouped.array()),
        teacher_checks.softmaxed_twice(probe.softmaxed),
        teacher_checks.saturated(probe.saturated),
        teacher_checks.other_normalisation(probe.correct.array(), tried),
    ]
    return [flag for flag in found if flag is not None]


def _lines() -> Iterator[str]:
    yield HEAD
    for part, of in doubts().items():
        yield f"## {part}\n"
        for doubt in of:
            yield f"### `{doubt.id}`\n"
            yield f"- **Raised if** {doubt.when}."
            yield f"- **Why it matters:** {doubt.why}."
            yield f"- **What to do:** {doubt.do}."
            yield f"- It {CAPS[doubt.caps]}.\n"
