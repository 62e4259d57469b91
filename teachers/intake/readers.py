"""Read untrusted files, in the jail only; the tensors go into a safetensors file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from teachers import units
from teachers.errors import RefusedInput
from teachers.intake import onnx_files, pickles
from teachers.intake.archives import sound_members
from teachers.intake.beside import PLAIN
from teachers.intake.containers import Container, opened
from teachers.intake.formats import kind_of
from teachers.intake.huggingface import look, normalised
from teachers.intake.jail import TENSORS
from teachers.intake.mappings import entries, mappings, module_within
from teachers.intake.names import CONSTRUCTORS
from teachers.intake.rebuilt import Maker

MOST_TENSORS = 100_000
MOST_HEADER = 32 * 2**20  # bytes
OURS = "distill_audit"  # the key of a card
TRUST = "--trust-model-code runs it"

Read = TypeVar("Read")


def read(path: Path, trust: bool, folder: Path) -> dict[str, Any]:
    """Read a file: write its tensors to `folder`, and return everything else about it.

    Raises RefusedInput with one sentence if it is no checkpoint, is damaged, or would run code without `trust`.
    """
    kind = kind_of(path)
    if kind == "huggingface":
        _leave([in_folder(path)], folder)
        return {"kind": kind, "normalize": normalised(path), "mappings": [""]}
    if kind == "onnx":
        return {"kind": kind, "beside": onnx_files.check(path)}
    if kind in ("torchscript", "export"):
        _refuse_program(path, kind, trust)
        return {"kind": kind}
    content, text, held = _opened(path, kind, trust)
    if module_in(content) is not None:
        return {"kind": "module"}
    found = _tensors(path, content, held)
    for tensors in found.values():
        _sound(path, tensors)
    _leave([*found.values()], folder)
    return {"kind": "torch" if kind == "pickle" else kind, "card": text, "mappings": [*found]}


def module_in(content: object) -> nn.Module | None:
    """Return the network that an unpickled file is, or holds under one of the usual keys; else None."""
    if isinstance(content, nn.Module):
        return content
    found = [content.get(nest) for nest in PLAIN] if isinstance(content, Mapping) else []
    return next((inner for inner in found if isinstance(inner, nn.Module)), None)


def attempt(path: Path | str, what: str, reader: Callable[[], Read]) -> Read:
    """Run a library's reader on an untrusted file; turn any of its errors into RefusedInput."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reader()
    except (RefusedInput, MemoryError):
        raise
    except (Exception, SystemExit) as e:
        if "alloc" in str(e).lower() and "memory" in str(e).lower():
            raise MemoryError from e
        raise RefusedInput(f"{path} {what} ({first_line(e)})") from e


def first_line(error: BaseException) -> str:
    """Return an error's first sentence, shortened, without colour codes and source locations."""
    text = re.sub(r"\x1b\[[0-9;]*m|^\[enforce fail[^\]]*\][ .]*", "", str(error)).strip()
    if not text or isinstance(error, LookupError):
        return f"{type(error).__name__} {text}".strip()[:200]
    *_, text = text.partition("WeightsUnpickler error:") if "WeightsUnpickler error:" in text else (text,)
    return text.strip().splitlines()[0].partition(". ")[0][:200]


def _refuse_program(path: Path, kind: str, trust: bool) -> None:
    members = [m.filename for m in sound_members(path)]
    if trust:
        return
    if kind == "torchscript":
        held = [n.partition("/code/")[2] for n in members if "/code/" in n and n.endswith(".py")]
        code = [re.sub(r"/___torch_mangle_\d+", "", n) for n in held]
        what = f"a TorchScript program ({pickles.told(tuple(code)) or 'whose code is hidden'})"
    else:
        held = [n.partition("/")[2] for n in members if n.endswith((".json", ".pt", ".pkl", ".so")) and "/" in n]
        code = [n for n in held if not n.endswith("_config.json")]
        what = f"a torch.export program ({pickles.told(tuple(code))})"
    raise RefusedInput(f"{path} is {what}, which runs code when opened; give its state dict and --arch, or {TRUST}")


def in_folder(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face folder.

    Raises RefusedInput if the folder is no image classifier, or holds more than tensors.
    """
    held: dict[str, Tensor] = {}
    look(path, lambda weights: held.update(_alone(weights)))
    return held


def _alone(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file in a Hugging Face folder, which must hold nothing else."""
    kind = kind_of(path)
    if kind not in ("torch", "torch-legacy", "safetensors"):
        raise RefusedInput(f"{path} holds no weights")
    if kind != "safetensors" and (names := pickles.wanted(path)):
        raise _more_than_tensors(path, names)
    content, _, held = _opened(path, kind, trust=False)
    tensors = max(_tensors(path, content, held).values(), key=len)
    _sound(path, tensors)
    finite(path, tensors)
    return tensors


def _opened(path: Path, kind: str, trust: bool) -> tuple[object, str | None, Container | None]:
    """Return a file's content, its card, and the container from which declared tensors are read."""
    if kind == "safetensors":
        return (*_safetensors(path), None)
    if kind == "pickle":
        if not trust:
            named = pickles.told(pickles.wanted(path)) or "it names nothing"
            raise RefusedInput(
                f"{path} is a pickle, which would run code when opened ({named}); save the state dict with torch.save, "
                f"or {TRUST}"
            )
        return _unpickled(path), None, None
    try:
        held = attempt(path, "holds more than tensors, or is damaged, and was not opened", lambda: opened(path, kind))
        names = held.dangerous or (pickles.wanted(path) if _is_whole(held.content) else ())
    except RefusedInput:
        held, names = None, pickles.wanted(path)
        if not names:
            raise
    if names and not trust:
        raise _more_than_tensors(path, names)
    if names or held is None:
        return _unpickled(path), None, None
    text = entries(held.content).get(OURS)
    return held.content, text if isinstance(text, str) else None, held


def _is_whole(content: object) -> bool:
    """Whether a file's weights need its author's classes: it is a whole module, or has no tensors by name."""
    return module_within(content) is not None or not mappings(content)


def _more_than_tensors(path: Path, names: tuple[str, ...]) -> RefusedInput:
    if all(name.startswith("numpy.") and CONSTRUCTORS.fullmatch(name) for name in names):
        return RefusedInput(f"{path} holds NumPy arrays and no tensors; save each as torch.from_numpy makes it")
    return RefusedInput(
        f"{path} holds more than tensors and was not opened: it would run {pickles.told(names)}; save "
        f"model.state_dict(), or {TRUST}"
    )


def _unpickled(path: Path) -> object:
    return attempt(path, "cannot be unpickled", lambda: unpickled(path))


def unpickled(path: Path) -> object:
    """Unpickle a file that the user trusts: this runs its code.

    Raises RefusedInput, with the two remedies, if a class that it names cannot be found.
    """
    import pickle

    try:
        with path.open("rb") as f:
            if kind_of(path) == "pickle":
                return pickle.load(f)
            return torch.load(f, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as e:
        lost = _lost(path, e)
        if not lost:
            raise
        raise RefusedInput(
            f"{path} is a whole module, and {lost}: save model.state_dict() where it is known, or put its package on "
            "PYTHONPATH"
        ) from e


def _lost(path: Path, error: ImportError | AttributeError) -> str:
    """Describe the class of a whole module that cannot be found; empty if the error has another cause."""
    if isinstance(error, ImportError):
        package = error.name or ""
        title = next((name for name in pickles.wanted(path) if name.startswith(f"{package}.")), "")
        what = f"its class {title}" if title else "a module that it imports"
        return f"{what} is in the package {package}, which Python does not find here" if package else ""
    named, module = (re.search(rf"{word} '([^']+)'", str(error)) for word in ("attribute", "module"))
    if named is None or module is None:
        return ""
    where = "was in the script that saved it" if module[1] == "__main__" else f"is not in the {module[1]} found here"
    return f"its class {named[1]} {where}"


def _safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    from safetensors import safe_open

    with path.open("rb") as f:
        header = int.from_bytes(f.read(8), "little")
    if header > MOST_HEADER:
        raise RefusedInput(
            f"{path} has a header of {units.size(header)}, above {units.size(MOST_HEADER, 0)}; save fewer keys"
        )

    def load() -> tuple[dict[str, Tensor], str | None]:
        with safe_open(path, "pt") as f:
            _count(path, len(f.keys()))
            text = (f.metadata() or {}).get(OURS)
            return {name: f.get_tensor(name) for name in f.keys()}, text  # noqa: SIM118  # safe_open is not a mapping

    return attempt(path, "is a damaged safetensors file", load)


def _tensors(path: Path, content: object, held: Container | None) -> dict[str, dict[str, Tensor]]:
    """Return the mappings of tensors in a checkpoint by their path in it."""
    _count(path, len(entries(content)))
    found = mappings(content)
    if not found:
        keys = [str(key)[:40] for key in entries(content)]
        has = f"only {pickles.told(tuple(keys))}" if keys else f"one {type(content).__name__}"
        raise RefusedInput(f"{path} holds no tensors by name but {has}; save model.state_dict()")
    for named in found.values():
        _count(path, len(named))
    if held is None:
        return {
            where: {name: value for name, value in named.items() if isinstance(value, Tensor)}
            for where, named in found.items()
        }
    maker = Maker(path, held)
    what = "is damaged and was not opened"
    return {where: attempt(path, what, partial(maker.tensors, named)) for where, named in found.items()}


def _count(path: Path, keys: int) -> None:
    if keys > MOST_TENSORS:
        raise RefusedInput(f"{path} holds {keys} keys; a checkpoint has at most {MOST_TENSORS}")


def _sound(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not plain arrays of numbers, or that declare more values than the file holds."""
    for name, t in tensors.items():
        if t.layout != torch.strided or t.is_quantized or t.is_meta or t.is_nested:
            raise RefusedInput(f"{path}: {name} is sparse, quantised or empty of values; save a plain state dict")
        if t.numel() * t.element_size() > t.untyped_storage().nbytes():
            raise RefusedInput(f"{path}: {name} declares {t.numel()} values, more than the file holds for it")
    size = path.stat().st_size
    if sum(t.numel() * t.element_size() for t in tensors.values()) > 64 * size + 2**20:
        raise RefusedInput(f"{path} declares far more values than its {size} bytes hold; save a plain state dict")


def finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite."""
    bad = [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t.float()).all())]
    if bad:
        raise RefusedInput(f"{path}: {bad[0]} has NaN or infinite values ({len(bad)} tensors do); this model is broken")


def _leave(found: Sequence[Mapping[str, Tensor]], folder: Path) -> None:
    from safetensors.torch import save_file

    # Copy weights that share memory: safetensors cannot store views.
    own: dict[str, Tensor] = {}
    seen = set()
    for i, tensors in enumerate(found):
        for name, t in tensors.items():
            plain = t.detach().contiguous()
            shares = plain.data_ptr() in seen or plain.untyped_storage().nbytes() > plain.nbytes
            own[f"{i}.{name}"] = plain.clone() if shares else plain
            seen.add(plain.data_ptr())
    save_file(own, folder / TENSORS)
