"""What there is: lists of attacks, students, data and methods, and what there is to know of one."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from reports import wording
from teachers.errors import UsageError

if TYPE_CHECKING:
    from teachers.methods.base import Method


def listing(what: str) -> str:
    """Return a list of names with a line each.

    Raises UsageError where there is no such list.
    """
    if what == "attacks":
        from attacks.registry import CONTROLS, attacks

        known = {n: f"{a.title} ({a.holds}; needs {a.needs})" for n, a in attacks().items()}
        return _lines(known | {n: f"control: {c.title}" for n, c in CONTROLS.items()})
    if what == "students":
        from teachers.networks import OURS

        more = {"torchvision:NAME": "any torchvision classifier", "timm:NAME": "any timm network"}
        return _lines(OURS | more)
    if what == "data":
        from teachers.data.catalogue import CATALOGUE

        return _lines(
            CATALOGUE | {"embedded:NAME": "the built-in glyphs or digits, where a folder here has the same name"}
        )
    if what == "teachers":
        from teachers.methods import METHODS
        from teachers.names import BUILT_IN

        more = {"embedded:NAME": "one of the built-in ones above, where a file here has the same name"}
        return _lines({n: f"audit teach {n}: {m.title} ({m.paper})" for n, m in METHODS.items()} | BUILT_IN | more)
    if what == "suites":
        from audit.plan.suite import EFFORTS

        return _lines({s.name: f"--effort {effort}: {len(s.attacks)} attacks" for effort, s in EFFORTS.items()})
    raise UsageError(
        f"there is no list of {what!r}; there are lists of attacks, students, data and teachers, and of suites"
    )


def _lines(known: dict[str, str]) -> str:
    width = max(map(len, known))
    return "\n".join(f"{name:<{width}}  {line}" for name, line in known.items())


THREAT = {
    "original": "the teacher's training images",
    "surrogate": "other images, unlabelled",
    "no data": "no images at all",
}
SEES = {
    "label": "the top class",
    "probs": "probabilities",
    "gradients": "probabilities and the input gradient of the top class",
}


def about(name: str) -> str:
    """Return all there is to know of an attack, a control or a way to train a teacher."""
    from attacks.base import Attack
    from attacks.registry import find
    from teachers.methods import METHODS

    if name in METHODS:
        return _about_method(METHODS[name])
    technique = find(name)
    lines = [f"{name}: {technique.title}", f"paper: {technique.paper}", f"version: {technique.version}"]
    if issubclass(technique, Attack):
        lines.append(f"threat model: the attacker holds {THREAT[technique.holds]} and sees {SEES[technique.needs]}")
    else:
        lines.append("control: trains without a teacher")
    lines.append(f"published: {technique.published or 'no verified figure'}")
    lines.append(f"measured: {_measured(name)}")
    lines += ["settings it is tuned over, the default first:"]
    lines += [f"  {wording.parameters(setting.parameters)}" for setting in technique.grid()]
    if issubclass(technique, Attack):
        lines += [f"preset {preset}: {wording.parameters(a.parameters)}" for preset, a in technique.presets().items()]
    lines.append(inspect.getdoc(technique) or "")
    return "\n".join(lines)


def _about_method(method: type[Method]) -> str:
    from teachers.methods import written

    lines = [f"{method.name}: {method.title}", f"paper: {method.paper}", *_standings(method.name)]
    lines += ["settings, for --set:"] if fields(method) else []
    lines += [f"  {field.name}={written(field.default)}" for field in fields(method)]
    if method.looks:
        lines.append("uses an ordinary teacher: the one of the task, or the one that --init gives")
    return "\n".join([*lines, inspect.getdoc(method) or ""])


def _standings(method: str) -> list[str]:
    """Say what teachers of a method gave away in the reference bag, as shipped."""
    from reports.bag import REFERENCE, shipped

    bag = shipped(REFERENCE)
    lines = []
    for shots in sorted({t.shots for t in bag.teachers}, reverse=True) if bag else ():
        of = [t for t in bag.teachers if (t.method, t.shots) == (method, shots)] if bag else []
        margins = ", ".join(wording.points(t.margin) for t in of)
        if of:
            lines.append(
                f"measured, {shots:.0%} of the images: largest margins over the LS student, of {len(of)} teachers, "
                f"{margins} points"
            )
    return lines


def _measured(name: str) -> str:
    """Return the shipped result of the positive control."""
    import attacks

    path = Path(attacks.__file__).with_name("measured.json")
    rows: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return rows.get(name, "not by this project")
