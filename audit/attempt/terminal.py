"""Terminal output of `audit attempt`."""

from __future__ import annotations

from audit.attempt.attempt import Attempt
from audit.attempt.settings import written
from reports import terminal, wording


def print_attempt(found: Attempt) -> None:
    """Print an attempt for a person."""
    margin = found.margin
    low, high = (wording.points(bound) for bound in margin.interval())
    rows = [
        (f"{k + 1}", f"{mine:.1%}", f"{control:.1%}", wording.points(mine - control))
        for k, (mine, control) in enumerate(zip(found.accuracy, found.control, strict=True))
    ]
    terminal.say(f"{found.setting.name} ({written(found.setting)}), {found.student} students, {found.surface}")
    terminal.table(("seed", "accuracy", "control", "margin, points"), rows)
    terminal.say(f"control: {found.against}")
    terminal.say(f"{found.queries:,} queries and {found.seconds:.1f} s a student")
    terminal.say(
        f"margin {wording.points(margin.mean)} points, 95 % interval [{low}, {high}], n = {margin.seeds} seeds × "
        f"{margin.images:,} validation images of {found.data}"
    )
    terminal.say(sentence(found))


def sentence(found: Attempt) -> str:
    """Say whether an attack passes the positive control, on validation images."""
    name, surface = found.setting.name, "gradients" if found.setting.needs == "gradients" else "probs"
    if found.surface != surface:
        gains = "gains" if found.passes else "was not seen to gain"
        return f"{name} {gains} on {found.surface}; the positive control is on {surface}: leave --surface out"
    if found.passes:
        return f"{name} passes the positive control: it gains on the ordinary teacher (one-sided, at 95 %)"
    return f"{name} does not pass the positive control: no gain on the ordinary teacher was seen (one-sided, at 95 %)"


def print_attempt_json(found: Attempt) -> None:
    """Print an attempt as JSON."""
    margin = found.margin
    low, high = margin.interval()
    plain = {name: value for name, value in vars(found).items() if name not in ("setting", "margin")}
    terminal.data(
        {
            "attack": found.setting.name,
            "parameters": found.setting.parameters,
            **plain,
            "accuracy": found.accuracy.tolist(),
            "control": found.control.tolist(),
            "margin": {"mean": margin.mean, "low": low, "high": high, "seeds": margin.seeds, "images": margin.images},
            "sentence": sentence(found),
        }
    )
