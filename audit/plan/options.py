"""The options of an audit: the fields are the command line's, the configuration file's and the Python API's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from audit.plan.early import refuse
from audit.plan.embedded import meant
from audit.plan.engines import LOCAL
from reports.settings import ALPHA, AUDITED, PANELS, RESULTS, RUN, WIDEST, Settings, about, option
from teachers.data.catalogue import EMBEDDED
from teachers.data.class_names import class_names
from teachers.errors import UsageError
from teachers.names import BUILT_IN, nearest
from teachers.places import at_home

if TYPE_CHECKING:
    from teachers.targets.spec import TeacherSpec


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """All that an audit is asked for: its settings, which the record keeps, and how it runs here."""

    trust_model_code: bool = option(
        False, AUDITED, "Run the code of a checkpoint that is a program, or of --arch MODULE:FACTORY."
    )
    out: Path | None = option(None, RESULTS, "Folder of this audit; audit-out/… if not given.")
    thumbnails: bool = option(True, RESULTS, "Keep small pictures of some validation images.")
    jobs: int | None = option(
        None, RUN, "Students at once; all cores, a whole cluster, or as many as fit on a card if not given."
    )
    engine: str = option(LOCAL, RUN, "local, ray (a cluster on this machine) or ray:ADDRESS (docs/cluster.md).")
    cache: Path | None = option(None, RUN, "Where students and answers are kept between audits.")
    cell_timeout: float | None = option(
        None, RUN, "Seconds that a student's process may say nothing before it is ended; by its steps if not given."
    )
    quiet: bool = option(False, RUN, "Print no progress.")
    stop: str | None = option(
        None, RUN, "decided: end as soon as the word is DISTILLABLE for sure; the same command without it goes on."
    )
    alpha: float = ALPHA  # error rate of each word; less where a word is one of several that are said together
    outsiders: bool = False  # whether an attack without original images is judged by its gain over the largest class
    live: Any = field(default=None, compare=False, repr=False)  # a teacher that is an object of this process

    @property
    def workers(self) -> int:
        """Number of local processes that train: one on a GPU, all cores if the number is left open."""
        return ((os.cpu_count() or 1) if self.jobs is None else self.jobs) if self.device == "cpu" else 1


class Keywords(TypedDict, total=False):
    """The options of `audit.run` beside the teacher and the data, as a type checker knows them."""

    arch: str | None
    normalize: str | None
    classes: Sequence[str] | Path
    weights: str | None
    size: int | None
    groups: str | Path
    attacks: str | Sequence[str]
    effort: str
    surface: str | Sequence[str]
    budget: int | None
    student: str | Sequence[str]
    seeds: int | None
    delta: float
    shots: float
    labels: float
    drop_classes: Sequence[str]
    surrogate: str | Path
    price: float | None
    device: str
    precision: str | None
    isolate: bool | None
    input: str
    output: str
    header: Sequence[str]
    plain_http: bool
    trust_model_code: bool
    out: str | Path | None
    thumbnails: bool
    jobs: int | None
    engine: str
    cache: str | Path | None
    cell_timeout: float | None
    quiet: bool
    stop: str | None


DECIDED: Final = "decided"  # the one thing that --stop may wait for
FRACTION: Final = "give a fraction above 0 and at most 1"
RANGES: Final = {
    "shots": FRACTION,
    "labels": FRACTION,
    "delta": f"give points above 0 and at most {WIDEST:g}, such as 0.5",
}
LISTS: Final = ("attacks", "student", "surface")  # names with commas, which may be given as lists
PLACES: Final = ("teacher", "data", "surrogate", "out", "cache", "groups")  # what may name a file or a folder


def options_of(given: dict[str, Any], live: Any = None) -> Options:
    """Return options from what a user gives: lists for names with commas, ~ for the home folder, a file of class names.

    `live`: a teacher that is an object of this process. From now on, no process that is started inherits what headers
    are made of.

    Raises UsageError for an unknown option, for a value of another type, for an unknown word, and for a name that may
    mean two things; RefusedInput for what is not there.
    """
    from pydantic import TypeAdapter, ValidationError

    for name in given:
        if name not in about(Options):
            raise UsageError(f"there is no option {name!r}; {nearest(name, list(about(Options)))}")
    try:
        options = TypeAdapter(Options).validate_python({name: _plain(name, value) for name, value in given.items()})
    except ValidationError as e:
        first = e.errors()[0]
        name, value = str(first["loc"][0]), first["input"]
        allowed = RANGES.get(name) or first["msg"].lower()
        raise UsageError(f"{name}={value!r}: {allowed}") from e
    if options.header:
        _withhold(options.header)
    data = options.data and meant(options.data, EMBEDDED, "data set")
    found = replace(options, teacher=meant(options.teacher, BUILT_IN, "teacher"), data=data, live=live)
    refuse(found, live=live is not None)
    return found


def _plain(name: str, value: Any) -> Any:
    if name == "classes" and isinstance(value, str | Path):
        return class_names(Path(at_home(str(value))))
    if name in LISTS and isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    if name == "drop_classes" and isinstance(value, str):
        return (value,) if value else ()
    return at_home(str(value)) if name in PLACES and isinstance(value, str | Path) else value


def _withhold(headers: Sequence[str]) -> None:
    from teachers.http.credentials import split
    from teachers.processes.forks import withhold

    for _, variable in map(split, headers):
        withhold(variable)


def settings_of(options: Options, **settled: Any) -> Settings:
    """Return what a record keeps of options, with what was chosen for those that were left open."""
    return Settings(**({name: getattr(options, name) for name in about(Settings)} | settled))


def teacher_spec(options: Options) -> TeacherSpec:
    """Return what options say about the teacher and the task."""
    from teachers.http.address import Service
    from teachers.targets.spec import TeacherSpec

    return TeacherSpec(
        teacher=options.teacher,
        data=options.data,
        architecture=options.arch,
        normalize=options.normalize,
        size=options.size,
        trust=options.trust_model_code,
        classes=options.classes,
        weights=options.weights,
        service=Service(options.input, options.output, options.header, options.plain_http),
        live=options.live,
    )


def page() -> str:
    """Write the list of options in docs/python.md."""
    lines = []
    for panel in PANELS:
        lines += [f"**{panel}.**", ""]
        for f in fields(Options):
            shown = f.metadata.get("about")
            if shown is not None and shown.panel == panel:
                default = "" if f.default is MISSING else f"={f.default!r}"
                lines.append(f"- `{f.name}{default}`: {shown.help}")
        lines.append("")
    return "\n".join(lines)
