"""The page at its full size: in the order of a decision, complete, and small."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import pytest
from pages import HOSTILE, WORDS, Page
from sample_clusters import answers, with_pools
from sample_record import large_record, sample_record

from reports import html, wording
from reports.record import PoolName, Word

ORDER = (
    *("margins", "attacks", "why", "costs", "surfaces", "cmi", "scenario", "controls", "settings", "frameworks"),
    "glossary",
)


def test_the_page_is_told_in_the_order_of_a_decision() -> None:
    headings = [a.get("id") for tag, a in Page(html.render(large_record())).tags if tag == "h2"]
    assert [heading for heading in headings if heading in ORDER] == list(ORDER)


@pytest.mark.parametrize("hostile", [None, " ".join(HOSTILE.values())], ids=["plain", "hostile"])
def test_thirty_attacks_a_hundred_classes_and_ten_surfaces_fit_a_megabyte(hostile: str | None) -> None:
    pools = {pool: answers(100, 20, seed) for seed, pool in enumerate(get_args(PoolName))}
    record = with_pools(large_record(hostile), pools)
    text = html.render(record)
    assert len(text.encode()) < 1_000_000
    said = "".join(Page(text).said)
    assert text.count('<tbody data-outcome="') == len(record.comparisons) == 30
    told = [*(c.attack for c in record.comparisons), *(c.attack for c in record.controls), *record.task.classes]
    told += [row.surface for row in record.surfaces]
    assert [name for name in told if str(html.visible(name)) not in said] == []


def test_an_attack_unfolds_to_its_settings_seeds_queries_and_source() -> None:
    record = large_record()
    (part,) = re.findall(r"<summary>[^\n]*details of <bdi>dkd-1</bdi>.*?</details>", html.render(record), re.DOTALL)
    said = " ".join(Page(part).said)
    for text in (
        "temperature=4, weight=0.9, best of 6",
        "looked at with 5, 8",
        "Zhao et al. 2022",
        "positive control passed",
    ):
        assert text in said
    assert said.count("24,800 charged, 3,100 sent for it alone") == 3


@pytest.mark.parametrize("word", WORDS)
def test_the_page_says_what_would_make_it_another_word(word: Word) -> None:
    record = sample_record(word)
    told = wording.change(record)
    assert told in "".join(Page(html.render(record)).said)
    names = {
        "DISTILLABLE": "withstands dkd, soft-kd. Each of these",
        "UNDISTILLABLE": "dkd, gains",
        "INCONCLUSIVE": "9 more seeds",
    }
    assert names[word] in told


def scenario(**settings: object) -> str:
    record = sample_record()
    update = {"drop_classes": (), **settings}
    return " ".join(wording.scenario(record.model_copy(update={"settings": replace(record.settings, **update)})))


def test_the_page_says_which_scenario_it_is_of() -> None:
    assert scenario().startswith("Full data: the attacker holds all 3,100 training images")
    assert scenario(shots=0.05) == "Few-shot: the attacker holds 5.0\u202f% of the training images, 3,100 in all."
    assert "the verdict does not judge a defence" in scenario(labels=0.1)
    both = scenario(shots=0.05, drop_classes=("9",))
    assert both.startswith("Few-shot")
    assert both.endswith("never saw an image of these classes: 9.")
