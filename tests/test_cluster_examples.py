"""The examples for a cluster: the job of Slurm runs as written, and the manifest is what KubeRay takes."""

from __future__ import annotations

import copy
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from audit import cli
from audit.plan import engines

ROOT = Path(__file__).resolve().parent.parent
SLURM, MANIFEST = ROOT / "examples/slurm/audit.sbatch", ROOT / "examples/kubernetes/audit.yaml"
SCHEMA = json.loads((ROOT / "tests/kuberay_rayjob.json").read_text(encoding="utf-8"))
FREE = {"labels", "matchLabels", "limits", "requests", "rayStartParams"}  # where any name is one
# What `ray symmetric-run` sets itself, and what only the head takes: it gives the same to all nodes.
REFUSED = {"--head", "--node-ip-address", "--port", "--block", "--include-dashboard", "--dashboard-host"}
STANDINS = {
    "scontrol": 'test "$*" = "show hostnames n[1-2000]" && seq -f n%g 2000',
    "getent": 'test "$*" = "ahostsv4 n1" && printf "127.0.1.1 STREAM n1\\n192.0.2.7 STREAM\\n192.0.2.7 DGRAM\\n"',
    "srun": 'printf "%s\\n" "$@" > "$SAID"; env >> "$SAID.env"; exit 3',
}


def read() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))


def options_of(words: list[str]) -> set[str]:
    """Return the options among the words of a command."""
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def is_an_audit_on_a_cluster(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail unless these are the words of an `audit run` whose options exist, on the cluster of its own node."""
    known: Any = typer.main.get_command(cli.app)
    assert words[:2] == ["audit", "run"]
    assert options_of(words) <= {name for option in known.commands["run"].params for name in option.opts}
    engine = words[words.index("--engine") + 1]
    monkeypatch.setattr(engines, "find_spec", lambda name: True)
    engines.known_engine(engine)
    assert engine == f"{engines.RAY}:{engines.AUTO}"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """Run the job with stand-ins for Slurm's commands; return what `srun` was given, and its environment."""
    home = tmp_path_factory.mktemp("slurm")
    for name, text in STANDINS.items():
        (home / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (home / name).chmod(0o755)
    given = {"SLURM_SUBMIT_DIR": str(home), "SLURM_JOB_NODELIST": "n[1-2000]", "SLURM_JOB_NUM_NODES": "2000"}
    given |= {"SLURM_CPUS_PER_TASK": "16", "SAID": str(home / "said")}
    given["PATH"] = os.pathsep.join([str(home), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", SLURM, "--teacher", "my model.pt"], env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (3, ""), "the exit code is that of the audit"
    said = (home / "said").read_text(encoding="utf-8").splitlines()
    lines = (home / "said.env").read_text(encoding="utf-8").splitlines()
    return said, dict(line.split("=", 1) for line in lines if "=" in line)


def test_the_job_is_bash() -> None:
    done = subprocess.run(["bash", "-n", SLURM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_job_starts_one_audit_on_a_cluster_of_its_nodes(
    started: tuple[list[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said, env = started
    words = said[said.index("ray") :]
    assert words[1] == "symmetric-run"
    assert words[words.index("--address") + 1] == "192.0.2.7:6379", "an address that other nodes reach"
    assert words[words.index("--min-nodes") + 1] == "2000"
    command = words[words.index("--") + 1 :]
    assert command[-2:] == ["--teacher", "my model.pt"]
    is_an_audit_on_a_cluster(command, monkeypatch)
    assert env["RAY_AUTH_MODE"] == "token"
    assert len(env["RAY_AUTH_TOKEN"]) == 64
    assert not any(env["RAY_AUTH_TOKEN"] in word for word in said), "all users of a node see command lines"


def test_ray_has_the_options_that_the_job_gives_it(started: tuple[list[str], dict[str, str]]) -> None:
    scripts = pytest.importorskip("ray.scripts.scripts")
    words = started[0]
    given = options_of(words[words.index("symmetric-run") : words.index("--")])
    known = {name for command in (scripts.symmetric_run, scripts.start) for o in command.params for name in o.opts}
    assert given <= known
    assert not given & REFUSED


def test_the_manifest_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    documents = read()
    assert [one["kind"] for one in documents] == ["RayJob", "NetworkPolicy"]
    for one in documents:
        jsonschema.validate(one, SCHEMA)


def places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """List the places of all fields whose names the schema knows."""
    if isinstance(part, list):
        for number, one in enumerate(part):
            yield from places(one, (*path, number))
    elif isinstance(part, dict) and (not path or path[-1] not in FREE):
        for name, one in part.items():
            yield (*path, name)
            yield from places(one, (*path, name))


@pytest.mark.parametrize("number", [0, 1])
def test_each_misspelt_field_is_refused(number: int) -> None:
    tried = list(places(read()[number]))
    assert len(tried) > 15
    for *path, name in tried:
        document = copy.deepcopy(read()[number])
        part: Any = document
        for step in path:
            part = part[step]
        part[f"{name}s"] = part.pop(name)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(
                document, SCHEMA["$defs"][("RayJob", "NetworkPolicy")[number]] | {"$defs": SCHEMA["$defs"]}
            )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rayVersion",), 2.6),
        (("authOptions", "mode"), "tokens"),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("workerGroupSpecs", 0, "replicas"), "4"),
        (("workerGroupSpecs", 0, "template", "spec", "containers", 0, "resources", "limits", "memory"), "16 GB"),
    ],
)
def test_a_value_of_another_kind_is_refused(path: tuple[Any, ...], value: object) -> None:
    job = copy.deepcopy(read()[0])
    part = job["spec"]["rayClusterSpec"]
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def test_the_manifest_runs_an_audit_where_no_attack_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    job, policy = read()
    is_an_audit_on_a_cluster(shlex.split(job["spec"]["entrypoint"]), monkeypatch)
    cluster = job["spec"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "volumes" not in workers["template"]["spec"], "the driver alone has the checkpoint and the cache"
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    for group in (head, workers):
        assert chosen <= group["template"]["metadata"]["labels"].items()
        assert group["template"]["spec"]["automountServiceAccountToken"] is False
