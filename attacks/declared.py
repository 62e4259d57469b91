"""Read plug-ins' declarations in a process of its own: their code never runs in the process that judges an audit."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict, make_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from attacks.base import Attack, Holds
from teachers import imports
from teachers.errors import UsageError
from teachers.processes import frames, limits, trees
from teachers.processes.frames import Clock, PipeError
from teachers.surface import Kind

GROUP = "distill_audit.attacks"
WORKING = "working-directory"  # stands for a distribution: the attack that its author tries before packaging it
SECONDS, SIZE = 120.0, 2**24  # limits of time and bytes for the declarations of all plug-ins
MEMORY = 8 * limits.GIB  # bytes that importing all of them may take

Setting = dict[str, int | float | str | bool | None]


class Declaration(BaseModel):
    """All that an audit must know about a plug-in's attack before it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    paper: str
    version: int
    published: str
    needs: Kind
    holds: Holds
    views: str | None
    later: frozenset[str]
    grid: tuple[Setting, ...]
    presets: dict[str, Setting]
    doc: str
    origin: str  # distribution, version and digest of its package
    package: str  # the package that defines its class


class Unusable(BaseModel):
    """Why a plug-in cannot be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: Literal["import", "class"]
    sentence: str


Answer = TypeAdapter(list[Declaration | Unusable])


class Point(NamedTuple):
    """An entry point: where a distribution registers an attack."""

    value: str  # module:class
    distribution: str
    home: str  # its version and path

    @classmethod
    def of(cls, point: EntryPoint) -> Point:
        """Read it from the installed files, without importing anything."""
        dist = point.dist
        return cls(point.value, dist.name if dist else "", f"{dist.version} {dist.locate_file('')}" if dist else "")


def declared() -> dict[str, type[Attack]]:
    """Return a stand-in for every attack that other installed distributions register; none of them can run.

    Raises UsageError if one does not import or is no named Attack: a missing attack would look like one resisted.
    """
    points = tuple(Point.of(point) for point in entry_points(group=GROUP))
    return dict(_asked(points)) if points else {}


def load(name: str) -> type[Attack] | None:
    """Import the plug-in's attack of this name, or return None if there is none; only for the process that trains."""
    for point in entry_points(group=GROUP):
        attack = _loaded(point)
        if attack.name == name:
            return attack
    return None


@cache
def _asked(points: tuple[Point, ...]) -> Mapping[str, type[Attack]]:
    """Read the declarations once for the distributions installed now."""
    found: dict[str, type[Attack]] = {}
    for point, answer in zip(points, _answers(points), strict=True):
        if isinstance(answer, Unusable):
            if point.distribution == WORKING:
                said = f"{point.value} cannot say what it is ({answer.sentence}); repair it"
                raise UsageError(answer.sentence if answer.problem == "class" else said)
            what = f"does not import ({answer.sentence})" if answer.problem == "import" else answer.sentence
            raise UsageError(f"plug-in {point.value} {what}; repair or uninstall it")
        found.setdefault(answer.name, stand_in(answer, point))  # `load`, too, takes the first of a name
    return found


def _answers(points: tuple[Point, ...]) -> list[Declaration | Unusable]:
    values = ", ".join(point.value for point in points)
    here, there = frames.pair()
    process = trees.start(_declare, there)
    there.close()
    try:
        answers = Answer.validate_json(bytes(frames.take(here, SIZE, Clock(SECONDS))))
    except frames.Silence as e:
        raise UsageError(f"the plug-ins {values} do not import within {SECONDS:.0f} s; repair or uninstall them") from e
    except (EOFError, ConnectionError) as e:
        raise UsageError(f"the plug-ins {values} do not import; repair or uninstall them") from e
    except ValidationError as e:
        raise UsageError(f"the plug-ins {values} do not say what they are ({e.errors()[0]['msg']})") from e
    except PipeError as e:
        raise UsageError(f"the plug-ins {values} do not say what they are ({e})") from e
    finally:
        here.close()
        trees.end(process)
    if len(answers) != len(points):
        raise UsageError(f"the plug-ins {values} do not say what they are ({len(answers)} answers for {len(points)})")
    return answers


def stand_in(declaration: Declaration, point: Point) -> type[Attack]:
    """Build a class with the name and the settings of an attack, but none of its code."""

    def run(self: Attack, lab: object) -> NoReturn:
        raise TypeError(f"{declaration.name} is a plug-in: it runs only in a worker")

    default = declaration.grid[0]
    namespace = declaration.model_dump(exclude={"grid", "presets", "doc", "package"})
    packages = frozenset({_top(point.value), declaration.package})
    namespace |= {"distribution": point.distribution, "packages": packages, "run": run, "__doc__": declaration.doc}
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
    """Send the declarations of all installed plug-ins; their untrusted code runs here, in an isolated process."""
    limits.hold_memory(MEMORY)
    pipe.send_bytes(Answer.dump_json([_one(point) for point in entry_points(group=GROUP)]))


def _one(point: EntryPoint) -> Declaration | Unusable:
    try:
        attack = _loaded(point)
        settings = attack.grid()
        return Declaration(
            **{n: getattr(attack, n) for n in ("name", "title", "paper", "version", "published")},
            **{n: getattr(attack, n) for n in ("needs", "holds", "views", "later")},
            grid=tuple(asdict(setting) for setting in settings),
            presets={name: asdict(preset) for name, preset in attack.presets().items()},
            doc=inspect.getdoc(attack) or "",
            origin=_origin(point, attack),
            package=_top(attack.__module__),
        )
    except UsageError as e:
        return Unusable(problem="class", sentence=str(e))
    except (Exception, SystemExit) as e:  # a plug-in's module may raise anything
        return Unusable(problem="import", sentence=str(e))


def _loaded(point: EntryPoint) -> type[Attack]:
    attack = imports.found(point.value) if _is_local(point) else point.load()
    if not (isinstance(attack, type) and issubclass(attack, Attack) and hasattr(attack, "name")):
        raise UsageError(f"{point.value} " * _is_local(point) + "is not a named subclass of attacks.base.Attack")
    return attack


def _is_local(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == WORKING


def _top(module: str) -> str:
    return module.partition(":")[0].partition(".")[0]


def _origin(point: EntryPoint, attack: type[Attack]) -> str:
    assert point.dist is not None
    digest = imports.digest(point.value) if _is_local(point) else _source(attack)
    return f"{point.dist.name} {point.dist.version} {digest[:16]}"


def _source(attack: type[Attack]) -> str:
    """Return a digest of all Python files of the package, or of the module, that defines an attack."""
    home = Path(inspect.getfile(importlib.import_module(attack.__module__.split(".")[0])))
    files = sorted(home.parent.rglob("*.py")) if home.name == "__init__.py" else [home]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
