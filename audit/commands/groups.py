"""What `audit`, `audit cache` and their commands have in common: help."""

from __future__ import annotations

from typing import Any, Final

import typer.core

from reports.settings import PANELS

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}  # commands take it over from the group above them


class Group(typer.core.TyperGroup):
    """Commands under one name; the name alone asks for help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read arguments; where there are none, and no shell asks for completions, as if --help was given."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["--help"]))


class Command(typer.core.TyperCommand):
    """A command whose help lists options in groups, the most needed first, and ends with examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then the options of each group, then those of no group."""
        found: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{panel: [] for panel in PANELS}, "Options": []}
        for param in self.get_params(ctx):
            told = param.get_help_record(ctx)
            if told is not None:
                panel = getattr(param, "rich_help_panel", None) or "Options"
                found["Arguments" if param.param_type_name == "argument" else panel].append(told)
        for title, rows in found.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write examples, a line each."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
