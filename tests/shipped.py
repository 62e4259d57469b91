"""The audits that are shipped as examples."""

from pathlib import Path

SHIPPED = sorted(path.parent for path in (Path(__file__).resolve().parent.parent / "examples").glob("*/record.json"))
(DEMO,) = (path for path in SHIPPED if path.name == "demo-smoke")
STUDENT = "strided-8-16-32"  # the architecture that they attack with
