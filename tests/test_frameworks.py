"""The entries of public frameworks that an audit supports evidence for: in record, page, summary and attestation."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pages import Page
from record_changes import rewritten
from sample_record import large_record, sample_record
from shipped import DEMO

from audit.analysis.derive import derived
from audit.finished.verify import follows, verify
from reports import attestation, frameworks, html, markdown, model_card
from reports.record import FrameworkEntry, Record, dumped, load

pytestmark = pytest.mark.usefixtures("curves_once", "figures_once")

ROOT = Path(__file__).resolve().parent.parent
IDS = {
    *("AML.T0024.002", "AML.T0005.001", "AML.T0048.004", "AML.M0002", "AML.M0004"),
    *("v1.0-C11.2.2", "v1.0-C11.3.2", "LLM10:2025", "ML05:2023", "model extraction", "Art. 15(5)"),
}
LIMITED = {"AML.M0004", "v1.0-C11.2.2"}  # entries that need a limit on queries
FORBIDDEN = re.compile(r"\b(compl(y|ies|ied|ian\w*)|certif\w*|conform\w*)\b", re.IGNORECASE)


def says(record: Record, entry: str, limit: str | None = None) -> str:
    return next(line.says for line in frameworks.lines(record, limit) if line.entry.id == entry)


def shown(record: Record, limit: str | None = None) -> set[str]:
    return {line.entry.id for line in frameworks.lines(record, limit) if line.supported}


def test_the_data_file_holds_each_entry_once_with_its_version() -> None:
    names = [entry.name for entry in frameworks.entries()]
    assert len(names) == len(set(names))
    assert {entry.id for entry in frameworks.entries() if not entry.earlier} == IDS
    for entry in frameworks.entries():
        assert all((entry.framework, entry.version, entry.subject, entry.source)), entry.id
        assert entry.shows.endswith("."), entry.id
    assert {entry.id for entry in frameworks.entries() if not entry.read} == {"model extraction"}


def test_an_ordinary_audit_supports_evidence_for_all_but_limits() -> None:
    record = sample_record()
    assert shown(record) == IDS - LIMITED
    assert says(record, "v1.0-C11.2.2") == "not shown here: no rate limit was sized (`audit limit`)"
    assert says(record, "v1.0-C11.3.2").endswith("a better copy. probs: DISTILLABLE.")
    assert says(record, "AML.T0024.002").endswith("7 attacks were judged: DISTILLABLE.")


def test_several_surfaces_each_have_their_word() -> None:
    told = says(large_record(), "AML.M0002")
    assert "probs: DISTILLABLE; logits: INCONCLUSIVE; uint8: UNDISTILLABLE; " in told


def test_a_budget_is_a_limit_on_queries_and_no_rate_limit_that_was_sized() -> None:
    record = sample_record()
    limited = record.model_copy(update={"settings": replace(record.settings, budget=1000)})
    assert shown(limited) == IDS - {"v1.0-C11.2.2"}
    assert says(limited, "AML.M0004").endswith("At most 1,000 queries a student: DISTILLABLE.")


def test_the_sentence_of_a_limit_fills_what_needs_one() -> None:
    sentence = "Up to 3,100 queries, no attack gains half a point."
    assert shown(sample_record(), sentence) == IDS
    for entry in LIMITED:
        assert says(sample_record(), entry, sentence).endswith(sentence)


def test_an_audit_without_a_judged_attack_shows_no_attack() -> None:
    rows = tuple(row.model_copy(update={"status": "failed"}) for row in sample_record().comparisons)
    record = sample_record().model_copy(update={"comparisons": rows})
    assert shown(record) == {"AML.M0002", "v1.0-C11.3.2"}
    assert says(record, "ML05:2023") == "not shown here: no attack was judged"


def test_the_page_shows_them_folded() -> None:
    text = html.render(sample_record())
    (part,) = re.findall(r'<details class="part" id="part-frameworks">.*?</details>', text, re.DOTALL)
    assert "Which frameworks this supports evidence for" in part
    told = " ".join(Page(part).said)
    for line in frameworks.lines(sample_record()):
        for cell in (line.entry.framework, line.entry.version, line.entry.id, line.entry.subject, line.says):
            assert cell in told


def test_the_summary_has_a_line_for_each() -> None:
    told = markdown.render(sample_record()).partition("### Frameworks")[2]
    listed = [line for line in told.splitlines() if line.startswith("- ")]
    assert len(listed) == len(IDS)
    for line, entry in zip(listed, frameworks.lines(sample_record()), strict=True):
        assert entry.entry.id in line
        assert ("not shown here" in line) == (entry.entry.id in LIMITED)
    assert "supports evidence for" in told


def test_the_attestation_names_what_is_shown_and_the_file_that_describes_it() -> None:
    told = json.loads(attestation.render(sample_record()))["predicate"]["configuration"]
    (part,) = [one for one in told if one["name"] == "frameworks"]
    assert part["digest"] == {"sha256": frameworks.digest()}
    entries = part["annotations"]["supports evidence for"]
    assert {entry["id"] for entry in entries} == IDS - LIMITED
    assert all(entry["framework"] and entry["version"] and entry["shows"] for entry in entries)


def test_no_output_says_that_anybody_fulfils_a_framework() -> None:
    for record in (sample_record(), large_record()):
        for render in (html.render, markdown.render, attestation.render, model_card.render):
            assert not FORBIDDEN.search(render(record))
    assert not FORBIDDEN.search(frameworks.page())
    assert not FORBIDDEN.search((ROOT / "reports" / "frameworks.toml").read_text(encoding="utf-8"))


def test_a_record_names_them_and_verifies(tmp_path: Path) -> None:
    record = frameworks.stated(load(DEMO))
    assert {entry.id for entry in record.frameworks} == IDS - LIMITED
    assert derived(record).frameworks == record.frameworks
    folder = rewritten(Path(shutil.copytree(DEMO, tmp_path / "copy")), record)
    assert load(folder) == record
    assert list(verify(folder)) == []


def test_a_new_audit_names_them(finished: Path) -> None:
    record = load(finished)
    assert {entry.id for entry in record.frameworks} == IDS - LIMITED
    assert derived(record).frameworks == record.frameworks


def test_a_record_of_an_earlier_version_names_none_and_stays_as_it_is() -> None:
    record = load(DEMO)
    assert derived(record).frameworks == ()
    assert b"frameworks" not in dumped(record)


@pytest.mark.parametrize(
    "added",
    [
        FrameworkEntry(framework="MITRE ATLAS", version="5.0.1", id="AML.T9999"),
        FrameworkEntry(framework="MITRE ATLAS", version="9", id="AML.T0024.002"),
        FrameworkEntry(framework="OWASP AISVS", version="1.0", id="v1.0-C11.2.2"),
        FrameworkEntry(framework="MITRE ATLAS", version="5.0.1", id="AML.T0024.002"),
    ],
    ids=["unknown", "of an unknown version", "not shown", "twice"],
)
def test_an_entry_that_a_record_does_not_support_is_found(added: FrameworkEntry) -> None:
    record = frameworks.stated(load(DEMO))
    forged = record.model_copy(update={"frameworks": (*record.frameworks, added)})
    assert [found.where for found in follows(forged)] == ["record.frameworks"]


def test_an_entry_of_an_earlier_version_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the data file goes on to another version, records that name the old one verify, and new ones do not."""
    first, *others = frameworks.entries()
    old, new = first.model_copy(update={"earlier": True}), first.model_copy(update={"version": "6"})
    record = frameworks.stated(load(DEMO))
    monkeypatch.setattr(frameworks, "entries", lambda: (old, new, *others))
    assert derived(record).frameworks == record.frameworks
    assert new.name in frameworks.stated(record).frameworks
    assert old.name not in frameworks.stated(record).frameworks


def test_the_page_in_the_documentation_is_that_of_the_data_file() -> None:
    """Where this fails: python -c "from reports.frameworks import page; print(page(), end='')" > docs/frameworks.md."""
    assert (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8") == frameworks.page()
