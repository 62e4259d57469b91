"""Names of classes in a list, which may hold commas themselves."""

from __future__ import annotations
