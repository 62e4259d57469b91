"""All flags there are, and the page that tells of them."""

from __future__ import annotations

from collections.abc import Iterator

from audit import checks
from audit.checks import Doubt
from reports.wording import CAPS

PARTS = {"Protocol, data and controls": checks}

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
