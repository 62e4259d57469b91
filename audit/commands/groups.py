"""What `audit` and `audit cache` have in common: commands below them, and help."""

from __future__ import annotations

from typing import Any, Final

import typer.core

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}  # commands take it over from the group above them


class Group(typer.core.TyperGroup):
    """Commands under one name; the name alone asks for help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read arguments; where there are none, and no shell asks for completions, as if --help was given."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["--help"]))
