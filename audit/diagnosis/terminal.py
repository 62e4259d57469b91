"""Terminal output of `audit cmi`."""

from __future__ import annotations

from pathlib import Path

from reports import terminal, wording
from reports.diagnosis import Diagnosis


def print_diagnosis(found: Diagnosis, folder: Path) -> None:
    """Print a diagnosis for a person."""
    rows = []
    for pool in found.pools:
        one, top = pool.temperatures.index(1.0), pool.cmi.index(max(pool.cmi))
        rows.append(
            (
                pool.name,
                f"{pool.images:,}",
                f"{pool.accuracy:.1%}",
                f"{wording.number(pool.cmi[one])} {wording.within(pool.cmi[one], pool.se[one])}",
                wording.number(pool.gamma[one], 2),
                wording.number(pool.ncmi[one], 4),
                wording.number(pool.cmi[top]),
                f"{pool.temperatures[top]:g}",
                f"{pool.unreliable}",
            )
        )
    heads = ("number", "accuracy", "CMI at T = 1, nats (95 %)", "Γ", "NCMI", "largest CMI", "at T", "small classes")
    terminal.table(("images", *heads), rows)
    spread = ", ".join(f"{shown.name} ({shown.cmi:.3f})" for shown in found.spread)
    lines = [f"Most spread held-out classes: {spread or 'none has two images'}"]
    lines += [wording.behind(found.behind)] if found.behind else []
    lines += [f"Eigen-CAM panels are left out: {found.no_cams}"] if found.no_cams else []
    for line in (*lines, f"Page: {folder / 'cmi.html'}; numbers: {folder / 'cmi.json'}"):
        terminal.say(line, whole=True)


def print_diagnosis_json(found: Diagnosis, folder: Path) -> None:
    """Print a diagnosis as JSON: cmi.json without the data of its figures."""
    told = found.model_dump(mode="json", exclude={"spread", "triangle", "projection", "cams"})
    terminal.data({**told, "folder": str(folder)})
