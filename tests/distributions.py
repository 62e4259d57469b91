"""Distributions of plug-ins as they lie on a path once installed, without an installer."""

import shutil
from pathlib import Path


def distribution(place: Path, module: str, attacks: dict[str, str]) -> Path:
    """Lay out an installed distribution with a module of the tests' and its attacks, by name."""
    place.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).parent / f"{module}.py", place)
    info = place / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1\n")
    points = "".join(f"{name} = {module}:{cls}\n" for name, cls in attacks.items())
    (info / "entry_points.txt").write_text(f"[distill_audit.attacks]\n{points}")
    return place
