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
from audit.plan.cells import ENGINE
from audit.plan.suite import EARLIER, EFFORTS, Suite, named
from teachers import synthetic
from teachers.methods import VERSION

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "audit": {"audit", "attacks", "teachers", "reports"},
    "attacks": {"attacks", "teachers"},
    "teachers": {"teachers"},
    "reports": {"reports"},
}
ANYONES = {"teachers.files", "teachers.names", "teachers.units"}  # which anyone may import: files, names, numbers
# The packages and files of audit/ and of teachers/, from the ground up: each may import those before it alone.
ORDER = {
    "audit": (
        *("statistics", "plan", "analysis", "cache", "execution", "trials", "recording", "folder", "diagnosis"),
        *(
            "context",
            "forecast",
            "inspection",
            "pipeline",
            "surfaces",
            "attempt",
            "finished",
            "board",
            "limits",
            "warm",
            "teach",
            "policy",
            "selftest",
        ),
        *("selftest", "commands", "__main__", "cli"),
    ),
}
FLAT = 8  # files that lie in audit/ itself, at most


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = "." not in node.module and node.module in ROOMS
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if whole else {node.module}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_whom_they_may(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        tops = {name.split(".")[0] for name in imported(path) - ANYONES}
        assert tops & ROOMS.keys() <= ROOMS[room], path


def test_what_anyone_may_import_stands_on_nothing_of_ours() -> None:
    for module in ANYONES:
        path = ROOT / f"{module.replace('.', '/')}.py"
        ours = {n for n in imported(path) if n.split(".")[0] in {*ROOMS, "torch"}}
        assert ours <= {"teachers.errors", *ANYONES}, path


@pytest.mark.parametrize("house", ORDER)
def test_no_import_runs_back_up(house: str) -> None:
    order = ORDER[house]
    for path in (ROOT / house).rglob("*.py"):
        mine = path.relative_to(ROOT / house).with_suffix("").parts[0]
        if mine == "__init__":
            continue
        assert mine in order, f"{path}: give it a place in the order"
        for name in imported(path):
            top, _, rest = name.partition(".")
            part = rest.split(".")[0]
            if top == house and part in order and part != mine:
                assert order.index(part) < order.index(mine), f"{path} imports {name}"


def test_few_files_lie_in_no_package() -> None:
    """`__init__` and `__main__` can lie nowhere else."""
    assert len([path for path in (ROOT / "audit").glob("*.py") if not path.name.startswith("__")]) <= FLAT


FACE = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)  # what an `__init__` may hold, and a docstring


@pytest.mark.parametrize("room", ROOMS)
def test_an_init_is_a_face_and_no_room(room: str) -> None:
    """It says what a package is and names what it offers; the Python API is what the package `audit` offers."""
    for path in (ROOT / room).rglob("__init__.py"):
        docstring, *rest = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(docstring, ast.Expr), path
        assert path.parent == ROOT / "audit" or all(isinstance(line, FACE) for line in rest), path


@pytest.mark.slow
def test_tests_that_may_take_longest_begin(request: pytest.FixtureRequest) -> None:
    """No process is left with one of them at the end, while another has nothing to do."""
    markers = [item.get_closest_marker("timeout") for item in request.session.items]
    seconds = [marker.args[0] if marker else 0 for marker in markers]
    assert seconds == sorted(seconds, reverse=True)


def test_no_test_module_imports_another() -> None:
    """What tests share stands in modules beside them; fixtures of several files stand in conftest."""
    for path in (ROOT / "tests").rglob("*.py"):
        names = {name.split(".")[-1] for name in imported(path)}
        assert not {name for name in names if name.startswith("test_") or name == "conftest"}, path


PURE = (
    *("statistics/*.py", "analysis/*.py", "plan/*.py", "policy/*.py", "finished/side_by_side.py"),
    "../teachers/targets/selection.py",
)


def test_reports_and_statistics_know_no_torch() -> None:
    pure = [*(ROOT / "reports").rglob("*.py"), *(path for some in PURE for path in (ROOT / "audit").glob(some))]
    for path in pure:
        assert "torch" not in {name.split(".")[0] for name in imported(path)}, path


HEAVY = ("torch", "pandas", "scipy.stats")
RARE = ("torchvision", "timm", "sklearn", "torch._dynamo", "transformers", "pandas")


LIGHT = (
    *("audit.cli", "audit.statistics.verdict", "audit.finished.verify", "audit.plan.design", "audit.plan.count"),
    *("reports.outputs", "teachers.data.datasets", "teachers.kinds"),
)
WITH_TORCH = ("audit.pipeline",)


@pytest.mark.parametrize(("modules", "without"), [(LIGHT, HEAVY), (WITH_TORCH, RARE)], ids=["light", "with torch"])
def test_light_modules_import_nothing_heavy(modules: tuple[str, ...], without: tuple[str, ...]) -> None:
    """Modules are imported one after the other: what is printed first names the one that is to blame."""
    code = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
    heavy = [m for m in {without} if m in sys.modules]
    if heavy:
        print(module, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not done.stdout


def test_an_attacks_name_stands_in_its_own_file_and_in_suites_alone() -> None:
    for attack in registry.OURS:
        own = Path(sys.modules[attack.__module__].__file__ or "")
        for path in [p for room in ("attacks", "audit", "teachers", "reports") for p in (ROOT / room).rglob("*.py")]:
            if path != own and path.name != "suite.py":
                assert f'"{attack.name}"' not in path.read_text(encoding="utf-8"), (path, attack.name)


FROZEN = {
    "smoke-3": "4365248f9f8dbaa1",
    "standard-4": "de053f284d102514",
    "full-4": "c6e46b97ae031840",
    "bag-2": "f4cf484464107c93",
    "selftest-2": "2734bc3d5a5c1ba2",
    "smoke-1": "d945258d3cbf1877",
    "standard-2": "e5043aaacfc76977",
    "full-2": "bed077c65cc5939e",
    "bag-1": "692c3d0e39ddaeda",
    "selftest-1": "8dec3ba056abc076",
}


@pytest.mark.parametrize("suite", [*EFFORTS.values(), *EARLIER.values()], ids=lambda suite: suite.name)
def test_a_suite_is_frozen(suite: Suite) -> None:
    """A changed suite is another suite: give it a new number."""
    assert FROZEN[suite.name] == suite.digest[:16]
    assert named(suite.name) == suite
    assert set(suite.attacks) <= registry.attacks().keys()


def written(node: object) -> str:
    """Return what a syntax tree says, whatever its comments, docstrings and lines, and whatever Python's version."""
    if isinstance(node, list):
        return ",".join(map(written, node))
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = {name: value for name, value in ast.iter_fields(node) if value not in (None, []) and name != "type_comment"}
    body = parts.get("body")
    if isinstance(body, list) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        parts["body"] = body[1:]
    return f"{type(node).__name__}({','.join(f'{name}={written(value)}' for name, value in parts.items())})"


def digest(files: Iterable[Path]) -> str:
    """Return the digest of what files do: one that a comment or a docstring does not change."""
    total = hashlib.sha256()
    for file in files:
        total.update(written(ast.parse(file.read_text(encoding="utf-8"))).encode())
    return total.hexdigest()[:16]


VERSIONS = {
    "soft-kd": "1 be4dece07a47f790",
    "dkd": "1 c3c032e899b3dcd5",
    "lskd": "1 cad5f33855f53cf6",
    "nkd": "1 c3bb333c8c9ecbed",
    "dist": "1 5f2d281bf67d44e1",
    "mlkd": "2 bc3389bb357fd58c",
    "ctkd": "1 82ccb0cd7b09f759",
    "mse": "1 26ae45ee1a034060",
    "rld": "1 d16f287e462ad3df",
    "kendall": "1 389982f9b21bac09",
    "ttm": "1 f448254ea8450859",
    "ckd": "1 5871e52b5cb15512",
    "rolewise": "1 33c0ee8a110132ca",
    "function-matching": "1 04a616ae47f18c38",
    "avg": "1 e3db0c544ad39515",
    "htc": "1 0de2f8233ce8b0be",
    "adaptive": "2 7cc91c11b9d801d0",
    "inversion": "1 3708117669daa705",
    "mkd": "1 3da351a972dcf7e1",
    "reopt": "1 80aa6384947e60dc",
    "skeptical": "1 30b07b7fe2cc83ca",
    "view-ensemble": "1 45b244129685d0ac",
    "label-kd": "1 20426a83763ff223",
    "label-mixup": "1 3e796c11e3086dba",
    "copycat": "1 e4bc0d5018c4fd19",
    "activethief": "1 7b462bd519789f38",
    "jbda": "1 acf9179a193c1fb3",
    "knockoff": "2 7b60ed59230f2c69",
    "knockoff-adaptive": "1 274ba7eeec06d382",
    "noise": "1 7d372b2d1106ae4d",
    "dfme": "1 5190174c7b64661a",
    "maze": "1 3463a396e83ad9ec",
    "disguide": "1 02def76c2e5c3f0d",
    "dfms": "1 b19fae30b6be0070",
    "dfms-hl": "1 9c399ffc7c5338e6",
    "ideal": "1 9bb9b668a893526e",
    "zsdb3kd": "1 d0f8cba076a345da",
    "kdiga": "1 c05d467984c48980",
    "backward-kd": "1 4c9918705201ba2a",
    "backward-kd-zo": "1 3766aba01735aada",
    "megex": "1 7beb7b37e8c72b92",
    "ls": "1 abe2a4f79e8c5a3a",
    "ce": "1 17a892a3726279d2",
    "tf-kd": "1 a24ce7f0d391b4c0",
    "lw-kd": "1 248bf33179a4f02d",
    "self-kd": "1 84b83ae3a35e891e",
    "dist-ls": "1 5c1dd6a19172b1bf",
    "tempered-ce": "1 db5d695468e8b795",
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
    return digest(files[module] for module in sorted(files))


@pytest.mark.parametrize("name", [*(a.name for a in registry.OURS), *registry.CONTROLS])
def test_a_changed_technique_has_a_new_version(name: str) -> None:
    """Where this fails: if students come out differently, raise `version` in the technique; then pin the new digest."""
    technique = registry.find(name)
    assert VERSIONS[name] == f"{technique.version} {source(technique)}"


ENGINE_FILES = ("training", "views", "networks", "surface", "kinds", "task", "oracle")
METHOD_FILES = ("guards", "training", "views", "networks")


def test_a_changed_engine_has_a_new_number() -> None:
    """Where this fails: if students come out differently, raise ENGINE in its file; then pin the new digest."""
    rooms = [ROOT / "attacks" / "base.py", ROOT / "attacks" / "own_answers.py"]
    files = [*rooms, *(ROOT / "teachers" / f"{name}.py" for name in ENGINE_FILES)]
    assert f"{ENGINE} {digest(files)}" == "2 3f36c84dd4c6c999"


def test_a_changed_way_to_teach_has_a_new_number() -> None:
    """Where this fails: if teachers come out differently, raise VERSION in teachers/methods; then pin the digest."""
    files = [
        *(ROOT / "teachers" / f"{name}.py" for name in METHOD_FILES),
        *sorted((ROOT / "teachers/methods").glob("*.py")),
    ]
    assert f"{VERSION} {digest(files)}" == "2 ad82aeee4fd6f6af"


def test_a_changed_synthetic_teacher_has_a_new_number() -> None:
    """Where this fails: if answers come out differently, raise VERSION in the file, then pin the new digest."""
    files = [ROOT / "teachers" / f"{name}.py" for name in ("synthetic", "disguises")]
    assert f"{synthetic.VERSION} {digest(files)}" == "1 4cb5000bcfa39d76"


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
    data |= {"reports/frameworks.toml"}
    pages = ("report", "cmi", "clusters", "compare", "board", "macros")
    assert data | {f"reports/templates/{page}.html.j2" for page in pages} <= set(names)
