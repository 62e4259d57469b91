"""What is known of how a technique differs from the code of its authors: docs/fidelity.md is made of it."""

from __future__ import annotations

from dataclasses import dataclass

PUBLIC = "public code"  # a source whose path was not noted when it was compared


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What was read, and how far our technique is that of its authors."""

    source: str = ""  # repository and path; "": no public text settles it
    default: bool | None = None  # whether the default setting is the authors'; None: not known
    settings: tuple[int | str, ...] = ()  # other settings of the authors: places in the grid, or names of presets
    note: str = ""  # what differs, or what is not known
