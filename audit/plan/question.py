"""The digests of an audit's question and of the audit: of all that its students and its word depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

VERSION = 3  # of what is compared with what: a new number makes every audit another one


def of_question(parts: Mapping[str, Any]) -> str:
    """Return the digest of a question: of all but the seeds, 64 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def of_audit(question: str, schedule: Sequence[int]) -> str:
    """Return the digest of an audit: the question, and the numbers of seeds that it may look at."""
    return hashlib.sha256(json.dumps([question, *schedule]).encode()).hexdigest()
