"""Students of a cluster are those of this machine, whatever happens to its nodes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audits import request, timeless
from command_line import call, command
from fake_server import FakeServer
from hostile_distribution import FAILS, installed

from audit import context, pipeline
from audit.execution.cards import Share
from audit.execution.cluster import connection, executor, folders, parcels
from audit.execution.cluster.connection import NICE, Cluster
from audit.execution.cluster.executor import ClusterExecutor
from audit.execution.cluster.letters import Letter
from audit.execution.cluster.node import Node
from audit.execution.cluster.parcels import Parcels, unpacked
from audit.execution.cluster.slot import Slot
from audit.plan.cells import Failure, Result
from audit.plan.engines import address_of, known_engine
from audit.teach import teach
from reports.record import Record, load
from teachers.data.stored import StoredImages
from teachers.errors import RefusedInput, UsageError
from teachers.processes import trees
from teachers.storage.store import Store
from teachers.task import Augment, Pool

REMOVALS = int(os.environ.get("CLUSTER_REMOVALS", 3))  # nodes that are killed, one after the other
GIB = 2**30
HAS_RAY = find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed (extra ray)")
pytestmark = pytest.mark.usefixtures("tiny")


def without_engine(record: Record) -> dict[str, Any]:
    """Return a record without times and without where its students were trained."""
    plain = timeless(record) | {"command": ""}
    plain["environment"] = {key: value for key, value in plain["environment"].items() if key != "engine"}  # type: ignore[attr-defined]
    return plain


@pytest.mark.parametrize("engine", ["slurm", "ray:", "ray:host", "ray:host:port", "ray:ray://host:10001", ""])
def test_what_is_no_engine_is_refused_with_those_that_are(engine: str) -> None:
    with pytest.raises(UsageError, match=r"there are local, ray \(a cluster on this machine\) and ray:HOST:PORT"):
        known_engine(engine)


def test_an_engine_needs_ray_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.plan.engines.find_spec", lambda name: None)
    known_engine("local")
    with pytest.raises(UsageError, match=r"--engine ray:h:1 needs Ray: pip install .*\[ray\]'"):
        known_engine("ray:h:1")


def test_an_engine_names_the_cluster_to_join() -> None:
    assert [address_of(e) for e in ("ray", "ray:auto", "ray:10.0.0.1:6379")] == [None, "auto", "10.0.0.1:6379"]


@pytest.mark.parametrize("large", [False, True])
def test_images_arrive_as_they_were_sent(large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "LARGE", 0 if large else 2**30)
    monkeypatch.setattr(parcels, "PART", 3 * 2 * 2 * 4)  # four images an object
    rng = np.random.default_rng(0)
    pool = Pool(rng.integers(0, 256, (10, 3, 2, 2), np.uint8), rng.integers(0, 5, 10), Augment(1, True))
    objects: list[np.ndarray] = []
    parcel = Parcels(lambda part: objects.append(part) or len(objects) - 1).of(pool)
    assert [len(part) for part in objects] == [4, 4, 2, 10], "three parts of images, and the labels"
    there = unpacked(parcel, objects.__getitem__, tmp_path / "node")
    assert there.digest == pool.digest
    assert isinstance(there.images, StoredImages) == large
    objects[1] = 255 - objects[1]
    with pytest.raises(RefusedInput, match="10 images arrived changed"):
        unpacked(parcel, objects.__getitem__, tmp_path / "other")


def test_a_node_keeps_nothing_of_audits_that_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path))
    ended, running = folders.entered("ended"), folders.entered("running")
    held = Store(running)
    for folder in (ended, running):
        os.utime(folder, (0, 0))
    new = folders.entered("new")
    assert not ended.exists()
    assert running.exists(), "a slot works there"
    assert new.parent.stat().st_mode & 0o077 == 0
    del held
    os.utime(running, (0, 0))
    folders.entered("new")
    assert not running.exists()


@pytest.mark.parametrize("length", [1, 10, 60])
def test_rays_sockets_have_names_that_the_system_allows(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="t" * length, dir="/tmp") as temporary:
        monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: temporary)
        one, other = connection._private(), connection._private()
        socket = connection.SOCKET.format(process=os.getpid())
        for folder in (one, other):
            assert len(str(folder / socket)) <= connection.LONGEST
            assert folder.parent.stat().st_mode & 0o077 == 0
            shutil.rmtree(folder)
        assert one != other
        there = Path(temporary) / one.parent.name / one.name / socket  # how long it is depends on user and process
        assert one.is_relative_to(temporary) == (len(str(there)) <= connection.LONGEST)
        assert length < 60 or not one.is_relative_to(temporary)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path))
    base = tmp_path / f"distill-audit-slots-{os.getuid()}"
    base.mkdir(mode=0o777)
    base.chmod(0o777)
    with pytest.raises(RefusedInput, match="is not a folder of this user alone; remove it"):
        folders.entered("run")


def test_a_local_audit_imports_no_ray() -> None:
    code = "import sys, audit.pipeline, audit.forecast.forecast; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


LOOPBACK, MAPPED = "0100007F", "0000000000000000FFFF00000100007F"  # 127.0.0.1 as Linux writes it, and in IPv6


def listening() -> list[str]:
    """Return the addresses on which the processes listen that this one started, and those that they did."""
    sockets = set()
    for process in trees.descendants(os.getpid()):
        for handle in Path(f"/proc/{process}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(os.readlink(handle))
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


@needs_ray
@pytest.mark.slow
class TestRay:
    """With a cluster on this machine."""

    @pytest.mark.parametrize("asked", [{}, {"isolate": True}, {"teacher": "stateful"}], ids=str)
    def test_its_students_are_those_of_local_processes(
        self, asked: dict[str, Any], cold: Callable[[str], Path], tmp_path: Path
    ) -> None:
        here = pipeline.run(request(cold("here"), tmp_path / "here", **asked)).record
        there = pipeline.run(request(cold("there"), tmp_path / "there", engine="ray", jobs=3, **asked)).record
        assert without_engine(there) == without_engine(here)
        engine = there.environment.engine
        assert engine is not None
        assert (engine.name, sum(node.students for node in engine.nodes)) == ("ray", there.times.trained)
        assert here.environment.engine is None
        assert there.times.trained == here.times.trained > 0
        node = engine.nodes[0].name
        assert (tmp_path / "there/journal.jsonl").read_text().count(f'"node": "{node}"') == there.times.trained

    def test_the_students_of_a_file_ask_copies_of_it(
        self, kept: Path, cold: Callable[[str], Path], tmp_path: Path
    ) -> None:
        teacher = tmp_path / "model.pt"
        teach("plain", teacher, data="digits", steps=60, cache=kept)
        asked = {"teacher": str(teacher), "data": None, "attacks": "soft-kd,knockoff"}
        here = pipeline.run(request(cold("here"), tmp_path / "here", **asked)).record
        there = pipeline.run(request(cold("there"), tmp_path / "there", engine="ray", jobs=2, **asked)).record
        assert without_engine(there) == without_engine(here)

    def test_a_paid_teacher_is_asked_once(
        self, server: FakeServer, cold: Callable[[str], Path], tmp_path: Path
    ) -> None:
        asked = {"teacher": server.url, "attacks": "soft-kd,knockoff"}
        record = pipeline.run(request(cold("there"), tmp_path / "there", engine="ray", jobs=3, **asked)).record
        assert record.distinct_answers == server.images > 0

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_it_listens_on_this_machine_alone_and_leaves_no_secret(self) -> None:
        with closing(Cluster("ray", 1, "cpu")):
            opened = listening()
            assert not [name for name in os.environ if "AUTH" in name]
        assert len(opened) >= 3
        assert set(opened) <= {LOOPBACK, MAPPED}

    def test_what_it_cannot_give_is_refused_at_once(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        line = ["run", "--teacher", "demo", "--data", "digits", "--effort", "smoke", "--attacks", "soft-kd", "--cache"]
        monkeypatch.setattr("ray._private.services.find_gcs_addresses", cache(set))  # other tests may have a cluster
        for engine, latest, said in (
            ("ray:127.0.0.1:9", None, "nothing answers at 127.0.0.1:9"),
            ("ray:auto", None, "this machine cannot join the cluster"),
            ("ray:auto", "127.0.0.1:9", "--engine ray:auto: nothing answers at 127.0.0.1:9"),
        ):
            monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder, latest=latest: latest)
            code, _, err = call(capsys, *line, str(tmp_path / "cache"), "--engine", engine)
            assert code == 2, err
            assert said in err


@needs_ray
@pytest.mark.slow
def test_students_of_a_cluster_share_its_cards(
    cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a card that is not there: a student says that it takes 2 GiB of 20, and finds none beside five others."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    class CardSlot(Slot):
        def __init__(self, run: str, timeout: float | None, card: bool = False) -> None:
            super().__init__(run, timeout)
            self._share = Share(taken=2 * GIB)

        def greet(self) -> str:
            return Node.here().model_copy(update={"card": 20 * GIB}).model_dump_json()

        def _told(self, outcome: Result | Failure) -> Letter:
            if ray.get_runtime_context().get_assigned_resources()["GPU"] > 0.3:
                return super()._told(outcome)
            return Letter("crowded", Failure(cell=outcome.cell, sentence="no memory").model_dump_json())

    monkeypatch.setenv(NICE, "0")
    here = pipeline.run(request(cold("here"), tmp_path / "here")).record
    told: list[str] = []
    Cluster("ray", 1, "cpu").close()  # its token is not that of the next cluster
    has = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=has)
    try:
        cluster = Cluster(f"ray:{nodes.address}", None, "cuda")
        crew = ClusterExecutor(cluster, None, None, told.append, slot=CardSlot)
        monkeypatch.setattr(context, "executor", lambda *_, **__: crew)
        there = pipeline.run(request(cold("there"), tmp_path / "there")).record
    finally:
        nodes.shutdown()
    assert without_engine(there) == without_engine(here)
    assert [line for line in told if line.startswith("the card")] == [
        "the card trains 6 students at once: one took 2.0 GiB of it",
        "the card is out of memory: 3 students at once from now on",
    ]


@needs_ray
@pytest.mark.slow
def test_slots_that_die_at_once_end_the_audit_with_a_sentence(
    cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DyingSlot(Slot):
        def greet(self) -> str:
            os._exit(1)

    monkeypatch.setattr(executor, "LOOK", 0.1)
    crew = ClusterExecutor(Cluster("ray", 2, "cpu"), None, None, print, slot=DyingSlot)
    monkeypatch.setattr(context, "executor", lambda *_, **__: crew)
    with pytest.raises(UsageError, match=r"a node of the cluster cannot train students: .*died"):
        pipeline.run(request(cold("cache"), tmp_path / "out"))


@pytest.fixture
def markers(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the hostile attacks where the processes of a cluster find them."""
    place = installed(tmp_path_factory.mktemp("hostile"))
    folder = tmp_path / "markers"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("HOSTILE_MARKERS", str(folder))
    return folder


@needs_ray
@pytest.mark.slow
def test_plugins_that_try_to_step_out_of_a_slot_fail_by_name(kept: Path, tmp_path: Path, markers: Path) -> None:
    teacher = tmp_path / "model.pt"
    teach("plain", teacher, data="digits", steps=60, cache=kept)
    asked = request(kept, tmp_path / "out", str(teacher), None, attacks=",".join(["soft-kd", *FAILS]), engine="ray")
    record = pipeline.run(asked).record
    assert not list(markers.iterdir())
    reasons = {row.attack: row.reason for row in record.comparisons if row.status == "failed"}
    assert {name: FAILS[name] in reasons.get(name, "") for name in FAILS} == dict.fromkeys(FAILS, True), reasons
    assert "hostile_plugin" not in sys.modules


def processes_of(mark: str) -> list[str]:
    """Return the command lines of the processes that inherited a variable of the environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in entry.read_bytes():
                found.append(entry.with_name("cmdline").read_bytes().decode().replace("\0", " "))
        except OSError:
            continue
    return found


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_an_ended_audit_leaves_no_process_and_goes_on(
    sign: signal.Signals, cold: Callable[[str], Path], tmp_path: Path
) -> None:
    cache, out = cold("cache"), tmp_path / "out"
    argv = command(cache, out, "--attacks", "soft-kd", "--engine", "ray")
    mark = f"CLUSTER_MARK={tmp_path.name}{time.time_ns()}"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores Ctrl-C
    run = subprocess.Popen(argv, env=os.environ | dict([mark.split("=")]))
    until = time.monotonic() + 300
    while len(list(cache.rglob("cells/*/*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.2)
    run.send_signal(sign)
    run.wait(60)
    kept = len(list(cache.rglob("cells/*/*.json")))
    assert kept >= 3
    while processes_of(mark) and time.monotonic() < until:
        time.sleep(0.2)
    assert not processes_of(mark)
    assert subprocess.run(argv).returncode in (0, 1, 3)
    assert load(out).times.reused >= kept - 1


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_nodes_that_die_lose_only_students_in_training(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes are killed at random moments, each followed by a new one; audits begin until there were enough."""
    from ray.cluster_utils import Cluster as Nodes

    monkeypatch.setenv(NICE, "0")
    argv = ("--teacher", server.url, "--attacks", "soft-kd")
    assert subprocess.run(command(cold("calm"), tmp_path / "calm/out", *argv)).returncode in (0, 1, 3)
    calm = load(tmp_path / "calm/out")
    chance, removed, number = random.Random(0), 0, 0
    cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        while removed < REMOVALS:
            home, images = tmp_path / f"{number}", server.images
            line = command(cold(f"cache{number}"), home, *argv, "--engine", f"ray:{cluster.address}")
            with (tmp_path / "told").open("w") as told:
                run = subprocess.Popen(line, stderr=told)
            until = time.monotonic() + chance.uniform(5, 15)
            while run.poll() is None:
                if removed < REMOVALS and time.monotonic() > until:
                    cluster.remove_node(nodes.pop(chance.randrange(len(nodes))), allow_graceful=False)
                    nodes.append(cluster.add_node(num_cpus=1))
                    removed, until = removed + 1, time.monotonic() + chance.uniform(3, 20)
                time.sleep(0.2)
            assert run.returncode in (0, 1, 3)
            assert "raylet" not in (tmp_path / "told").read_text(), "Ray's own lines"
            found = load(home)
            assert without_engine(found) == without_engine(calm)
            assert found.times.trained == calm.times.trained
            assert server.images - images == found.distinct_answers, "an image was paid twice"
            assert found.environment.engine is not None
            number += 1
    finally:
        cluster.shutdown()
    print(f"{removed} nodes were lost in {number} audits")
