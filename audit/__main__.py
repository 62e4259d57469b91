"""`python -m audit` is refused: Python would look into the working directory first, where other packages may lie."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import NoReturn

from audit.commands import COMMAND_LINE

SENTENCE = (
    "audit: `python -m` looks for packages in the working directory first, and could run the code of another package; "
    "use the command `audit`, which is installed beside python"
)


def refuse() -> NoReturn:
    """Say which command to use instead, without the modules that may be another's, and exit."""
    ArgumentParser().exit(COMMAND_LINE, f"{SENTENCE}\n")


if __name__ == "__main__":
    refuse()
