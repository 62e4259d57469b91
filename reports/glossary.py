"""What the words of an audit mean: the glossary of every report, and docs/glossary.md."""

from __future__ import annotations

from typing import Final, NamedTuple


class Term(NamedTuple):
    """A word and what it means."""

    name: str
    meaning: str


POSITIVE_CONTROL: Final = Term(
    "Positive control",
    "An attack passes the positive control if it works on the ordinary teacher, where nothing resists it: it trains "
    "a better student than its baseline, which is the best that its attacker has without a teacher. If the attacker "
    "holds original images, the baseline is their control: an LS student on these images, or on the few of them whose "
    "labels are known, or the attack's own loss on labels where that is better; otherwise it is to name the largest "
    "class always. An attack that fails even on the ordinary teacher is no evidence that the audited teacher resists.",
)
WORDS: Final = (
    Term(
        "DISTILLABLE",
        "At least one attack trains a better student with the teacher's answers than the same student is without "
        "them. The probability of saying so by chance is held below 5\u00a0%, whatever the number of attacks and "
        "looks.",
    ),
    Term(
        "UNDISTILLABLE",
        "Every attack that applies was run, at least one of them passes the positive control, and the upper bound of "
        "every margin is below the tolerance. It holds for the scope printed with it, and for no other attack, "
        "student, surface or amount of data.",
    ),
    Term("INCONCLUSIVE", "Neither could be shown. It does not mean “safe”."),
)
TERMS: Final = (
    Term("Teacher", "The audited model. Attacks send it images and see its answers, nothing else."),
    Term(
        "Attack",
        "A way to train a student from the teacher's answers. It stands for one attacker, who holds certain images and "
        "labels, and sees certain answers.",
    ),
    Term(
        "Surface", "What the API shows of an answer: all probabilities, the largest few, rounded ones, the label alone…"
    ),
    Term(
        "Query", "One image sent to the teacher. A budget is the most queries that the training of one student may use."
    ),
    Term("Student", "The network that an attacker trains; one architecture for attacks and controls."),
    Term("Knockoff student", "A student trained with the teacher's answers."),
    Term(
        "LS student",
        "The same student trained with label smoothing and no teacher: same initial weights, images, order and "
        "steps. Its amount of smoothing, zero included, is the best on validation images.",
    ),
    Term(
        "Control",
        "What a knockoff student is compared with: of the students that its attacker can train without the teacher, "
        "the best on validation images. It is an LS student, or a student with the attack's own loss on labels.",
    ),
    Term(
        "Margin",
        "Accuracy of the knockoff student minus accuracy of its control, in percentage points; of another control, "
        "where that is named.",
    ),
    Term(
        "Twin",
        "A teacher that the attacker trains on their own images: the student's architecture, label smoothing. Each "
        "seed of a student has a twin of its own. What an attack gains from twins as well, it does not owe to the "
        "audited teacher.",
    ),
    Term(
        "Sure range",
        "The interval of a margin that decides: one-sided 95\u00a0% bounds over all looks, the lower one corrected for "
        "the number of attacks as well. An attack gains if the lower end is above 0, and above every other control. "
        "It cannot gain the tolerance if the upper end is below it. Else it may gain, which is not shown.",
    ),
    Term("Tolerance", "The margin that is too small to matter: half a point, unless --delta states another."),
    Term(
        "Seed",
        "The number that fixes a student's initial weights and the order of its images. Students of several seeds "
        "show how much of a margin is chance.",
    ),
    Term(
        "Look",
        "A judgement of the results so far. The audit adds seeds while a comparison is open; each look spends a part "
        "of the allowed error, in proportion to the information that it adds.",
    ),
    Term(
        "Discordant images",
        "Test images that one of two students gets right and the other wrong: only these distinguish the students. "
        "With fewer than about 30 a seed no interval can be trusted, and more test images or a harder task are needed.",
    ),
    Term(
        "Ordinary teacher",
        "A teacher of the same task, trained by plain cross entropy, that shows full probabilities and resists "
        "nothing. Every attack is also tried on it: the positive control. That of the attacker's own images is the "
        "home-made teacher.",
    ),
    POSITIVE_CONTROL,
    Term("Null control", "LS students against LS students of other seeds: a comparison that must find nothing."),
    Term("Suite", "A named, numbered and frozen list of attacks with their recipe and seeds; each effort has one."),
    Term("Scope", "What a verdict holds for: suite, surface, budget, student and data."),
    Term("Flag", "A doubt about the audit itself, which may rule out a verdict."),
    Term(
        "Agreement",
        "The share of test images on which a student names the class that its teacher names, right or wrong.",
    ),
    Term("Steal-cost curve", "Accuracy of knockoff students against the number of queries that their training used."),
    Term(
        "CMI",
        "Conditional mutual information between image and answer, given the class: the mean divergence of answers "
        "from the mean answer of their class, in nats. 0: every image of a class gets the same answer.",
    ),
    Term("NCMI", "CMI divided by Γ, the mean cross entropy between answers to images of different classes."),
    Term(
        "Temperature",
        "The number by which logits are divided before the softmax; above 1 it softens answers. An attacker who "
        "sees probabilities can choose it.",
    ),
    Term(
        "Record",
        "The file record.json: all that was measured. Every report is made from it, and audit verify checks it.",
    ),
)

HEAD: Final = """# Glossary

The words of reports, pages and messages. The exact rules are in [the rules of the verdict](verdict.md).
"""


def page() -> str:
    """Write docs/glossary.md."""
    parts = {"The three words of a verdict": WORDS, "Terms": TERMS}
    lines = [HEAD]
    for title, terms in parts.items():
        lines += [f"## {title}\n", *(f"### {term.name}\n\n{term.meaning}\n" for term in terms)]
    return "\n".join(lines)
