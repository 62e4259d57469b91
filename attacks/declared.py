"""What plug-ins say of themselves, asked in a process of its own: their code never runs where an audit is judged."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import make_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from attacks.base import Attack, Holds
from teachers import forks
from teachers.errors import UsageError
from teachers.surface import Kind

GROUP = "distill_audit.attacks"

Setting = dict[str, int | float | str | bool | None]


class Declaration(BaseModel):
    """All that an audit must know of a plug-in's attack before it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    paper: str
    version: int
    published: str
    needs: Kind
    holds: Holds
    views: str | None
    grid: tuple[Setting, ...]
    presets: dict[str, Setting]
    doc: str
    origin: str  # distribution, version and digest of its package


class Unusable(BaseModel):
    """Why a plug-in cannot be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: Literal["import", "class"]
    sentence: str


Answer = TypeAdapter(list[Declaration | Unusable])


def declared() -> dict[str, type[Attack]]:
    """Return a stand-in for every attack that other installed distributions register; none of them can run.

    Raises UsageError where one does not import or is no named Attack: a missing attack would read as one survived.
    """
    points = tuple(
        (p.value, p.dist and f"{p.dist.version} {p.dist.locate_file('')}") for p in entry_points(group=GROUP)
    )
    return dict(_asked(points)) if points else {}


def load(name: str) -> type[Attack] | None:
    """Import the plug-in whose attack has a name; None where there is none. Only for the process that trains."""
    for point in entry_points(group=GROUP):
        attack = _loaded(point)
        if attack.name == name:
            return attack
    return None


@cache
def _asked(points: tuple[tuple[str, str | None], ...]) -> Mapping[str, type[Attack]]:
    """Ask once for the distributions that are installed now."""
    here, there = forks.CONTEXT.Pipe(duplex=False)
    process = forks.start(_declare, there)
    there.close()
    try:
        answers = Answer.validate_json(here.recv_bytes())
    except EOFError as e:
        raise UsageError(f"the plug-ins {_values(points)} do not import; repair or uninstall them") from e
    except ValidationError as e:
        raise UsageError(f"the plug-ins {_values(points)} do not say what they are ({e.errors()[0]['msg']})") from e
    finally:
        here.close()
        process.kill()
        process.join()
    found = {}
    for (value, _), answer in zip(points, answers, strict=True):
        if isinstance(answer, Unusable):
            what = f"does not import ({answer.sentence})" if answer.problem == "import" else answer.sentence
            raise UsageError(f"plug-in {value} {what}; repair or uninstall it")
        found[answer.name] = stand_in(answer)
    return found


def _values(points: tuple[tuple[str, str | None], ...]) -> str:
    return ", ".join(value for value, _ in points)


def stand_in(declaration: Declaration) -> type[Attack]:
    """Build a class that has the settings and the name of an attack, and none of its code."""

    def run(self: Attack, lab: object) -> NoReturn:
        raise TypeError(f"{declaration.name} is a plug-in: it runs in a worker alone")

    default = declaration.grid[0]
    namespace = declaration.model_dump(exclude={"grid", "presets", "doc"}) | {"run": run, "__doc__": declaration.doc}
    made: type[Attack] = make_dataclass(
        declaration.name,
        [(name, Any, value) for name, value in default.items()],
        bases=(Attack,),
        namespace=namespace,
        frozen=True,
        kw_only=True,
    )
    settings = tuple(made(**setting) for setting in declaration.grid)
    presets = {name: made(**setting) for name, setting in declaration.presets.items()}
    made.grid = classmethod(lambda cls: settings)  # type: ignore[method-assign, assignment]
    made.presets = classmethod(lambda cls: presets)  # type: ignore[method-assign, assignment]
    return made


def _declare(pipe: Connection) -> None:
    """Say what is installed; strangers' code runs here, and may do as it likes."""
    pipe.send_bytes(Answer.dump_json([_one(point) for point in entry_points(group=GROUP)]))


def _one(point: EntryPoint) -> Declaration | Unusable:
    try:
        attack = _loaded(point)
        settings = attack.grid()
        return Declaration(
            **{n: getattr(attack, n) for n in ("name", "title", "paper", "version", "published")},
            **{n: getattr(attack, n) for n in ("needs", "holds", "views")},
            grid=tuple(setting.parameters for setting in settings),
            presets={name: preset.parameters for name, preset in attack.presets().items()},
            doc=inspect.getdoc(attack) or "",
            origin=_origin(point, attack),
        )
    except UsageError as e:
        return Unusable(problem="class", sentence=str(e))
    except (Exception, SystemExit) as e:  # a stranger's module may raise anything
        return Unusable(problem="import", sentence=str(e))


def _loaded(point: EntryPoint) -> type[Attack]:
    attack = point.load()
    if not (isinstance(attack, type) and issubclass(attack, Attack) and hasattr(attack, "name")):
        raise UsageError("is no named subclass of attacks.base.Attack")
    return attack


def _origin(point: EntryPoint, attack: type[Attack]) -> str:
    assert point.dist is not None
    return f"{point.dist.name} {point.dist.version} {_source(attack)[:16]}"


def _source(attack: type[Attack]) -> str:
    """Return the digest of all Python files of the package, or of the module, that defines an attack."""
    home = Path(inspect.getfile(importlib.import_module(attack.__module__.split(".")[0])))
    files = sorted(home.parent.rglob("*.py")) if home.name == "__init__.py" else [home]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
