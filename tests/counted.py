"""What an audit trained itself, by its journal and its record."""

import json
from pathlib import Path

from reports.record import Record


def trained(folder: Path, record: Record) -> list[tuple[str, str | None]]:
    """Return technique and teacher of every student that an audit trained itself: None for those without a teacher."""
    trials = {trial.key: trial for trial in record.trials}
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [(trials[c].cell.technique, trials[c].teacher) for c in (json.loads(line)["cell"] for line in lines)]
