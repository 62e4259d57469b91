"""Check Hugging Face image-classification folders before transformers is used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from teachers import units
from teachers.errors import RefusedInput
from teachers.extras import install
from teachers.intake.normalise import BGR
from teachers.networks import in_timm

ADAPTER = "adapter_config.json"
PREPROCESSOR = "preprocessor_config.json"
MOST_FILES = 10_000
MOST_VALUE = 1e6  # largest mean, and largest 1 / standard deviation
MOST_TEXT = 4 * 2**20  # bytes of a JSON file
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def require() -> None:
    """Raise RefusedInput, which says how to install the extra, if transformers is missing."""
    try:
        import transformers  # noqa: F401
    except ImportError as e:
        raise RefusedInput(f"Hugging Face folders need transformers; {install('hf')}") from e


def files(path: Path) -> list[Path]:
    """Return the files of a folder, without hidden ones.

    Raises RefusedInput for symbolic links, wherever they lead, and for a folder of very many files.
    """
    found: list[Path] = []
    for root, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*folders, *names]):
            file = Path(root) / name
            if name.startswith("."):
                continue
            if file.is_symlink():
                raise RefusedInput(f"{file} is a symbolic link; copy the folder with `cp -rL` and give the copy")
            if name in names and not file.is_file():
                raise RefusedInput(f"{file} is not a regular file")
            found += [file] if name in names else []
        if len(found) > MOST_FILES:
            raise RefusedInput(f"{path} holds more than {MOST_FILES} files; give the folder of one model")
    return found


def look(path: Path, check: Callable[[Path], None]) -> None:
    """Check the configuration, and call `check` for every file of weights; no code of the folder runs.

    Raises RefusedInput with one sentence if it is no image classifier or brings its own code.
    """
    held = {file.relative_to(path).as_posix() for file in files(path)}
    if "config.json" not in held:
        what = "a TensorFlow model; convert it to ONNX" if "saved_model.pb" in held else "a folder; give a checkpoint"
        raise RefusedInput(f"{path} is {what}")
    config = configuration(path)
    if _names("auto_map", config):
        raise RefusedInput(
            f"{path} brings code of its own (auto_map in config.json), which is not run; export it to ONNX"
        )
    if config.get("quantization_config"):
        raise RefusedInput(f"{path} is quantised (quantization_config in config.json); save it in float32")
    if "model_type" not in config and isinstance(name := config.get("architecture"), str):
        known = f"--arch timm:{name}" if in_timm(name) else f"its --arch ({name[:80]!r} is none that is known here)"
        raise RefusedInput(f"{path} is a timm folder; give the weights inside it and {known}")
    if not isinstance(config.get("model_type"), str):
        raise RefusedInput(f"{path}/config.json names no model_type; give the folder that save_pretrained wrote")
    named = config.get("architectures") or []
    if not isinstance(named, list):
        raise RefusedInput(f"{path}/config.json names architectures in no list; save it again")
    if named and not any("ForImageClassification" in str(name) for name in named):
        raise RefusedInput(f"{path} is a {str(named[0])[:80]}, not an image classifier")
    weights = next((name for name in WEIGHTS if name in held), None)
    if weights is None:
        do = "merge the adapter into its model and save that" if ADAPTER in held else "give what save_pretrained wrote"
        raise RefusedInput(f"{path} has none of {', '.join(WEIGHTS)}; {do}")
    for name in _shards(path, weights) if weights.endswith(".json") else [weights]:
        if name not in held:
            raise RefusedInput(f"{path}/{weights} names {name[:80]!r}, which is not in the folder")
        check(path / name)


def configuration(path: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json."""
    return _json(path / "config.json")


def _names(key: str, config: object) -> bool:
    """Whether a configuration has a key at any depth."""
    left = [config]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if key in part:
                return True
            left += part.values()
        elif isinstance(part, list):
            left += part
    return False


def normalised(path: Path) -> str | None:
    """Return the normalisation that a folder states for its images, as --normalize takes it, or None.

    A mean and a standard deviation count only if they have one value each, or one per channel of three.
    """
    file = path / PREPROCESSOR
    said = _json(file) if file.is_file() else {}
    mean, std = said.get("image_mean"), said.get("image_std")
    bgr = BGR if said.get("do_flip_channel_order") is True else ""
    if said.get("do_rescale") is False or said.get("rescale_factor", 1 / 255) != 1 / 255:
        return None
    if said.get("do_normalize") is False:
        return "none" + bgr
    parts = [_channels(mean, least=-MOST_VALUE), _channels(std, least=1 / MOST_VALUE)]
    return None if None in parts else "/".join(map(str, parts)) + bgr


def _channels(values: object, least: float) -> str | None:
    if not isinstance(values, list) or len(values) not in (1, 3):
        return None
    plain = all(type(v) in (int, float) and least <= v <= MOST_VALUE for v in values)
    return ",".join(map(str, values)) if plain else None


def _shards(path: Path, index: str) -> list[str]:
    named = _json(path / index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise RefusedInput(f"{path}/{index} names no weights; give the folder that save_pretrained wrote")
    return sorted({str(name) for name in named.values()})


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MOST_TEXT:
        raise RefusedInput(
            f"{path} has more than {units.size(MOST_TEXT, 0)}; give the folder that save_pretrained wrote"
        )
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise RefusedInput(f"{path} is not JSON ({str(e)[:80]})") from e
    if not isinstance(found, dict):
        raise RefusedInput(f"{path} is not a JSON object")
    return found
