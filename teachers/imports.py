"""Import what a user names as `module:name`: from the working directory first, as `python -m` does.

This runs the user's code: call it only in a process that holds nothing else.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from teachers.errors import UsageError

DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
NAMED = re.compile(f"{DOTTED}:{DOTTED}")
OURS = frozenset({"attacks", "audit", "reports", "teachers"})
INSTALLED = {"site-packages", "dist-packages"}  # folders of code that package managers install
LONGEST = 200  # characters of somebody else's error message

Made = TypeVar("Made")


def check_name(text: str, example: str) -> None:
    """Raise UsageError unless a text has the form `module:name`."""
    if not NAMED.fullmatch(text):
        raise UsageError(f"{text} names no code; give a module and a name in it, such as {example}")


def found(text: str) -> object:
    """Import a module and return what it holds under a name, given as `module:name`.

    Raises UsageError if there is no such module or name, if the module does not import, or if it is another one than
    that of the working directory.
    """
    module, _, names = text.partition(":")
    held: object = _imported(module)
    for name in names.split("."):
        inside = run(partial(getattr, held, name, None), f"{text} cannot be read")
        if inside is None:
            near = difflib.get_close_matches(name, dir(held), n=1)
            hint = f"did you mean {near[0]}?" if near else "give the name of a class or a function in it"
            raise UsageError(f"{module} has no {name} ({_place(module)}); {hint}")
        held = inside
    return held


def run(code: Callable[[], Made], what: str) -> Made:
    """Run a user's code; turn any of its errors into a UsageError of one line that begins with `what`."""
    try:
        return code()
    except (MemoryError, UsageError):
        raise
    except (Exception, SystemExit) as e:  # somebody else's code may raise anything
        lines = str(e).strip().splitlines()
        said = f"{type(e).__name__}: {lines[0][:LONGEST]}" if lines else type(e).__name__
        raise UsageError(f"{what} ({said}); repair it") from e


def _imported(name: str) -> ModuleType:
    folder, top = Path.cwd(), name.partition(".")[0]
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    sys.dont_write_bytecode = True  # stale bytecode may hide a change, and the folder is the user's
    try:
        _refuse_another(run(lambda: _module(top, folder), f"{top} does not import"), top, folder)
        return run(lambda: _module(name, folder), f"{name} does not import")
    finally:
        sys.dont_write_bytecode = False


def _module(name: str, folder: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name is None or not f"{name}.".startswith(f"{e.name}."):  # a module that this one imports
            raise
        hint = f"; give {name.removesuffix('.py')}, without .py" if name.endswith(".py") else ""
        raise UsageError(
            f"there is no module {e.name}: the working directory {folder} and the installed packages were searched"
            f"{hint or '; change to the folder that holds it, or install it'}"
        ) from e


def _refuse_another(module: ModuleType, top: str, folder: Path) -> None:
    """Refuse a module of another place if the working directory holds one of this name."""
    mine = [path for path in (folder / top, folder / f"{top}.py") if path.is_file() or any(path.glob("*.py"))]
    places = [Path(place).resolve() for place in (*getattr(module, "__path__", ()), *_file(module))]
    if mine and not any(path.resolve() in places for path in mine):
        where = places[0] if places else "built into Python"
        raise UsageError(f"{mine[0]} cannot be imported: another module is called {top} ({where}); rename yours")


def _file(module: ModuleType) -> tuple[str, ...]:
    file = getattr(module, "__file__", None)
    return (file,) if file else ()


def _place(module: str) -> str:
    held = sys.modules[module]
    return next(iter((*_file(held), *getattr(held, "__path__", ()))), "built into Python")


def digest(text: str) -> str:
    """Return the SHA-256 of the code that `module:name` was made with, once it has been imported and called.

    It covers all Python files of the module's package, and every module imported so far that neither Python, a package
    manager nor this tool has installed.
    """
    top = text.partition(":")[0].partition(".")[0]
    total = hashlib.sha256()
    for name, file in sorted(dict([*_of_package(top), *_users(top)]).items()):
        total.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _of_package(top: str) -> Iterator[tuple[str, Path]]:
    for place in map(Path, getattr(sys.modules[top], "__path__", ())):
        for file in place.rglob("*.py"):
            yield ".".join((top, *file.relative_to(place).with_suffix("").parts)), file


def _users(top: str) -> Iterator[tuple[str, Path]]:
    known = sys.stdlib_module_names | OURS
    for name, module in list(sys.modules.items()):
        first = name.partition(".")[0]
        for file in map(Path, _file(module)):
            own = first not in known and not first.startswith("__") and not INSTALLED & {*file.parts}
            if (own or first == top) and file.is_file():
                yield name, file
