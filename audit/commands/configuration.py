"""Options from a file: `--config audit.toml`, or `[tool.distill-audit]` in the pyproject.toml of this folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from audit.plan.options import LISTS
from audit.plan.toml_files import Purpose, TomlFile, opened
from teachers.errors import UsageError
from teachers.names import nearest

PROJECT: Final = Path("pyproject.toml")
TABLE: Final = ("tool", "distill-audit")
PURPOSE: Final = Purpose("--config", "put text in quotes", "options are keys with a value each")
NAMES: Final = (*LISTS, "drop-classes")  # options that are names with commas
CONSENT: Final = "trust-model-code"  # nobody else's file may give it


def configured(context: Any, file: Path | None) -> Path | None:
    """Let a file's values take the place of defaults: an option on the command line wins.

    Raises UsageError, with file, line and key, for an unknown key and for a value that its option does not take.
    """
    if context.resilient_parsing:  # a shell asks for completions
        return file
    path, table = (PROJECT, TABLE) if file is None else (file, ())
    if file is None and not path.is_file():
        return None
    found = opened(path, PURPOSE)
    if file is not None or TABLE[-1] in found.text:  # a project's file that does not name us need not even be TOML
        context.default_map = _Settings(found, table).of(context, _inside(found.content(), table))
    return file


def _inside(content: Mapping[str, Any], table: tuple[str, ...]) -> Mapping[str, Any]:
    found: Any = content
    for key in table:
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


class _Settings:
    """The values of a file as the defaults of a command."""

    def __init__(self, file: TomlFile, table: tuple[str, ...]) -> None:
        self._file, self._table = file, table

    def of(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return defaults by the names that a command has for its options; options of other commands are left."""
        mine = dict(_options(context.command))
        known = {key for command in _commands(context.find_root().command) for key, _ in _options(command)}
        found = {}
        for key, value in values.items():
            if key == CONSENT:
                raise self._wrong(
                    key, f"gives consent, so only the command line takes it; leave it out here and give --{key}"
                )
            if key not in known - {"config"}:
                there = nearest(key, sorted(known - {"config", CONSENT}))
                raise self._wrong(key, f"is not an option of `audit run`; {there}")
            if key in mine:
                found[mine[key].name] = self._value(context, key, value, mine[key])
        return found

    def _value(self, context: Any, key: str, value: Any, option: Any) -> Any:
        if key in NAMES and isinstance(value, list) and all(type(part) in (str, int) for part in value):
            if commas := [part for part in value if "," in str(part)]:
                raise self._wrong(key, f"separates names by commas, and {commas[0]!r} holds one")
            value = ",".join(map(str, value))
        wanted = "true or false" if option.is_flag else "a list of texts" if option.multiple else "a text or a number"
        kinds = bool if option.is_flag else list if option.multiple else (str, int, float)
        parts = value if isinstance(value, list) else []
        odd = isinstance(value, bool) != bool(option.is_flag) or not all(isinstance(part, str) for part in parts)
        if odd or not isinstance(value, kinds):
            raise self._wrong(key, f"must be {wanted}")
        try:
            option.process_value(context, value)
        except typer.BadParameter as e:
            raise self._wrong(key, f"does not fit: {e}") from e
        return value

    def _wrong(self, key: str, sentence: str) -> UsageError:
        return self._file.wrong((*self._table, key), sentence)


def _commands(group: Any) -> Iterator[Any]:
    """Yield the commands below a group that take options from a file."""
    for command in group.commands.values():
        if hasattr(command, "commands"):
            yield from _commands(command)
        elif "config" in dict(_options(command)):
            yield command


def _options(command: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command's options by their long name, without dashes."""
    for option in command.params:
        if option.param_type_name == "option" and option.name != "help":
            yield max(option.opts, key=len).removeprefix("--"), option
