"""What an audit was asked for, stated once: fields of the record, options of the command line, keys of `--config`."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from annotated_types import Interval

AUDITED: Final = "What is audited"  # groups of options in help, the most needed first
ATTACKER: Final = "The attacker, and how much is tried"
RESULTS: Final = "What is written"
RUN: Final = "How it runs"
SERVED: Final = "A teacher behind a URL, or a program with several outputs"
PANELS: Final = (AUDITED, ATTACKER, RESULTS, RUN, SERVED)
PROCEDURAL: Final = "procedural"  # surrogate images that ship with the tool
Fraction = Annotated[float, Interval(ge=0, le=1)]
TOLERANCE: Final = 0.5  # δ in points, where none is stated
ALPHA: Final = 0.05  # error rate of each decisive word, over all attacks, students and looks
WIDEST: Final = 5.0  # the largest that can be stated
Tolerance = Annotated[float, Interval(gt=0, le=WIDEST)]


@dataclass(frozen=True)
class About:
    """How the command line shows a field."""

    panel: str
    help: str
    typed: Any = None  # the type on the command line, where it is not the field's
    least: int | None = None
    compared: bool = False  # whether margins of audits that differ in it cannot be compared


def option(default: Any, panel: str, text: str, **more: Any) -> Any:
    """Declare a field that is an option, too."""
    return field(default=default, metadata={"about": About(panel, text, **more)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an audit was asked for; in a record, with what was chosen for options that were left open."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    teacher: str = option(
        MISSING,
        AUDITED,
        "Checkpoint (docs/formats.md says which), a URL (https://HOST/v2/models/NAME), or a built-in one (`audit ls "
        "teachers`).",
    )
    data: str | None = option(None, AUDITED, "glyphs, digits, an image folder, or torchvision:NAME:ROOT.")
    arch: str | None = option(
        None,
        AUDITED,
        "Architecture of a checkpoint, where its tensors fit more than one; or code of yours, MODULE:FACTORY.",
    )
    normalize: str | None = option(
        None,
        AUDITED,
        "none, half, imagenet, cifar or MEAN/STD, such as 0.4,0.45,0.5/0.2,0.2,0.25, with /bgr where blue is first; "
        "found if not given.",
    )
    classes: tuple[str, ...] = option(
        (),
        AUDITED,
        "One class name a line, in the order of the network's outputs; the data's if not given.",
        typed=Path | None,
    )
    weights: str | None = option(
        None, AUDITED, "Which weights of a checkpoint, such as model_ema, where it holds those of several networks."
    )
    size: int | None = option(None, AUDITED, "Resize and crop the images of a folder to this many pixels.")
    groups: str = option(
        "",
        AUDITED,
        "Test images that resemble each other, such as the frames of a film: a CSV file (image, group), or a regular "
        "expression on the files' names whose first group names theirs; for glyphs also variant or font.",
    )
    attacks: str = option(
        "all", ATTACKER, "Names with commas (NAME:PRESET), or `all`: the suite and installed plug-ins."
    )
    effort: str = option(
        "standard",
        ATTACKER,
        "smoke, standard or full: `audit plan` says what each can see; bag: as the reference bag; selftest: as "
        "`audit selftest`.",
    )
    surface: str = option(
        "probs",
        ATTACKER,
        "What the API shows: probs, logits, label, gradients, or top:K, round:D… with +, after uint8+ or not; "
        "several with commas.",
        compared=True,
    )
    budget: int | None = option(None, ATTACKER, "Most queries one student may rest on.", compared=True)
    student: str = option(
        "",
        ATTACKER,
        "Architectures of the students, with commas (`audit ls students`); one that fits the data if not given.",
        compared=True,
    )
    seeds: int | None = option(None, ATTACKER, "Most judged seeds, up to 20; the effort's number if not given.")
    delta: Tolerance = option(
        TOLERANCE,
        ATTACKER,
        "Tolerance in points: UNDISTILLABLE says that no attack gains as much; `audit plan` tells the odds.",
    )
    shots: Fraction = option(1.0, ATTACKER, "Fraction of images and labels that the attacker holds.", compared=True)
    labels: Fraction = option(1.0, ATTACKER, "Fraction of all labels that the attacker knows.", compared=True)
    drop_classes: tuple[str, ...] = option(
        (),
        ATTACKER,
        "Classes that the attacker never saw, with commas; names may hold some.",
        typed=str | None,
        compared=True,
    )
    surrogate: str = option(
        PROCEDURAL,
        ATTACKER,
        "Folder of surrogate images for attacks without the original ones; procedural ones if not given.",
        compared=True,
    )
    price: Annotated[float, Interval(ge=0)] | None = option(None, RESULTS, "What 1,000 queries cost.", least=0)
    device: str = option("cpu", RUN, "cpu or cuda.")
    precision: str | None = option(
        None,
        RUN,
        "float32 or bfloat16, in which students are trained; what is faster by docs/performance.md if not given.",
    )
    isolate: bool | None = option(
        None, RUN, "Keep the teacher in a process of its own; on by itself where plug-ins take part."
    )
    input: str = option("", SERVED, "Tensor for images of a teacher behind a URL: NAME, NAME:UINT8 or NAME:FP32:NHWC.")
    output: str = option("", SERVED, "Which output of a program or URL has a number for every class.")
    header: tuple[str, ...] = option(
        (),
        SERVED,
        "Header for a teacher behind a URL, NAME=VARIABLE of the environment; may be repeated.",
        typed=list[str] | None,
    )
    plain_http: bool = option(False, SERVED, "Ask an http URL beyond this machine, unencrypted.")

    @property
    def tolerance(self) -> float:
        """The tolerance δ, as a fraction."""
        return self.delta / 100

    @property
    def students(self) -> tuple[str, ...]:
        """The architectures of the students."""
        return tuple(self.student.split(","))


def about(options: type[Settings]) -> dict[str, About]:
    """Return how the command line shows each field of some options, in their order."""
    return {f.name: f.metadata["about"] for f in fields(options) if "about" in f.metadata}


COMPARED: Final = tuple(name for name, shown in about(Settings).items() if shown.compared)


def question(settings: Settings) -> dict[str, Any]:
    """Return the settings that must be equal where margins of two audits are compared."""
    return {name: getattr(settings, name) for name in COMPARED}
