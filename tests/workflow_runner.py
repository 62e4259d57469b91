"""Runs the shell of a workflow as written: steps in order, expressions from a table, files of a runner in a folder.

Steps with `uses:` are not run. Those of a cache and of artifacts have stand-ins that copy the same paths, so that what
the next step finds is what it would find; all are held against the actions that are known here, by major version.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
OURS = "OWNER/distill-audit@v0"
KNOWN = {
    "actions/checkout@v4",
    "actions/setup-python@v5",
    "actions/cache/restore@v4",
    "actions/cache/save@v4",
    "actions/upload-artifact@v4",
    "actions/download-artifact@v4",
    "actions/attest@v2",
    OURS,
}
INSTALLS = {"install"}  # ids of the steps that install: the package is there already
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")  # GitHub's own for `shell: bash`

Context = dict[str, str]
Parsed = dict[Any, Any]


def load(path: str) -> Parsed:
    parsed: Parsed = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    return parsed


def value(expression: str, context: Mapping[str, str]) -> str:
    """Evaluate an expression of GitHub: paths of the context, quoted text, ! == != && ||; false is ''."""
    text = expression.strip()
    if "||" in text:
        return next((v for v in (value(part, context) for part in text.split("||")) if v), "")
    if "&&" in text:
        values = [value(part, context) for part in text.split("&&")]
        return values[-1] if all(values) else ""
    for sign in ("!=", "=="):
        if sign in text:
            left, right = (value(part, context) for part in text.split(sign))
            return "true" if (left == right) == (sign == "==") else ""
    if text.startswith("!"):
        return "" if value(text[1:], context) else "true"
    if re.fullmatch(r"'[^']*'", text):
        return text[1:-1]
    if re.fullmatch(r"(inputs|steps|needs)\.[\w.-]+", text):
        return context.get(text, "")  # GitHub gives nothing for what is not there
    return context[text]


def resolved(text: object, context: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: value(found[1], context), str(text))


SHORT = (
    "short-1"  # the suite that `--effort smoke` means on such a machine: few of smoke's students, all taught shortly
)
ENTRY = f"""
from dataclasses import replace
from audit.cli import main
from audit.plan.suite import EFFORTS, SMOKE
from teachers import methods

recipe = methods.default_recipe
methods.default_recipe = lambda task, name=None, steps=None: recipe(task, name, steps or 100)
EFFORTS["smoke"] = replace(SMOKE, name="{SHORT}", attacks=SMOKE.attacks[1:], seeds=2, bite_seeds=2, steps=10)
if __name__ == "__main__":
    main()
"""


@dataclass
class Runner:
    """A machine of a workflow: workspace, temporary folder, and a cache that outlives it."""

    home: Path
    kept: Path  # cache and artifacts of the service, shared by machines
    env: dict[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)  # names of the steps whose shell was run
    used: list[str] = field(default_factory=list)
    code: int = 0

    def __post_init__(self) -> None:
        for folder in (self.workspace, self.home / "temp", self.kept):
            folder.mkdir(parents=True, exist_ok=True)
        inherited = {name: text for name, text in os.environ.items() if name != "DISTILL_AUDIT_CACHE"}
        self.env = {**inherited, **command(self.home), "RUNNER_TEMP": str(self.home / "temp"), **self.env}
        for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"):
            self.env[name] = str(self.home / name)

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    def shell(self, script: str, env: Mapping[str, str]) -> int:
        file = self.home / "step.sh"
        file.write_text(script, encoding="utf-8")
        return subprocess.run([*SHELL, str(file)], cwd=self.workspace, env={**self.env, **env}, check=False).returncode

    def job(self, steps: list[Parsed], context: Context) -> Context:
        """Run the steps of a job, or of an action in it; return the context with their outputs."""
        failed = False
        for step in steps:
            context |= {"always()": "true", "cancelled()": "", "success()": "" if failed else "true"}
            condition = str(step.get("if", "success()")).removeprefix("${{").removesuffix("}}")
            if not re.search(r"(always|cancelled|failure|success)\(\)", condition):
                condition = f"success() && ({condition})"
            if not value(condition, context):
                continue
            outputs, code = self._step(step, context)
            failed, self.code = failed or code != 0, self.code or code
            if "id" in step:
                context |= {f"steps.{step['id']}.outputs.{name}": text for name, text in outputs.items()}
                context[f"steps.{step['id']}.outcome"] = "failure" if code else "success"
        return context

    def _step(self, step: Parsed, context: Context) -> tuple[dict[str, str], int]:
        given = {name: resolved(text, context) for name, text in step.get("with", {}).items()}
        if "uses" in step:
            assert step["uses"] in KNOWN, step["uses"]
            self.used.append(step["uses"])
            if step["uses"] == OURS:
                return self.action(given, context)
            return {}, self._stand_in(step["uses"].partition("@")[0], given)
        assert step.get("shell") == "bash", step
        assert "${{" not in step["run"], "an expression in a shell is code of whoever wrote its value"
        if step.get("id") in INSTALLS:
            assert "pip" in step["run"]
            return {}, 0
        for name in ("GITHUB_OUTPUT", "GITHUB_ENV"):
            Path(self.env[name]).write_text("")
        code = self.shell(step["run"], {name: resolved(text, context) for name, text in step.get("env", {}).items()})
        self.ran.append(step["name"])
        self.env |= pairs(Path(self.env["GITHUB_ENV"]))
        return pairs(Path(self.env["GITHUB_OUTPUT"])), code

    def action(self, given: Mapping[str, str], context: Context) -> tuple[dict[str, str], int]:
        """Run action.yml, with inputs as a workflow gives them; return its outputs and exit code."""
        action = load("action.yml")
        assert given.keys() <= action["inputs"].keys()
        assert {name for name, one in action["inputs"].items() if one.get("required")} <= given.keys()
        inputs = {name: given.get(name) or str(one.get("default", "")) for name, one in action["inputs"].items()}
        inside = {f"inputs.{name}": text for name, text in inputs.items()}
        inside |= {name: text for name, text in context.items() if name.startswith(("github.", "runner."))}
        before, self.code = self.code, 0
        inside = self.job(action["runs"]["steps"], inside)
        code, self.code = self.code, before
        return {name: resolved(one["value"], inside) for name, one in action["outputs"].items()}, code

    def _stand_in(self, action: str, given: Mapping[str, str]) -> int:
        if action == "actions/cache/restore":
            found = sorted((p for p in self.kept.glob(f"cache-{given['restore-keys']}*")), key=os.path.getmtime)
            if found:
                copy(found[-1], self.workspace / given["path"])
        elif action == "actions/cache/save":
            copy(self.workspace / given["path"], self.kept / f"cache-{given['key']}")
        elif action == "actions/upload-artifact":
            copy(self.workspace / given["path"], self.kept / f"artifact-{given['name']}")
        elif action == "actions/download-artifact":
            copy(self.kept / f"artifact-{given['name']}", self.workspace / given["path"])
        elif action == "actions/attest":
            assert json.loads((self.workspace / given["predicate-path"]).read_text())["result"]
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", given["subject-digest"])
            assert given["subject-name"]
            assert given["predicate-type"].startswith("https://")
        return 0


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def pairs(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)


def command(home: Path) -> dict[str, str]:
    """Put the `audit` of this checkout where the installing step would have put it; return the path to it."""
    folder = home / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / "entry.py"
    entry.write_text(ENTRY)
    shim = folder / "audit"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{entry}" "$@"\n')
    shim.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
