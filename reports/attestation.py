"""Render the record as an in-toto Statement with a test-result predicate, ready to be signed by standard tools."""

from __future__ import annotations

import json
from typing import Any, Final

from reports import frameworks
from reports.record import Record, digest
from reports.wording import outcome

RESULTS: Final = {"DISTILLABLE": "FAILED", "UNDISTILLABLE": "PASSED", "INCONCLUSIVE": "WARNED"}


def render(record: Record) -> str:
    """Return the Statement: its subject is the checkpoint; its configuration has the digests of record, data and suite.

    It also has the entries of frameworks that the audit supports evidence for.

    Tests are attacks: failed are those that gain, passed those that cannot gain the tolerance, warned all others.

    Statement v1 and test-result v0.1 of https://github.com/in-toto/attestation.
    """
    tests: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for row in record.comparisons:
        said = outcome(row, record)
        kind = "failedTests" if said == "gains" else "passedTests" if said.startswith("cannot") else "warnedTests"
        tests[kind].append(row.attack)
    predicate = {"result": RESULTS[record.verdict.word], "configuration": _configuration(record), **tests}
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": record.teacher.name, "digest": {"sha256": record.teacher.sha256}}],
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": predicate,
    }
    return json.dumps(statement, indent=1) + "\n"


def _configuration(record: Record) -> list[dict[str, Any]]:
    digests = {
        "record.json": digest(record),
        "journal.jsonl": record.journal,
        f"data {record.task.name}": record.task.digest,
        f"suite {record.suite.name}": record.suite.digest,
        f"distill-audit {record.environment.tool}": record.environment.code,
    }
    held = [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items() if digest]
    return [*held, _frameworks(record)]


def _frameworks(record: Record) -> dict[str, Any]:
    """Return the entries of frameworks, with the digest of the file that describes them."""
    told = [line.entry.name.model_dump() | {"shows": line.says} for line in frameworks.lines(record) if line.supported]
    annotations = {"supports evidence for": told}
    return {"name": "frameworks", "digest": {"sha256": frameworks.digest()}, "annotations": annotations}
