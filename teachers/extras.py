"""The optional parts of the tool, and the command that adds one to this installation."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

NAME: Final = "distill-audit"
Extra = Literal["cam", "hf", "onnx", "parquet", "ray"]  # that a message may name; pyproject.toml says what they install


def install(extra: Extra) -> str:
    """Return the pip command for an extra, from where this installation came (PEP 610), and never from an index.

    The name may be somebody else's on an index. Where nothing is noted, it is the command of the README.
    """
    came = _source()
    if came is None:
        return from_source(extra)
    address = urlsplit(str(came["url"]))
    if address.scheme == "file" and (folder := Path(url2pathname(unquote(address.path)))).is_dir():
        editable = "-e " if came.get("dir_info", {}).get("editable") else ""
        return f"pip install {editable}'{folder}[{extra}]'"
    vcs = came.get("vcs_info", {})
    place = f"{vcs['vcs']}+{came['url']}@{vcs['commit_id']}" if {"vcs", "commit_id"} <= vcs.keys() else came["url"]
    return f"pip install '{NAME}[{extra}] @ {place}'"


def from_source(extra: Extra) -> str:
    """Return the README's command for an extra; a page that is passed on names no folder of its author's machine."""
    return f"pip install '.[{extra}]' in the folder of the tool's source"


def _source() -> dict[str, Any] | None:
    """Return what pip noted about where the tool came from; None where it noted nothing."""
    try:
        noted = distribution(NAME).read_text("direct_url.json")
        found = json.loads(noted) if noted else None
    except (PackageNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and "url" in found else None
