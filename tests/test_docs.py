"""What is written about the tool: pages that find each other, one glossary, and one version everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from pages import Page
from sample_record import sample_record

from audit import __version__
from reports import glossary, html

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read(name: str) -> Any:
    return yaml.safe_load(text(name))


def links(name: str) -> list[str]:
    """Return where a page leads, by its links that are no URLs; code shows none."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text(name), flags=re.DOTALL)
    return [link for link in LINK.findall(prose) if "://" not in link]


def anchors(path: Path) -> set[str]:
    """Return the names of a page's headings, as GitHub and mkdocs make them."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    made = {re.sub(r"[^\w\s-]", "", head).strip().lower().replace(" ", "-") for head in heads}
    return made | set(re.findall(r'<a (?:id|name)="([^"]*)"', path.read_text(encoding="utf-8")))


def titles(nav: object) -> Iterator[str]:
    """List the pages of a navigation, in its order."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from titles(part)


WRITTEN = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *(f"docs/{page}" for page in PAGES)]


@pytest.mark.parametrize("name", WRITTEN)
def test_every_link_leads_somewhere(name: str) -> None:
    for link in links(name):
        place, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / place).resolve() if place else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
        if name.startswith("docs/"):
            assert target.parent == ROOT / "docs", f"{link}: the site holds docs/ alone; write the path as code"


def test_the_index_and_the_site_list_every_page_in_one_order() -> None:
    listed = links("docs/index.md")
    assert sorted([*listed, "index.md"]) == PAGES
    nav = read("mkdocs.yml")["nav"]
    assert list(titles(nav)) == ["index.md", *listed]
    asked = [title for part in nav if isinstance(part, dict) for title in part]
    assert asked == re.findall(r"^## (.*)$", text("docs/index.md"), re.MULTILINE)


def test_ci_builds_the_site_and_fails_at_a_warning() -> None:
    assert re.search(r"pip install .*\bdocs\b.*\n(.*\n)*mkdocs build .*--strict", text(".ci/run"))
    assert "bash .ci/run" in text(".github/workflows/ci.yml")


def test_the_page_of_the_glossary_is_that_of_the_reports() -> None:
    """Where this fails: python -c "from reports.glossary import page; print(page(), end='')" > docs/glossary.md."""
    assert text("docs/glossary.md") == glossary.page()
    said = " ".join(" ".join(Page(html.render(sample_record())).said).split())
    for term in (*glossary.WORDS, *glossary.TERMS):
        assert term.name in said
        assert " ".join(term.meaning.split()) in said


def test_the_glossary_is_short_and_names_each_term_once() -> None:
    names = [term.name for term in (*glossary.WORDS, *glossary.TERMS)]
    assert len(names) == len(set(names)) <= 30
    assert glossary.POSITIVE_CONTROL in glossary.TERMS


@pytest.mark.parametrize("name", ["README.md", "docs/verdict.md", "docs/index.md"])
def test_who_meets_the_positive_control_finds_what_it_means(name: str) -> None:
    assert re.search(r"glossary\.md#positive-control|\[The glossary\]\(glossary\.md\)", text(name))


VERSION = re.compile(r"^## (\S+) - (\S+)$", re.MULTILINE)


def test_the_changelog_is_one_of_versions_with_dates() -> None:
    log = text("CHANGELOG.md")
    heads = re.findall(r"^## (.*)$", log, re.MULTILINE)
    versions = VERSION.findall(log)
    assert heads == ["Unreleased", *(f"{version} - {day}" for version, day in versions)]
    days = [date.fromisoformat(day) for _, day in versions]
    assert days == sorted(days, reverse=True)
    assert versions[0][0] == __version__
    kinds = set(re.findall(r"^### (.*)$", log, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for version in re.split(r"^## ", log, flags=re.MULTILINE):
        assert not re.search(r"^- ", version.partition("\n### ")[0], re.MULTILINE), "each entry is of a kind"


# Citation File Format 1.2.0: what it demands, and what else we give.
DEMANDED = {"cff-version", "message", "title", "authors"}
GIVEN = {"type", "abstract", "version", "date-released", "license", "keywords"}


def test_the_citation_is_of_this_version_and_of_its_day() -> None:
    cited = read("CITATION.cff")
    assert cited.keys() == DEMANDED | GIVEN
    assert (cited["cff-version"], cited["type"], cited["license"]) == ("1.2.0", "software", "Apache-2.0")
    assert all(author.keys() <= {"name", "family-names", "given-names"} for author in cited["authors"])
    assert (cited["version"], cited["date-released"]) == VERSION.findall(text("CHANGELOG.md"))[0]


def test_the_pythons_of_the_package_are_those_of_ci() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    job = cast("dict[str, Any]", read(".github/workflows/ci.yml"))["jobs"]["check"]
    tested = job["strategy"]["matrix"]["python"]
    named = [c.rpartition(" ")[2] for c in project["classifiers"] if c.startswith("Programming Language :: Python :: ")]
    assert named == tested
    assert project["requires-python"] == f">={tested[0]}"
    assert f"Python {' and '.join(tested)}" in text("README.md")


@pytest.mark.parametrize(
    ("owner", "elsewhere", "said"),
    [
        ("OWNER", "OWNER", "put in the owner before a release"),
        ("somebody", "somebody", ""),
        ("somebody", "another", "takes the action from another/distill-audit, and pyproject.toml says somebody/"),
    ],
)
def test_a_release_says_where_the_action_comes_from(tmp_path: Path, owner: str, elsewhere: str, said: str) -> None:
    named = {"pyproject.toml": owner, "examples/github/release-gate.yml": owner, "docs/ci.md": elsewhere}
    named["examples/gitlab/.gitlab-ci.yml"] = owner
    for name, put in named.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(
            text(name).replace("OWNER/distill-audit", f"{put}/distill-audit"), encoding="utf-8"
        )
    done = subprocess.run([sys.executable, ROOT / ".ci/release", tmp_path], capture_output=True, text=True)
    assert (done.returncode, said in done.stderr) == (int(bool(said)), True)
    release = cast("dict[str, Any]", read(".github/workflows/ci.yml"))["jobs"]["release"]
    assert release["if"] == "startsWith(github.ref, 'refs/tags/')"
    assert release["steps"][-1]["run"] == "python .ci/release"


def test_a_vulnerability_is_reported_in_private() -> None:
    told = text("SECURITY.md")
    assert "private vulnerability reporting" in told
    assert "docs/wall.md" in links("SECURITY.md")
    assert "@" not in told


def test_names_in_contributing_are_in_the_files_beside_them() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    places = re.findall(r"`([A-Za-z_][\w.]*)` in `((?:audit|attacks|teachers|reports|tests)/[\w/]+\.py)`", text)
    assert len(places) > 20
    for name, file in places:
        path = ROOT / file
        assert path.is_file(), file
        assert re.search(rf"\b(?:def |class )?{re.escape(name.split('.')[-1])}\b", path.read_text(encoding="utf-8")), (
            f"{name} in {file}"
        )
