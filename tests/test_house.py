"""The house: who may import whom, what is frozen, what is shipped."""

import ast
import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest

from attacks import registry
from audit.execution.cells import ENGINE
from audit.suite import EFFORTS
from teachers import synthetic
from teachers.methods import VERSION

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "audit": {"audit", "attacks", "teachers", "reports"},
    "attacks": {"attacks", "teachers"},
    "teachers": {"teachers"},
    "reports": {"reports"},
}


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_whom_they_may(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert imported(path) & ROOMS.keys() <= ROOMS[room], path


PURE = (
    *("statistics/*.py", "checks/[!p]*.py", "gate/*.py", "derive.py", "finished/side_by_side.py"),
    "inspecting/choosing.py",  # the probes ask a teacher
)


def test_reports_and_statistics_know_no_torch() -> None:
    pure = [*(ROOT / "reports").rglob("*.py"), *(path for some in PURE for path in (ROOT / "audit").glob(some))]
    for path in pure:
        assert "torch" not in imported(path), path


HEAVY = ("torch", "pandas", "scipy.stats")
RARE = ("torchvision", "timm", "sklearn", "torch._dynamo", "transformers", "pandas")


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("audit.cli", HEAVY),
        ("reports.outputs", HEAVY),
        ("audit.statistics.verdict", HEAVY),
        ("audit.finished.verify", HEAVY),
        ("teachers.datasets", HEAVY),
        ("teachers.kinds", HEAVY),
        ("audit.run", RARE),
    ],
)
def test_light_modules_import_nothing_heavy(module: str, without: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {without} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_an_attacks_name_stands_in_its_own_file_and_in_suites_alone() -> None:
    for attack in registry.OURS:
        own = Path(sys.modules[attack.__module__].__file__ or "")
        for path in [p for room in ("attacks", "audit", "teachers", "reports") for p in (ROOT / room).rglob("*.py")]:
            if path != own and path.name != "suite.py":
                assert f'"{attack.name}"' not in path.read_text(encoding="utf-8"), (path, attack.name)


FROZEN = {
    "smoke-1": "d945258d3cbf1877",
    "standard-2": "e5043aaacfc76977",
    "full-2": "bed077c65cc5939e",
    "bag-1": "692c3d0e39ddaeda",
    "selftest-1": "8dec3ba056abc076",
}


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_suite_is_frozen(effort: str) -> None:
    """A changed suite is another suite: give it a new number."""
    suite = EFFORTS[effort]
    assert FROZEN[suite.name] == suite.digest[:16]
    assert set(suite.attacks) <= registry.attacks().keys()


VERSIONS = {
    "soft-kd": "1 bfe82e5600751f05",
    "dkd": "1 4fafd7565c437240",
    "lskd": "1 91c35d6173520b99",
    "nkd": "1 fea7c564c1d1b14e",
    "dist": "1 a4b9d4a9f5863e95",
    "mlkd": "2 9deb95e97a4896e0",
    "ctkd": "1 b7cfce4d46495ef0",
    "mse": "1 ed95b0561855d434",
    "ttm": "1 155e98095a917a6c",
    "ckd": "1 3ef4338fe5052275",
    "rolewise": "1 0c6d1274d98160be",
    "function-matching": "1 aa721c353acaf408",
    "avg": "1 5d03ef3133e95ab0",
    "htc": "1 657d77c79fe4504d",
    "inversion": "1 b08498db9db99ff0",
    "mkd": "1 bc052b589e4eec63",
    "reopt": "1 6015cf5ceb8e7d4e",
    "skeptical": "1 350d6d72d7e8256b",
    "view-ensemble": "1 0fc769f6e345012d",
    "label-kd": "1 0a076e158ed08528",
    "label-mixup": "1 8e08f448772ead48",
    "copycat": "1 98b3ecca76429665",
    "activethief": "1 8da4e9766329d7af",
    "jbda": "1 d10a6df920217945",
    "knockoff": "2 252abe0ea51a8ae5",
    "knockoff-adaptive": "1 98a08b3b2a4951f1",
    "noise": "1 b7343d35e03355dc",
    "dfme": "1 dcc178682ea93c05",
    "maze": "1 cf51b6660b407de8",
    "disguide": "1 31530c6c975f8802",
    "dfms": "1 b0197249f1fd520d",
    "dfms-hl": "1 ac8033bed9e42d4f",
    "ideal": "1 4cc8484e6dc074e4",
    "zsdb3kd": "1 eba253e7968061bc",
    "kdiga": "1 84206690474c9465",
    "backward-kd": "1 0dd11aec6b541165",
    "backward-kd-zo": "1 03f5e4c0f49531de",
    "megex": "1 fd1ae3ad1ffcb4b5",
    "ls": "1 a889df008aabebdc",
    "ce": "1 9e0939ba6937cd27",
    "tf-kd": "1 285623ba89338d28",
    "lw-kd": "1 218c3bb84cf69e92",
    "self-kd": "1 517d554fc2273762",
    "dist-ls": "1 5b7acfc7400da062",
}


SHARED = {"attacks", "attacks.base", "attacks.registry"}  # the base is part of the engine


def source(technique: type) -> str:
    """Return the digest of a technique's own file and of all in the attacks' room that it imports, however far."""
    todo, files = [technique.__module__], {}
    while todo:
        module = todo.pop()
        if module in files or module in SHARED:
            continue
        files[module] = Path(sys.modules[module].__file__ or "")
        for node in ast.walk(ast.parse(files[module].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("attacks."):
                todo.append(str(node.module))
    digest = hashlib.sha256()
    for module in sorted(files):
        digest.update(files[module].read_bytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("name", [*(a.name for a in registry.OURS), *registry.CONTROLS])
def test_a_changed_technique_has_a_new_version(name: str) -> None:
    """Where this fails: if students come out differently, raise `version` in the technique; then pin the new digest."""
    technique = registry.find(name)
    assert VERSIONS[name] == f"{technique.version} {source(technique)}"


ENGINE_FILES = ("training", "views", "networks", "surface", "kinds", "task", "oracle")
METHOD_FILES = ("guards", "training", "views", "networks")


def digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()[:16]


def test_a_changed_engine_has_a_new_number() -> None:
    """Where this fails: if students come out differently, raise ENGINE in its file; then pin the new digest."""
    files = [ROOT / "attacks" / "base.py", *(ROOT / "teachers" / f"{name}.py" for name in ENGINE_FILES)]
    assert f"{ENGINE} {digest(files)}" == "2 561018188dcc16d2"


def test_a_changed_way_to_teach_has_a_new_number() -> None:
    """Where this fails: if teachers come out differently, raise VERSION in teachers/methods; then pin the digest."""
    files = [
        *(ROOT / "teachers" / f"{name}.py" for name in METHOD_FILES),
        *sorted((ROOT / "teachers/methods").glob("*.py")),
    ]
    assert f"{VERSION} {digest(files)}" == "2 d73c4924c956ff74"


def test_a_changed_synthetic_teacher_has_a_new_number() -> None:
    """Where this fails: if answers come out differently, raise VERSION in the file, then pin the new digest."""
    assert f"{synthetic.VERSION} {digest([ROOT / 'teachers' / 'synthetic.py'])}" == "1 5addfea8147f21d4"


def test_every_attack_has_a_file_named_after_it() -> None:
    for attack in registry.OURS:
        family, _, file = attack.__module__.removeprefix("attacks.").partition(".")
        assert file == attack.name.replace("-", "_")
        assert family in {f.__name__.removeprefix("attacks.") for f in registry.FAMILIES}
        assert all(f.kw_only for f in fields(attack))


def test_the_wheel_holds_the_four_packages_and_their_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names if not re.match(r"distill_audit-.*\.dist-info/", n)}
    assert tops == ROOMS.keys()
    data = {"teachers/data/glyphs.npz", "teachers/intake/architectures.json.gz", "audit/py.typed"}
    pages = ("report", "cmi", "clusters", "compare", "macros")
    assert data | {f"reports/templates/{page}.html.j2" for page in pages} <= set(names)
