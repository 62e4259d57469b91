"""The record: everything that an audit found, as plain versioned data; every report is rendered from it alone."""

from __future__ import annotations

import base64
import json
import math
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from reports import handed
from reports.base import Count as Count
from reports.base import Data as Data
from reports.base import Share as Share
from reports.clusters import Clusters

SCHEMA_VERSION = 3
READABLE = (1, 2, 3)  # 2: baselines, dropped classes, the teacher's own steal-cost curve; 3: looks, several students

MOST = 2048 * handed.MIB  # at most, bytes of a record
LARGEST = 2**26  # at most, values of an array: more than any split or pool of answers has
AGAIN = "take the file as `audit run` wrote it, or audit again"

Word = Literal["DISTILLABLE", "UNDISTILLABLE", "INCONCLUSIVE"]
Cap = Literal["nothing", "undistillable", "inconclusive"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Parameters = dict[str, int | float | str | bool | None]


class RecordError(ValueError):
    """A record is missing, unreadable, or has another schema version."""


class PackedArray(Data):
    """An array: bits are packed eight to a byte; bytes are zlib-compressed and base64-encoded."""

    dtype: Literal["bool", "float16", "uint16"]
    shape: tuple[int, ...]
    data: str

    @classmethod
    def of(cls, array: NDArray[Any]) -> PackedArray:
        """Pack a bool, float16 or uint16 array of any shape."""
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
        size = -(-count // 8) if self.dtype == "bool" else 2 * count
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


class CellPlan(Data):
    """The plan of a student; together with the trial, it states everything that determines the student."""

    engine: Count
    version: str  # version of the technique
    recipe: Parameters
    pool: str  # digests of the attacker's images, of the task and of the surrogate images
    task: str
    surrogate: str | None
    fingerprint: str | None  # of the teacher that it queries
    surface: str | None
    splits: Literal["validation", "both"]
    device: str


class Trial(Data):
    """One trained student."""

    cell: str  # sha256 of everything that determines the student
    kind: Literal["attack", "control"]
    name: str
    role: Literal["tune", "judge", "null", "bite", "cost"]
    teacher: Literal["audited", "ordinary"] | None  # None: it has no oracle
    parameters: Parameters
    student: str
    seed: int
    labels: Share = 1.0  # fraction of its images that have labels
    budget: Count | None = None
    regime: Regime
    planned: CellPlan | None = None  # None in records from before 0.2
    validated: PackedArray | None = None  # (M,) right or wrong by validation image
    validation_accuracy: Share = 0.0
    correct: PackedArray | None  # (N,) by test image; None for tuning, which never sees the test split
    agrees: PackedArray | None = None  # (N,) whether it names the top class of its teacher, or of the audited one
    agreement: Share | None = None
    charged: Count = 0  # queries
    estimated: Count = 0  # of these, to estimate gradients
    repeats: Share | None = None  # of the training images, those whose answer's top class is the known label
    diverged: bool = False
    network_parameters: Count = 0
    seconds: Seconds = 0.0
    step_seconds: Seconds = 0.0


class Interval(Data):
    """A mean with its uncertainty, as fractions (0.01 is one point)."""

    mean: float
    se: float
    df: float
    low: float  # two-sided 95 % interval
    high: float
    lower: float  # one-sided 95 % bounds; of an attack's margin over all looks
    upper: float
    p: float  # one-sided, mean > 0; likewise
    seeds: Count
    images: Count
    discordant: float  # expected number of test images on which the two differ, per seed


UNMEASURED = Interval(
    mean=0, se=0, df=1, low=0, high=0, lower=0, upper=0, p=1, seeds=0, images=0, discordant=0
)  # in place of what follows from students that are known


class Cost(Data):
    """One point of a steal-cost curve: a fresh student for every budget."""

    queries: Count
    accuracy: Interval
    agreement: Share
    students: tuple[str, ...] = ()


class Bite(Data):
    """Whether an attack beats the baseline of its own threat model on the ordinary teacher."""

    baseline: str
    bites: bool
    margin: Interval
    curve: tuple[Cost, ...] = ()
    students: tuple[str, ...] = ()
    control_students: tuple[str, ...] = ()  # none where the baseline is the largest class


class Comparison(Data):
    """An attack's knockoff students against the LS student."""

    attack: str
    student: str = ""  # architecture
    title: str
    paper: str
    holds: Literal["original", "surrogate", "no data"]
    needs: Literal["probs", "label", "gradients"]
    status: Literal["judged", "identical", "not applicable", "failed"]
    reason: str = ""
    parameters: Parameters = Field(default_factory=dict)
    tuned_over: Count = 0
    control: str = ""
    control_parameters: Parameters = Field(default_factory=dict)
    looks: tuple[Count, ...] = ()  # judged seeds at every look; the last is the number of students
    students: tuple[str, ...] = ()  # the trials' cells that are compared, by seed,
    control_students: tuple[str, ...] = ()  # those that each is paired with,
    baseline_students: tuple[str, ...] = ()  # and those of the baseline
    accuracy: Share | None = None
    control_accuracy: Share | None = None
    agreement: Share | None = None
    queries: Count = 0
    margin: Interval | None = None
    p_holm: float | None = None
    floor: float | None = None  # lower bound of the margin, corrected for the number of attacks
    baseline: str = (
        ""  # the best student without a teacher, on validation: the LS student or another no-victim baseline
    )
    baseline_margin: Interval | None = None  # over that baseline; outside the verdict
    dropped_accuracy: Share | None = None  # on the classes that the attacker never saw; outside the verdict
    control_dropped_accuracy: Share | None = None
    curve: tuple[Cost, ...] = ()  # accuracy and agreement against queries, on the audited teacher
    bite: Bite | None = None
    extra: bool = False  # not part of the frozen suite: a plug-in's attack, or one asked for by name


class Flag(Data):
    """A doubt about the protocol: raised if, why it matters, what to do, and what it does to the verdict."""

    id: str
    raised: str
    why: str
    do: str
    caps: Cap


class Verdict(Data):
    """One of three words and the sentence that explains it."""

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
)  # in place of the verdict that follows


PoolName = Literal["train", "augmented", "validation"]


class CMICurve(Data):
    """Cluster concentration of the teacher's answers on one set of images, in nats."""

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
    """The same, and the answers from which all of it is computed."""

    answers: PackedArray  # (N, K) float16 log-probabilities
    labels: PackedArray  # (N,) uint16


def purpose_of(role: str, teacher: str | None, estimate: bool = False) -> str:
    """Name what a student's queries were for, as the ledger does."""
    return f"{role}, {teacher} teacher{', gradient estimate' if estimate else ''}"


class LedgerRow(Data):
    """Images by purpose: `charged` to an attack's students, and distinct answers the teacher `sent` for them."""

    attack: str
    purpose: str
    charged: Count
    sent: Count


class NormalisationTrial(Data):
    """What the network gets right of the probed images behind another normalisation."""

    normalize: str  # as --normalize takes it
    correct: PackedArray  # (n,)


class Probe(Data):
    """What the auditor asked the audited teacher before anything was trained, whatever its surface."""

    images: Count  # of validation, asked again
    queries: Count
    repeated: PackedArray  # (n,) the largest change of a probability, by image, when the same batch is asked again,
    regrouped: PackedArray  # (m,) and when the first of them are asked in small batches
    softmaxed: bool  # the network's raw outputs are distributions
    saturated: Share  # of the answers, whose top probability is 1 in single precision
    correct: PackedArray  # (n,) what the teacher gets right of the images that normalisations are tried on
    normalised: tuple[NormalisationTrial, ...]
    duplicated: PackedArray  # (N,) by test image, whether it is in the training split, too


class Usability(Data):
    """What an API shows its users of the test images, through its surface."""

    correct: PackedArray  # (N,) whether the top class is right
    confidence: PackedArray | None  # (N,) float16, of the top class; None: labels have none
    classes: PackedArray  # (N,) uint16, how many have a probability
    accuracy: Share = 0.0
    calibration_error: Share | None = None
    top5: Share = 0.0  # of the images, those for which five classes can be ranked


class TeacherInfo(Data):
    name: str
    sha256: str
    architecture: str
    method: str
    parameters: Count | None  # None: it is behind an API
    output: str = ""  # logits, probabilities, percentages or log-probabilities, as its first answers told
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False  # whether the network takes blue first
    validated: PackedArray | None = None  # (M,) right or wrong by validation image
    correct: PackedArray | None = None  # (N,) by test image
    usability: Usability | None = None
    validation_accuracy: Share = 0.0
    test_accuracy: Share = 0.0
    test_low: Share = 0.0
    test_high: Share = 1.0


class TaskInfo(Data):
    name: str
    digest: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: Count
    validation: Count
    test: Count
    validation_labels: PackedArray | None = None  # (M,) uint16
    test_labels: PackedArray | None = None  # (N,)
    majority: Share = 0.0  # accuracy on the test split of always naming its largest class
    pool_digest: str  # what the attacker holds, after --shots and --labels
    held: Count = 0  # images of it


class SuiteInfo(Data):
    name: str
    digest: str
    attacks: tuple[str, ...]
    complete: bool  # every attack of the frozen suite was asked for
    recipe: Parameters
    settings: Count
    tuning_seeds: Count
    seeds: Count
    plugins: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()  # no-victim baselines beside the LS student


class Settings(Data):
    teacher: str = ""
    data: str | None = None
    architecture: str | None = None
    normalize: str | None = None
    size: Count | None = None
    classes: tuple[str, ...] = ()  # in the order of the network's outputs, where that is not the data's
    weights: str | None = None  # which, of a checkpoint with those of several networks
    input: str = ""  # the tensor for images of a teacher behind a URL, where the command line names it
    output: str = ""  # and the one with its answers
    headers: tuple[str, ...] = ()  # NAME=VARIABLE; what the variables hold is nowhere
    plain_http: bool = False  # whether it was asked without encryption beyond this machine
    student: str
    surface: str
    shots: Share
    labels: Share
    budget: Count | None
    effort: str
    surrogate: str
    device: str
    price: Annotated[float, Field(ge=0)] | None = None  # of 1,000 queries
    dropped: tuple[str, ...] = ()  # classes of which the attacker never saw an image
    isolated: bool = False  # whether the teachers were in a process of their own


class Look(Data):
    number: int  # looks taken
    alpha: float  # error of each word, over all of them
    seeds: tuple[int, ...]  # judged seeds at every look that was planned, or taken by an earlier audit
    horizon: Count = 0  # seeds at which all error is spent


class Environment(Data):
    tool: str
    python: str
    torch: str
    numpy: str
    platform: str
    threads: int
    packages: dict[str, str] = Field(default_factory=dict)  # versions of what the numbers rest on
    code: str = ""  # sha256 of the tool's own source files


class Times(Data):
    """The only part that differs between two runs of the same audit."""

    created: str
    wall_seconds: Seconds
    training_share: float  # of worker time, inside training steps
    trained: Count
    reused: Count


class SurfaceResult(Data):
    """What a surface costs its honest users, and what it leaves to an attacker: an audit of its own."""

    surface: str
    folder: str  # beside this record
    record: str  # sha256 of its record.json
    word: Word
    attack: str  # with the largest margin
    margin: Interval | None
    accuracy: Share
    calibration_error: Share | None
    top5: Share


class Record(Data):
    """An audit."""

    schema_version: Literal[1, 2, 3] = 3
    audit: str  # digest of everything that determines the audit
    command: str
    teacher: TeacherInfo
    ordinary: TeacherInfo  # the positive control
    task: TaskInfo
    suite: SuiteInfo
    settings: Settings
    look: Look
    verdict: Verdict = PENDING
    flags: tuple[Flag, ...] = ()
    comparisons: tuple[Comparison, ...]
    controls: tuple[Comparison, ...]  # no-victim baselines and the null control, against the LS student
    hardening: tuple[SurfaceResult, ...] = ()  # where several surfaces were asked for, this one's first
    cmi: tuple[CMIPool, ...]
    clusters: Clusters | None = None  # of those answers; None in records of before 0.2, or without validation images
    probe: Probe | None = None  # None in records of before 0.2
    cmi_behind: str = ""  # the guard behind which it was measured, because it hides classes
    ledger: tuple[LedgerRow, ...]
    answered: Count | None = None  # distinct answers of the audited teacher that all of this rests on
    trials: tuple[Trial, ...]
    journal: str = ""  # sha256 of journal.jsonl
    environment: Environment
    times: Times

    def named(self, row: Comparison) -> str:
        """Name a row: the attack, and its student where there are several."""
        several = len({c.student for c in self.comparisons}) > 1
        return f"{row.attack} on {row.student}" if several else row.attack

    def correct(self, cells: Sequence[str]) -> NDArray[np.bool_]:
        """Return what these students got right, (S, N) over the test images, in the order given.

        Raises RecordError where the record does not hold them, or not for the same images.
        """
        packed = {trial.cell: trial.correct for trial in self.trials if trial.correct is not None}
        missing = [cell for cell in cells if cell not in packed]
        if missing:
            raise RecordError(f"the record does not hold the answers of student {missing[0][:12]}; {AGAIN}")
        rows = [packed[cell].array() for cell in cells]
        if {row.shape for row in rows} != {(self.task.test,)}:
            raise RecordError(f"students of the record do not answer its {self.task.test} test images; {AGAIN}")
        return np.stack(rows)


def save(record: Record, path: Path) -> None:
    """Write the record whole or not at all."""
    write_whole(path, dumped(record))


def dumped(record: Record) -> bytes:
    """Return the record as it is written."""
    return record.model_dump_json(indent=1).encode()


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name, flush to disk, rename.

    Raises OSError that names the file where it cannot be written; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        partial.replace(path)
    except OSError as e:  # of a full disk, it names no file
        with suppress(OSError):
            partial.unlink()
        raise OSError(e.errno, e.strerror, str(path)) from e


def load(path: Path) -> Record:
    """Read a record.

    Raises RecordError with one sentence where the file is missing, no record, or of another version.
    """
    folder = path
    if path.is_dir():
        path = path / "record.json"
    try:
        text = handed.text(path, MOST)
    except OSError as e:
        inside = sorted(str(held.parent) for held in folder.glob("*/record.json"))[:3] if folder.is_dir() else []
        there = f", such as {' or '.join(inside)}" if inside else ""
        raise RecordError(f"cannot read {path} ({e.strerror}); give the folder that `audit run` wrote{there}") from e
    except handed.Unfit as e:
        raise RecordError(f"{path} is not a record: it {e}; give the folder that `audit run` wrote") from e
    try:
        version = json.loads(text, object_pairs_hook=_once).get("schema_version")
    except (ValueError, AttributeError, RecursionError) as e:  # the last: nested without end
        raise RecordError(f"{path} is not a record: {e}; give the folder that `audit run` wrote") from e
    if type(version) is not int or version not in READABLE:
        raise RecordError(f"{path} has schema version {version}; this version of the tool reads {READABLE}")
    try:
        return Record.model_validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} is not a valid record: {where}: {first['msg']} ({e.error_count()} problems)") from e


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return what a JSON object holds; readers differ in which of two values of a key they take.

    Raises ValueError where a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def by_surface(record: Record, folder: Path) -> tuple[Record, ...]:
    """Return the record of every surface that was audited, the record's own first; they lie in its folder.

    Raises RecordError where one cannot be read.
    """
    return tuple(load(folder / row.folder / "record.json") for row in record.hardening) or (record,)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the record."""
    return Record.model_json_schema()
