"""action.yml and the example workflows do what they say: their shell is run as written."""

import re
import shutil
import time
from pathlib import Path

import pytest
import yaml
from counted import trained
from workflow_runner import KNOWN, OURS, ROOT, SHORT, Context, Parsed, Runner, load, resolved, value

from audit import teach
from audit.plan.suite import EFFORTS
from audit.policy import file
from reports.record import load as load_record

GITHUB, GITLAB, ACTION = "examples/github/release-gate.yml", "examples/gitlab/.gitlab-ci.yml", "action.yml"
SMOKE = 'version = 1\ninconclusive = "{inconclusive}"\nsurfaces = ["probs"]\n[suite]\nname = "{suite}"\n'
OUT = "audit-out/release"
MINUTES = 2


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> list[Path]:
    """Return two releases of a model of the embedded task, taught shortly."""
    folder = tmp_path_factory.mktemp("releases")
    for seed in (1, 2):
        teach.teach("plain", folder / f"v{seed}.pt", data="digits", seed=seed, steps=100, cache=kept)
    return [folder / "v1.pt", folder / "v2.pt"]


def machine(home: Path, kept: Path, release: Path, inconclusive: str = "warn") -> Runner:
    """Return a fresh machine that has checked out a release with a policy for smoke audits."""
    runner = Runner(home, kept)
    shutil.copy(release, runner.workspace / "model.pt")
    (runner.workspace / "policy.toml").write_text(SMOKE.format(inconclusive=inconclusive, suite=SHORT))
    return runner


def asked(runner: Runner) -> set[str | None]:
    """Return which teachers the students asked that the audit of a machine trained itself."""
    folder = runner.workspace / OUT
    return {teacher for _, teacher in trained(folder, load_record(folder))}


def on_github(runner: Runner, run: int) -> Context:
    """Run the jobs of the workflow one after the other, as if started by hand; return their outputs."""
    workflow = load(GITHUB)
    context = {"inputs.teacher": "model.pt", "inputs.effort": "smoke", "runner.os": "Linux"}
    context |= {"github.run_id": str(run), "github.run_attempt": "1", "cancelled()": ""}
    told: Context = {}
    for name, job in workflow["jobs"].items():
        if "if" in job and not value(job["if"].removeprefix("${{").removesuffix("}}"), context):
            continue
        inside = runner.job(job["steps"], dict(context))
        told |= {f"needs.{name}.outputs.{n}": resolved(text, inside) for n, text in job.get("outputs", {}).items()}
        context |= told
    return told


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_second_release_on_github_trains_no_control_and_a_stricter_policy_stops_it(
    releases: list[Path], tmp_path: Path
) -> None:
    began = time.monotonic()
    first, second = (machine(tmp_path / name, tmp_path / "kept", r) for name, r in zip("ab", releases, strict=True))
    for number, runner in enumerate((first, second)):
        told = on_github(runner, number)
        assert told == {"needs.audit.outputs.verdict": "INCONCLUSIVE", "needs.audit.outputs.passes": "true"}
        assert runner.code == 0
        assert asked(runner) == {"audited"}
        assert {"Audit", "Gate", "Export control students", "Split the statement"} < set(runner.ran)
        assert "INCONCLUSIVE" in (runner.home / "GITHUB_STEP_SUMMARY").read_text()
    print(f"two releases took {time.monotonic() - began:.0f} s")
    assert (tmp_path / "kept" / "artifact-distill-audit" / "report.html").is_file()
    (second.workspace / "policy.toml").write_text(SMOKE.format(inconclusive="fail", suite=SHORT))
    before = len(list((tmp_path / "kept").glob("cache-*")))
    told = on_github(second, 2)
    assert (second.code, told["needs.audit.outputs.passes"]) == (1, "false")
    assert len(list((tmp_path / "kept").glob("cache-*"))) == before + 1, "what was trained is kept all the same"


def on_gitlab(runner: Runner) -> int:
    """Run the job's script as a runner does, all of it in one shell; the image and the package are there already."""
    job = load(GITLAB)["release-gate"]
    env = {**job["variables"], "EFFORT": "smoke", "CI_PROJECT_DIR": str(runner.workspace)}
    env["DISTILL_AUDIT_CACHE"] = env["DISTILL_AUDIT_CACHE"].replace("$CI_PROJECT_DIR", str(runner.workspace))
    (kept,) = job["cache"]["paths"]
    if (runner.kept / "cache").exists():
        (runner.workspace / kept).parent.mkdir(parents=True)
        shutil.copy(runner.kept / "cache", runner.workspace / kept)
    code = runner.shell("\n".join(job["script"]), env)
    shutil.copy(runner.workspace / kept, runner.kept / "cache")
    return code


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_second_release_on_gitlab_trains_no_control(releases: list[Path], tmp_path: Path) -> None:
    for name, release in zip("ab", releases, strict=True):
        runner = machine(tmp_path / name, tmp_path / "kept", release)
        assert on_gitlab(runner) == 0
        assert asked(runner) == {"audited"}
        artifacts = load(GITLAB)["release-gate"]["artifacts"]
        for path in (*artifacts["paths"], artifacts["reports"]["junit"], f"{OUT}/attestation.json"):
            assert (runner.workspace / path).exists()


@pytest.mark.parametrize("path", [f"{OUT}/record.json", ".distill-audit/controls.tar.gz"])
def test_results_that_come_with_the_commit_are_refused(
    path: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = Runner(tmp_path / "home", tmp_path / "kept")
    forged = runner.workspace / path
    forged.parent.mkdir(parents=True)
    forged.write_text("{}")
    first = load(ACTION)["runs"]["steps"][0]
    env = {"OUT": OUT}
    assert runner.shell("git init --quiet", {}) == 0
    assert runner.shell(first["run"], env) == 0, "a file that an earlier job left is none of the commit's"
    assert runner.shell("git add --all", {}) == 0
    assert runner.action({"teacher": "model.pt"}, {"runner.os": "Linux"})[1] == 2
    assert runner.ran == [first["name"]]
    assert runner.shell("\n".join(load(GITLAB)["release-gate"]["script"]), env) == 2
    assert capfd.readouterr().out.count(f"{path} is committed; remove it") == 2


def steps(path: str) -> list[Parsed]:
    parsed = load(path)
    if path == ACTION:
        return list(parsed["runs"]["steps"])
    return [step for job in parsed["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", [ACTION, GITHUB])
def test_every_action_is_known_and_pinned_and_no_value_becomes_code(path: str) -> None:
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert step["uses"] in KNOWN
            assert re.fullmatch(r"[\w./-]+@v\d+", step["uses"])
        else:
            assert step["shell"] == "bash"
            assert "${{" not in step["run"]


def test_jobs_have_the_least_rights() -> None:
    workflow = load(GITHUB)
    assert workflow["permissions"] == {}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert rights == {"audit": {"contents": "read"}, "attest": {"id-token": "write", "attestations": "write"}}
    signing = workflow["jobs"]["attest"]["steps"]
    assert not any(step.get("uses") == OURS for step in signing), "who opens the checkpoint may not sign"


def test_an_action_takes_what_the_workflow_gives_and_gives_what_it_takes() -> None:
    workflow, action = load(GITHUB), load(ACTION)
    (step,) = (s for s in workflow["jobs"]["audit"]["steps"] if s.get("uses") == OURS)
    assert step["with"].keys() <= action["inputs"].keys()
    told = re.findall(r"steps\.audit\.outputs\.(\w+)", yaml.dump(workflow["jobs"]["audit"]["outputs"]))
    assert set(told) <= action["outputs"].keys()
    named = {name for one in action["runs"]["steps"] for name in re.findall(r"inputs\.([\w-]+)", yaml.dump(one))}
    assert named == action["inputs"].keys(), "every input is used, and none is made up"


def test_the_example_policy_asks_for_what_the_workflows_audit() -> None:
    asked = file.read(ROOT / "examples/policy.toml").policy
    assert asked.suite is not None
    assert asked.suite.name == EFFORTS[load(GITLAB)["release-gate"]["variables"]["EFFORT"]].name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("inputs.a || 'b'", "b"),
        ("!cancelled() && inputs.a == ''", "true"),
        ("always() && steps.x.outcome == 'success'", ""),
        ("inputs.full != '' && inputs.full", "yes"),
    ],
)
def test_expressions_are_evaluated_as_github_does(text: str, found: str) -> None:
    assert value(text, {"cancelled()": "", "always()": "true", "inputs.full": "yes"}) == found


def test_an_expression_of_an_unknown_context_is_an_error() -> None:
    with pytest.raises(KeyError):
        value("secrets.TOKEN", {})


def test_a_failing_step_skips_the_next_and_not_those_that_always_run(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "home", tmp_path / "kept")
    shell = {"shell": "bash"}
    found = runner.job(
        [
            {"name": "one", "id": "one", "run": 'echo "a=$B c" >> "$GITHUB_OUTPUT"; false', "env": {"B": "b"}, **shell},
            {"name": "two", "run": "true", **shell},
            {"name": "three", "if": "${{ !cancelled() && steps.one.outputs.a != '' }}", "run": "true", **shell},
        ],
        {},
    )
    assert (runner.ran, runner.code, found["steps.one.outputs.a"]) == (["one", "three"], 1, "b c")
