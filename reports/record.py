"""The record: everything that an audit found, as plain versioned data; every report is rendered from it alone."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from reports import handed
from reports.base import Count as Count
from reports.base import Data as Data
from reports.base import Share as Share
from reports.clusters import Clusters
from reports.settings import TOLERANCE
from reports.settings import Settings as Settings
from teachers.files import write_whole

SCHEMA_VERSION: Final = 3  # the first of a release: what it writes, every later version reads
# Version of the design of records that do not state it: all earlier designs. They have no twins and no second probe,
# and nobody looked for attacks that lose to their own control or to misleading answers.
UNSTATED: Final = 3

MOST = 2048 * handed.MIB  # at most, bytes of a record
LARGEST = 2**26  # at most, values of an array: more than any split or pool of answers has
GROUPINGS: Final = ("test_groups", "test_alike", "test_named")  # of test images, in TaskInfo
LATER_SETTINGS: Final = {"delta": TOLERANCE, "groups": "", "precision": None}  # with what is not written of them
AGAIN = "take the file as `audit run` wrote it, or audit again"

DISCORDANT: Final = 30  # discordant images, or groups of them, per seed that an interval needs to support a word

Over = Literal["ls", "own loss", "twin", "home-made"]  # kinds of controls over which an attack has margins
Word = Literal["DISTILLABLE", "UNDISTILLABLE", "INCONCLUSIVE"]
Cap = Literal["nothing", "undistillable", "inconclusive"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Parameters = dict[str, int | float | str | bool | None]


class RecordError(ValueError):
    """A record is missing, unreadable, or has another schema version."""


class LaterFields(Data):
    """Base of data with fields that earlier versions did not know: where these say nothing, they are not written."""

    LATER: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        for name in self.LATER:
            if getattr(self, name) == type(self).model_fields[name].default:
                fields.pop(name, None)
        return fields


class PackedArray(Data):
    """An array: bits are packed eight to a byte; bytes are zlib-compressed and base64-encoded."""

    dtype: Literal["bool", "float16", "uint16", "uint32"]
    shape: tuple[int, ...]
    data: str

    @classmethod
    def of(cls, array: NDArray[Any]) -> PackedArray:
        """Pack a bool, float16, uint16 or uint32 array of any shape."""
        kind = str(array.dtype)
        raw = np.packbits(array) if kind == "bool" else array.astype(array.dtype.newbyteorder("<"))
        text = base64.b64encode(zlib.compress(raw.tobytes(), 9)).decode("ascii")
        return cls(dtype=kind, shape=array.shape, data=text)  # type: ignore[arg-type]  # pydantic checks the name

    def array(self) -> NDArray[Any]:
        """Return the array that was packed.

        Raises RecordError where the data does not match the shape and type.
        """
        if not all(0 <= side <= LARGEST for side in self.shape) or (count := math.prod(self.shape)) > LARGEST:
            raise RecordError(f"an array of the record is damaged (no array has the shape {self.shape}); {AGAIN}")
        size = -(-count // 8) if self.dtype == "bool" else count * np.dtype(self.dtype).itemsize
        stream = zlib.decompressobj()
        try:
            raw = stream.decompress(base64.b64decode(self.data), size + 1)
        except (ValueError, zlib.error, OverflowError) as e:
            raise RecordError(f"an array of the record is damaged ({e}); {AGAIN}") from e
        if len(raw) != size or not stream.eof:
            raise RecordError(f"an array of the record is damaged (it has not the shape {self.shape}); {AGAIN}")
        if self.dtype == "bool":
            flat = np.unpackbits(np.frombuffer(raw, np.uint8), count=count).astype(bool)
        else:
            flat = np.frombuffer(raw, np.dtype(self.dtype).newbyteorder("<")).astype(self.dtype)
        return flat.reshape(self.shape)


class Regime(Data):
    """The training conditions of a student; a control matches an attack if both have equal regimes."""

    recipe: Parameters  # architecture, steps, rate, stored views, auxiliary heads…
    view: str  # kind of view the student trained on: raw, crop, mixup…
    source: str  # original, surrogate or generated images


class Cell(Data):
    """One student to train, and on which splits to measure it: everything that determines the student."""

    engine: Count
    technique: str
    version: str  # of the technique; for plug-ins with distribution and source digest
    parameters: Parameters
    recipe: dict[str, Any]
    seed: int
    pool: str  # digests of the attacker's images, of the task and of the surrogate images
    task: str
    surrogate: str | None = None
    teacher: str | None = None  # fingerprint of the teacher that it queries; None for controls
    surface: str | None = None
    budget: Count | None = None
    splits: Literal["validation", "both"] = "both"
    device: str = "cpu"

    @property
    def key(self) -> str:
        """64 hex digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def student(self) -> str:
        """The architecture."""
        return str(self.recipe["architecture"])


class Trial(LaterFields):
    """One trained student."""

    LATER = ("decoded",)

    key: str  # sha256 of its cell; everywhere else, students are named by it
    cell: Cell
    kind: Literal["attack", "control"]
    role: Literal["tune", "judge", "null", "positive control", "cost"]
    teacher: Literal["audited", "ordinary"] | None  # None: it has no oracle
    labels: Share  # fraction of its images that have labels
    regime: Regime
    validation_correct: PackedArray  # (M,) whether its answer is right, by validation image
    validation_accuracy: Share = 0.0
    test_correct: PackedArray | None  # (N,) by test image; None for tuning students, which never see the test split
    test_agrees: PackedArray | None  # (N,) whether its top class is its teacher's, or the audited one's
    agreement: Share | None = None
    queries: Count
    gradient_queries: Count  # those of them that serve to estimate gradients
    repeated_labels: Share | None  # share of the training images whose answer's top class is the known label
    diverged: bool
    decoded: str = ""  # what the attack found that the teacher does to its answers
    network_parameters: Count
    seconds: Seconds
    step_seconds: Seconds


class Interval(Data):
    """A mean with its uncertainty, as fractions (0.01 is one point)."""

    mean: float
    se: float
    df: float
    low: float  # two-sided 95 % interval
    high: float
    lower: float  # one-sided 95 % bounds; for an attack's margin, over all looks
    upper: float
    p: float  # one-sided p-value of mean > 0; for an attack's margin, over all looks
    seeds: Count
    images: Count
    discordant: float  # expected number of test images per seed on which the two students differ


UNMEASURED = Interval(
    mean=0, se=0, df=1, low=0, high=0, lower=0, upper=0, p=1, seeds=0, images=0, discordant=0
)  # placeholder until it is computed from the students


class Cost(Data):
    """One point of a steal-cost curve: a fresh student for every budget."""

    queries: Count
    accuracy: Interval
    agreement: Share
    students: tuple[str, ...] = ()


class KnockoffResult(Data):
    """An attack's students with the setting that was chosen on validation images."""

    parameters: Parameters = Field(default_factory=dict)
    tuned_over: Count = 0  # number of settings tried
    students: tuple[str, ...] = ()  # keys, by seed
    accuracy: Share | None = None
    agreement: Share | None = None
    queries: Count = 0
    dropped_accuracy: Share | None = None  # on classes that the attacker never saw; does not affect the verdict


class ControlResult(Data):
    """The students without the teacher that the knockoff students are paired with, seed by seed."""

    name: str = ""
    parameters: Parameters = Field(default_factory=dict)
    students: tuple[str, ...] = ()
    accuracy: Share | None = None
    dropped_accuracy: Share | None = None


class BaselineResult(Data):
    """The best students without a teacher, by validation accuracy: the LS student or another baseline."""

    name: str
    students: tuple[str, ...]  # as many as the first look has seeds
    margin: Interval = UNMEASURED  # of the knockoff students over them; does not affect the verdict


class ControlMargin(Data):
    """One of an attack's margins: over students that one kind of control trains, all with seeds of the knockoffs'."""

    over: Over
    name: str
    parameters: Parameters = Field(default_factory=dict)
    students: tuple[str, ...]  # as many as the knockoff students; of a home-made teacher, as many as suites say
    accuracy: Share | None = None
    margin: Interval = UNMEASURED  # over a home-made teacher: for information, and not over looks


class PositiveControl(Data):
    """Whether an attack beats the baseline of its threat model on the ordinary teacher."""

    baseline: str
    passes: bool = False
    margin: Interval = UNMEASURED
    curve: tuple[Cost, ...] = ()
    students: tuple[str, ...]
    control_students: tuple[str, ...] = ()  # empty where the baseline is the largest class


PLANNED = "the word was sure before it"


class Comparison(LaterFields):
    """An attack's knockoff students against the LS student; in `controls`, a control's students in their place."""

    LATER = ("margins", "mis_tuned")

    attack: str
    student: str  # architecture
    title: str
    paper: str
    holds: Literal["original", "surrogate", "no data"]
    needs: Literal["probs", "label", "gradients"]
    outside_suite: bool = False  # a plug-in's attack, or one requested by name
    status: Literal["judged", "identical", "not applicable", "failed", "planned"]  # planned: not yet run
    reason: str = ""
    knockoff: KnockoffResult = KnockoffResult()
    control: ControlResult = ControlResult()
    baseline: BaselineResult | None = None
    positive_control: PositiveControl | None = None
    looks: tuple[Count, ...] = ()  # number of judged seeds at every look; the last one is the number of students
    margin: Interval | None = None
    corrected_lower: float | None = None  # lower bound of the margin, corrected for the number of attacks
    p_holm: float | None = None
    curve: tuple[Cost, ...] = ()  # steal-cost curve on the audited teacher
    margins: tuple[ControlMargin, ...] = ()  # over each kind of control; earlier versions had one, over `control`
    mis_tuned: bool = False  # whether its best setting is surely worse than its control on validation images

    def margin_over(self, over: Over) -> ControlMargin | None:
        """Return the margin over one kind of control; None where the row has none."""
        return next((found for found in self.margins if found.over == over), None)

    @property
    def passes(self) -> bool:
        """Whether the attack was seen to pass its positive control."""
        return self.positive_control is not None and self.positive_control.passes


class Flag(Data):
    """A problem of the audit: what was found, why it matters, what to do, and which verdicts it rules out."""

    id: str
    found: str
    why: str
    do: str
    caps: Cap


class Verdict(Data):
    """One of three verdict words, with the sentence that explains it."""

    word: Word
    sentence: str
    scope: str
    reasons: tuple[str, ...]
    settle: str
    delta: float
    look: int
    alpha: float


PENDING = Verdict(
    word="INCONCLUSIVE", sentence="", scope="", reasons=(), settle="", delta=0, look=1, alpha=0
)  # placeholder until the verdict is computed


PoolName = Literal["train", "augmented", "validation"]


class CMICurve(Data):
    """CMI over temperature of the teacher's answers on one set of images, in nats."""

    name: PoolName
    temperatures: tuple[float, ...] = ()
    cmi: tuple[float, ...] = ()
    se: tuple[float, ...] = ()
    plug_in: tuple[float, ...] = ()
    gamma: tuple[float, ...] = ()
    ncmi: tuple[float, ...] = ()
    per_class: tuple[float | None, ...] = ()  # at temperature 1; None where the class is missing
    unreliable: Count = 0  # classes with fewer than 50 images


class CMIPool(CMICurve):
    """A CMI curve with the answers from which it is computed."""

    answers: PackedArray  # (N, K) float16 log-probabilities
    labels: PackedArray  # (N,) uint16


def purpose_of(role: str, teacher: str | None, estimate: bool = False) -> str:
    """Return the ledger's name for the purpose of a student's queries."""
    return f"{role}, {teacher} teacher{', gradient estimate' if estimate else ''}"


class LedgerRow(Data):
    """Queries by purpose: images `charged` to an attack's students, and distinct answers `sent` by the teacher."""

    attack: str
    purpose: str
    charged: Count
    sent: Count


class NormalisationTrial(Data):
    """The network's correct answers on the probed images with another normalisation."""

    normalize: str  # as --normalize takes it
    correct: PackedArray  # (n,)


class SecondProbe(Data):
    """The same questions after training: whether the answers are still those that the audit rests on."""

    queries: Count
    validation: PackedArray  # (n,) largest change of a probability since the first answer, by image of `repeated`
    views: PackedArray  # (v,) the same through the surface, by view that was asked before training, in their order
    noise: PackedArray  # (v,) the same between two answers after training


class Probe(LaterFields):
    """The auditor's tests of the audited teacher before training; they do not depend on the surface."""

    LATER = ("again",)

    images: Count  # number of validation images that were queried again
    queries: Count
    repeated: PackedArray  # (n,) largest change of a probability when the same batch is queried again, by image
    regrouped: PackedArray  # (m,) the same when the first images are queried in small batches
    softmaxed: bool  # whether the network's raw outputs are probability distributions
    saturated: Share  # share of the answers whose top probability is 1 in single precision
    correct: PackedArray  # (n,) the teacher's correct answers on the images that test normalisations
    normalised: tuple[NormalisationTrial, ...]
    duplicated: PackedArray  # (N,) whether a test image is also in the training split
    again: SecondProbe | None = None  # earlier versions did not ask again


class Usability(Data):
    """What users of the API get for the test images, through its surface."""

    correct: PackedArray  # (N,) whether the top class is right
    confidence: PackedArray | None  # (N,) float16, of the top class; None for a surface that shows labels only
    classes: PackedArray  # (N,) uint16, number of classes that have a probability
    accuracy: Share = 0.0
    calibration_error: Share | None = None
    top5: Share = 0.0  # share of the images for which five classes can be ranked


class TeacherInfo(Data):
    name: str
    sha256: str
    architecture: str
    method: str
    network_parameters: Count | None  # None: unknown, because the teacher is behind an API
    output: str  # logits, probabilities, percentages or log-probabilities, detected from its first answers
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool  # whether the network expects BGR order
    validation_correct: PackedArray  # (M,) whether its answer is right, by validation image
    test_correct: PackedArray  # (N,) by test image
    usability: Usability
    validation_accuracy: Share = 0.0
    test_accuracy: Share = 0.0
    test_low: Share = 0.0
    test_high: Share = 1.0


class TaskInfo(LaterFields):
    LATER = GROUPINGS

    name: str
    digest: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: Count
    validation: Count
    test: Count
    validation_labels: PackedArray  # (M,) uint16
    test_labels: PackedArray  # (N,)
    majority: Share = 0.0  # test accuracy of always naming the largest class
    pool_digest: str  # digest of the attacker's images and labels, after --shots and --labels
    pool_images: Count  # number of these images
    test_groups: PackedArray | None = None  # (N,) uint32, the group of each test image; None: each is on its own
    test_alike: PackedArray | None = None  # (N,) near-duplicates have equal numbers; None: none were found
    test_named: PackedArray | None = None  # (N,) files of one stem have equal numbers; None: names suggest no groups


class SuiteInfo(LaterFields):
    LATER = ("finalists",)

    name: str
    digest: str
    attacks: tuple[str, ...]
    complete: bool  # whether every attack of the suite was requested
    recipe: Parameters
    settings: Count
    tuning_seeds: Count
    seeds: Count
    plugins: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()  # baselines without a teacher, other than the LS student
    finalists: Count | None = None  # settings that got all tuning seeds, the best on the first; None: all did


class Look(LaterFields):
    LATER = ("outsiders",)

    number: int  # number of looks taken
    alpha: float  # error rate of each decisive word, over all looks
    seeds: tuple[int, ...]  # number of judged seeds at every look, planned or taken by an earlier audit
    horizon: Count  # number of seeds at which all of the error is spent
    outsiders: bool = False  # whether looks at attacks without original images were at gains over the largest class


class EngineNode(Data):
    """A machine of a cluster."""

    name: str
    system: str
    students: Count  # trained there in this audit


class Engine(Data):
    """The cluster that trained students."""

    name: str
    version: str
    nodes: tuple[EngineNode, ...]


class Environment(Data):
    tool: str
    python: str
    torch: str
    numpy: str
    platform: str
    threads: int
    packages: dict[str, str]  # versions of the packages that affect the numbers
    code: str  # sha256 of the tool's own source files
    engine: Engine | None = None  # None: students were trained on this machine alone


class Times(Data):
    """The only part that differs between two runs of the same audit."""

    created: str
    wall_seconds: Seconds
    training_share: float  # share of the workers' time inside training steps
    trained: Count
    reused: Count


class SurfaceResult(Data):
    """The result of one surface's own audit: what it costs honest users, and what it leaves to an attacker."""

    surface: str
    folder: str  # relative to this record's folder
    record: str  # sha256 of that audit's record.json
    word: Word
    attack: str  # the attack with the largest margin
    margin: Interval | None
    accuracy: Share
    calibration_error: Share | None
    top5: Share


class FrameworkEntry(Data):
    """An entry of a public framework, as it is printed, that an audit supports evidence for."""

    framework: str
    version: str
    id: str


class Record(Data):
    """An audit."""

    schema_version: Literal[3] = SCHEMA_VERSION
    audit: str  # digest of everything that determines the audit
    design: Count = UNSTATED  # version of what is compared with what; earlier versions did not state it
    command: str
    teacher: TeacherInfo
    ordinary: TeacherInfo | None  # the positive control; None in a partial record: it is trained after the word
    task: TaskInfo
    suite: SuiteInfo
    settings: Settings
    look: Look
    verdict: Verdict = PENDING
    flags: tuple[Flag, ...] = ()
    comparisons: tuple[Comparison, ...]
    controls: tuple[Comparison, ...]  # baselines without a teacher and the null control, against the LS student
    surfaces: tuple[SurfaceResult, ...] = ()  # if several surfaces were audited; this record's surface comes first
    cmi: tuple[CMIPool, ...]
    clusters: Clusters | None = None  # of these answers; None without validation images
    frameworks: tuple[FrameworkEntry, ...] = ()  # what the audit supports evidence for; earlier versions named none
    probe: Probe
    cmi_without_guard: str = ""  # the guard that CMI ignores, because it hides classes
    ledger: tuple[LedgerRow, ...]
    distinct_answers: Count  # of the audited teacher, that the audit uses
    trials: tuple[Trial, ...]
    journal: str  # sha256 of journal.jsonl
    environment: Environment
    times: Times

    def name_of(self, row: Comparison) -> str:
        """Return the name of a row: the attack, and its student architecture if there are several."""
        several = len({c.student for c in self.comparisons}) > 1
        return f"{row.attack} on {row.student}" if several else row.attack

    @property
    def teachers(self) -> tuple[tuple[str, TeacherInfo], ...]:
        """The teachers that the record describes, by its own names."""
        return (("teacher", self.teacher), *((("ordinary", self.ordinary),) if self.ordinary else ()))

    @property
    def second(self) -> bool:
        """Whether an ordinary teacher was asked beside the audited one."""
        return self.ordinary is not None and self.ordinary != self.teacher

    @property
    def planned(self) -> tuple[Comparison, ...]:
        """The rows of attacks that have not run: the word was sure without them. A record that has any is partial."""
        return tuple(row for row in self.comparisons if row.status == "planned")

    def decoded(self, row: Comparison) -> list[str]:
        """Return what an attack's students found that the teacher does to its answers, each once."""
        own = set(row.knockoff.students)
        return sorted({trial.decoded for trial in self.trials if trial.key in own and trial.decoded})

    @property
    def groups(self) -> NDArray[np.uint32] | None:
        """The number of each test image's group, (N,); None where every image is on its own."""
        return None if self.task.test_groups is None else self.task.test_groups.array()

    def correct(self, students: Sequence[str]) -> NDArray[np.bool_]:
        """Return which test images some students classify correctly, (S, N), in the order given.

        Raises RecordError where the record has no such answers, or not for its test images.
        """
        packed = {trial.key: trial.test_correct for trial in self.trials if trial.test_correct is not None}
        missing = [key for key in students if key not in packed]
        if missing:
            raise RecordError(f"the record does not hold the answers of student {missing[0][:12]}; {AGAIN}")
        rows = [packed[key].array() for key in students]
        if {row.shape for row in rows} != {(self.task.test,)}:
            raise RecordError(f"students of the record do not answer its {self.task.test} test images; {AGAIN}")
        return np.stack(rows)


def save(record: Record, path: Path) -> None:
    """Write the record completely or not at all."""
    write_whole(path, dumped(record))


def dumped(record: Record) -> bytes:
    """Return the bytes of the record's file."""
    # As the version wrote it that did not state what is left out.
    unstated: dict[str, Any] = {"design": True} if record.design == UNSTATED else {}
    if not record.frameworks:
        unstated["frameworks"] = True
    if record.environment.engine is None:
        unstated["environment"] = {"engine"}
    absent = {name for name, silent in LATER_SETTINGS.items() if getattr(record.settings, name) == silent}
    if absent:
        unstated["settings"] = absent
    return record.model_dump_json(indent=1, exclude=unstated).encode()


def digest(record: Record) -> str:
    """Return the sha256 of a record's file, in 64 hex digits."""
    return hashlib.sha256(dumped(record)).hexdigest()


def load(path: Path) -> Record:
    """Read a record.

    Raises RecordError where the file is missing, not a record, or has an unknown schema version.
    """
    folder = path
    if path.is_dir():
        path = path / "record.json"
    try:
        text = handed.text(path, MOST)
    except OSError as e:
        inside = sorted(str(held.parent) for held in folder.glob("*/record.json"))[:3] if folder.is_dir() else []
        if (folder / "audit.id").exists():
            raise RecordError(f"the audit in {folder} is not finished; rerun the same command to resume") from e
        there = f", such as {' or '.join(inside)}" if inside else ""
        raise RecordError(f"cannot read {path} ({e.strerror}); give the folder that `audit run` wrote{there}") from e
    except handed.Unfit as e:
        raise RecordError(f"{path} is not a record: it {e}; give the folder that `audit run` wrote") from e
    try:
        version = json.loads(text, object_pairs_hook=_once).get("schema_version")
    except (ValueError, AttributeError, RecursionError) as e:  # RecursionError: nested too deeply
        raise RecordError(f"{path} is not a record: {e}; give the folder that `audit run` wrote") from e
    if type(version) is not int or version != SCHEMA_VERSION:
        said = f"{path} has schema version {version}, and this version of the tool reads {SCHEMA_VERSION}"
        raise RecordError(f"{said}; use the version that wrote it, or audit again")
    try:
        return Record.model_validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} is not a valid record: {where}: {first['msg']} ({e.error_count()} problems)") from e


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object without repeated keys: JSON readers differ in which of two values they use.

    Raises ValueError where a key occurs twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def by_surface(record: Record, folder: Path) -> tuple[Record, ...]:
    """Return the record of every audited surface, that of the record's own surface first, from the folder.

    Raises RecordError where one cannot be read.
    """
    return tuple(load(folder / row.folder / "record.json") for row in record.surfaces) or (record,)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the record."""
    return Record.model_json_schema()
