"""All hostile attacks as one installed distribution, and what each of them fails with."""

from pathlib import Path

from distributions import distribution

FAILS = {
    "hostile-gc": "Held: no network",
    "hostile-frames": "Held: closures and frames",
    "hostile-path": "Held: nothing names",
    "hostile-pickle": "its process sent an invalid message",
    "hostile-backward": "does not require grad",
    "hostile-train": "has no attribute 'model'",
    "hostile-buffer": "Held: an answer belongs",
    "hostile-pool": "does not hold these images",
    "hostile-exit": "its process died",
}


def installed(folder: Path) -> Path:
    """Install the hostile attacks in a folder; return what must be on the path."""
    source = (Path(__file__).parent / "hostile_plugin.py").read_text()
    lines = source.splitlines()
    classes = {
        lines[i + 1].split('"')[1]: line.split()[1].split("(")[0]
        for i, line in enumerate(lines)
        if line.endswith("(Hostile):")
    }
    return distribution(folder, "hostile_plugin", classes)
