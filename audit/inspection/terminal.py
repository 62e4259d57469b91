"""Terminal output of `audit inspect`."""

from __future__ import annotations

from dataclasses import asdict

from audit.inspection.inspection import Inspection
from reports import terminal
from teachers.intake.normalise import BGR
from teachers.names import quoted
from teachers.targets.identify import why_normalised


def print_inspection(found: Inspection) -> None:
    """Print the description of a checkpoint for a person."""
    for name, line in _inspected(found).items():
        terminal.say(f"{name:<14} {line}", whole=True)


def _inspected(found: Inspection) -> dict[str, str]:
    others = [name for name in found.candidates if name != found.architecture]
    more = f"; the same tensors: {', '.join(others[:4])}{', …' if len(others) > 4 else ''}" if others else ""
    size = f"{found.size} × {found.size} pixels" if found.size else "any size"
    lines = {
        "file": f"{found.file}, {found.format}, {found.bytes:,} bytes",
        "sha256": found.sha256,
        "architecture": f"{found.architecture or 'undecided'}{more}",
        "parameters": "unknown" if found.parameters is None else f"{found.parameters:,}",
        "classes": f"{found.classes or 'unknown'}",
        "input": "unknown",
        "outputs": found.outputs or "unknown",
        "normalisation": found.normalize or f"undecided: give {'' if found.given else '--data, or '}--normalize",
    }
    if found.weights:
        lines["weights"] = found.weights.removeprefix("weights ")
    if found.data:
        lines["data"] = "; ".join(found.data)
    if found.changes:
        lines["tensors"] = ", ".join(found.changes)
    if found.left_over:
        lines["left over"] = found.left_over
    if found.channels:
        layout = "N, C, H, W"
        if found.channels == 3 and found.normalize:
            layout += ", blue first" if found.normalize.endswith(BGR) else ", red first"
        channels = f"{found.channels} channel{'' if found.channels == 1 else 's'}"
        lines["input"] = f"{channels}, {size}{'' if found.fixed else ' or others'}; {layout}"
    if found.outputs not in (None, "logits"):
        lines["outputs"] += ", not logits"
    if found.heads:
        lines["outputs"] += f"; it has {len(found.heads)}: {', '.join(found.heads)}"
    if found.choice is not None and found.normalize is not None and not found.order:
        lines["normalisation"] += f": {why_normalised(found.choice)}"
    if found.order:
        lines["class order"] = ", ".join(map(quoted, found.order))
    if found.accuracy is not None:
        told = found.accuracy
        lines["accuracy"] = (
            f"{told.right / told.images:.1%} of {told.images:,} test images [{told.low:.1%}, {told.high:.1%}]"
        )
    return lines | ({"undecided": f"it {found.undecided}"} if found.undecided else {})


def print_inspection_json(found: Inspection) -> None:
    """Print the description of a checkpoint as JSON."""
    terminal.data(asdict(found))
