"""The part of a model card is YAML and Markdown that Hugging Face's own library reads, whatever names it holds."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from pages import HOSTILE, WORDS
from sample_record import interval, sample_record

from reports import answer, model_card
from reports.markdown import escape
from reports.record import Word


def head(text: str) -> dict[str, Any]:
    """Return the metadata of a card."""
    (found,) = yaml.safe_load(text.split("---\n")[1])["model-index"]
    return dict(found)


@pytest.mark.parametrize("word", WORDS)
def test_a_card_says_what_the_page_says(word: Word) -> None:
    record = sample_record(word)
    text = model_card.render(record)
    assert f"**{word}.** {escape(answer.sentence(record))}" in text
    (result,) = head(text)["results"]
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    best = record.comparisons[1]
    assert best.margin is not None
    assert values == {
        "Test accuracy": 0.8987,
        "Verdict": word,
        "dkd: margin, points": pytest.approx(100 * best.margin.mean, abs=1e-3),
        "dkd: lower end of the sure range, points": pytest.approx(100 * best.margin.lower, abs=1e-3),
        "dkd: upper end of the sure range, points": pytest.approx(100 * best.margin.upper, abs=1e-3),
    }
    assert record.teacher.sha256 in text


def test_hugging_faces_library_reads_it() -> None:
    results = ModelCard(model_card.render(sample_record())).data.eval_results
    assert results is not None
    assert {(r.task_type, r.dataset_name, r.dataset_split) for r in results} == {
        ("image-classification", "characters", "test")
    }
    assert [r.metric_type for r in results] == ["accuracy", *["distillation_audit"] * 4]


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_names_stay_text_in_a_card(name: str) -> None:
    record = sample_record(hostile=name)
    task = record.task.model_copy(update={"name": f"---\n{name}"})
    first = record.comparisons[0].model_copy(update={"corrected_lower": 0.01, "margin": interval(0.05, 0.001)})
    rows = (first, *record.comparisons[1:])
    text = model_card.render(record.model_copy(update={"task": task, "comparisons": rows}))
    assert set(head(text)) == {"name", "results"}
    body = text.split("---\n\n", 1)[1]
    assert "<" not in body
    assert "://" not in body
    assert sum(line.startswith("#") for line in body.splitlines()) == 1


def test_a_card_without_a_judged_attack_has_the_teacher_alone() -> None:
    text = model_card.render(sample_record().model_copy(update={"comparisons": ()}))
    (result,) = head(text)["results"]
    assert [metric["name"] for metric in result["metrics"]] == ["Test accuracy", "Verdict"]
