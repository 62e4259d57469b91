"""Open the weights in an untrusted file: tensors by name, without executing anything."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from teachers import presence
from teachers.errors import RefusedInput, UsageError
from teachers.intake import channels, huggingface
from teachers.intake.architecture import channels_of
from teachers.intake.beside import is_beside
from teachers.intake.card import Card
from teachers.intake.formats import PROGRAMS
from teachers.intake.jail import TENSORS, confined, limits
from teachers.intake.readers import finite
from teachers.intake.rivals import Choice, chosen

FLAT = re.compile(r"(^|\.)_?flat_param(_\d+)?$")


@dataclass(frozen=True)
class Weights:
    """An opened file: its tensors by name and its card, if any; a program has neither and answers by itself."""

    path: Path
    sha256: str  # of the file; for a folder, or a file with external data, of all files together
    tensors: dict[str, Tensor]
    card: Card | None
    kind: str = "torch"  # torch, torch-legacy, safetensors, or one of PROGRAMS
    normalize: str | None = None  # the normalisation that the file states, as --normalize takes it
    taken: str = ""  # which of several mappings of tensors was chosen, as a sentence
    output: str = ""  # the output that the user names, if a program has several
    declared: int | None = None  # input channels of a program, if known
    factory: str = ""  # the user's own code that makes the network, as `module:factory`

    @property
    def is_program(self) -> bool:
        """Whether it answers by itself, without an architecture of ours."""
        return bool(self.program)

    @property
    def program(self) -> str:
        """What a report calls the architecture of a program; empty if it is none."""
        return self.factory or (self.kind if self.kind in PROGRAMS else "")

    @property
    def label(self) -> str:
        """What a message calls it."""
        return f"{self.path} with --arch {self.factory}" if self.factory else str(self.path)

    @property
    def channels(self) -> int | None:
        """Its input channels if they are 1 or 3; None if unknown or another number."""
        if self.is_program:
            return self.declared
        found = self.card.shape[0] if self.card is not None else channels_of(self.tensors)
        return found if found in channels.READ else None


def open_weights(path: Path, trust: bool = False, name: str | None = None) -> Weights:
    """Open a checkpoint in a child process: state dicts, safetensors, ONNX, Hugging Face folders.

    Nothing in it is executed; a file that only its own code can open is refused, unless the user wants to `trust` it.
    `name` chooses one of several mappings of tensors. Raises RefusedInput with one sentence for any other file;
    UsageError if the user must choose a mapping, or there is none of that name.
    """
    presence.checkpoint(path)
    files = huggingface.files(path) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    with tempfile.TemporaryDirectory(prefix="distill-audit-") as folder:
        found = confined(partial(channels.read, path, trust), Path(folder), path, limits(size))
        held = _tensors(Path(folder) / TENSORS, found.get("mappings", ()))
    kind = str(found["kind"])
    if name is not None and kind in PROGRAMS:
        raise UsageError(f"--weights {name}: {path} brings its own network; leave --weights out")
    if any(FLAT.search(key) for tensors in held.values() for key in tensors):
        raise RefusedInput(f"{path} holds FSDP's flattened parameters; save it again with full_state_dict=True")
    choice = chosen(path, held, name) if held else Choice({})
    finite(path, {key: t for key, t in choice.tensors.items() if not is_beside(key, t)})
    text = found.get("card")
    card = _card(path, text) if isinstance(text, str) else None
    beside = [path.parent / str(name) for name in found.get("beside", ())]
    sha256, normalize, declared = _digest(path, [*files, *beside]), found.get("normalize"), found.get("channels")
    return Weights(path, sha256, dict(choice.tensors), card, kind, normalize, choice.told, declared=declared)


def _tensors(path: Path, names: Sequence[object]) -> dict[str, dict[str, Tensor]]:
    """Return the mappings of tensors that a reader wrote, by their path in the checkpoint."""
    from safetensors.torch import load_file

    found: dict[str, dict[str, Tensor]] = {str(name): {} for name in names}
    of = list(found.values())
    for numbered, tensor in (load_file(path) if path.is_file() else {}).items():
        number, _, name = numbered.partition(".")
        of[int(number)][name] = tensor
    return found


def _digest(path: Path, files: Sequence[Path]) -> str:
    """Return the SHA-256 of a file, or of the names and digests of several."""
    digests = []
    for file in files:
        with file.open("rb") as f:
            digests.append(hashlib.file_digest(f, "sha256").hexdigest())
    if files == [path]:
        return digests[0]
    home = path if path.is_dir() else path.parent
    lines = [f"{file.relative_to(home)} {digest}" for file, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _card(path: Path, text: str) -> Card:
    try:
        return Card.model_validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        where, what = ".".join(map(str, first["loc"]))[:80], first["msg"].removeprefix("Value error, ")[:300]
        raise RefusedInput(
            f"{path} holds a description of its network that does not fit: {where and f'{where}: '}{what}; give its "
            "state dict alone, and --arch, --data and --normalize"
        ) from e
