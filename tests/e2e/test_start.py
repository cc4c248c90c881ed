"""The programs that travel with a bundle, on a machine that has nothing of ours: a folder and an empty home."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import pytest

from crown_exp.compute import environment as program
from crown_exp.compute import start
from crown_exp.compute.bundle import PROGRAMS, Bundle, make_bundle
from crown_exp.compute.wheel import Wheel
from crown_exp.folder.paths import environment_path
from crown_exp.storage import Portal, open_blobs
from tests.running import Lab, Project, ends
from tests.s3.buckets import Bucket

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
NOWHERE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nowhere"}
"""With these nothing can be installed."""

TASKS = """
import json
import os
import sys
from pathlib import Path

import crown_exp


def train(run, gain: float = 1.0):
    here = {"crown_exp": crown_exp.__file__, "prefix": sys.prefix, "cwd": os.getcwd(), "tiny": None,
            "since": os.environ["CROWN_MACHINE_SINCE"], "path": os.environ["PATH"],
            "links": [name for name in os.environ if "CROWN_ENVIRONMENT_" in name]}
    try:
        import tiny
        here["tiny"] = tiny.__file__
    except ImportError:
        pass
    Path(os.environ["SEEN"]).write_text(json.dumps(here))
    return {"gain": gain * 2}
"""


def tiny_wheel(folder: Path, name: str, requires: str = "") -> None:
    info = f"{name}-1.0.dist-info"
    asks = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}/__init__.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{asks}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = os:getcwd\n",
    }
    wheel = Wheel(
        f"{name}-1.0-py3-none-any.whl", {key: text.encode() for key, text in files.items()}
    )
    (folder / wheel.name).write_bytes(wheel.pack())


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What there is to install: tiny, which needs tinier; and other, which nobody asks for."""
    folder = tmp_path_factory.mktemp("index")
    tiny_wheel(folder, "tiny", "tinier")
    for name in ("tinier", "other"):
        tiny_wheel(folder, name)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.write(tmp_path_factory.mktemp("here") / "project", TASKS)


@pytest.fixture(scope="module")
def bundle(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles")
    return make_bundle(project.root, folder, exclude=[], secrets={}, environment="image")


LOCK = f"# python {MINOR}\ntiny==1.0\n# constraints\nother==1.0\ntinier==1.0\n"


class Node:
    """A machine: a working directory that holds a bundle, an empty home, and a place for environments."""

    def __init__(
        self, root: Path, bundle: Bundle, index: Path, lock: str | None = LOCK, minor: str = MINOR
    ) -> None:
        root.mkdir()
        self.root, self.work = root, root / "work"
        shutil.copytree(bundle.folder, self.work)
        facts = json.loads((self.work / "bundle.json").read_text())
        if lock is not None:
            (self.work / "lock.txt").write_text(lock)
            facts["files"]["lock.txt"] = facts["environment"] = hashlib.sha256(
                lock.encode()
            ).hexdigest()
            facts["python"] = minor
            (self.work / "bundle.json").write_text(json.dumps(facts))
        self.key = str(facts["environment"])
        (root / "home").mkdir()
        self.env = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": str(root / "home"),
            "CROWN_ENVIRONMENTS": str(root / "environments"),
            "SEEN": str(root / "seen.json"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(index),
            "PIP_CONFIG_FILE": os.devnull,
        }

    @property
    def environment(self) -> Path:
        return self.root / "environments" / self.key

    def start(
        self, *arguments: str, env: Mapping[str, str] = {}, python: str = sys.executable
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, "start.py", *arguments],
            cwd=self.work,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def done(
        self,
        *arguments: str,
        code: int = 0,
        env: Mapping[str, str] = {},
        python: str = sys.executable,
    ) -> str:
        """What it said."""
        child = self.start(*arguments, env=env, python=python)
        said, _ = child.communicate(timeout=200)
        assert child.returncode == code, said
        return said

    def packages(self) -> set[str]:
        site = self.environment / f"venv/lib/python{MINOR}/site-packages"
        return {path.name.partition("-")[0] for path in site.glob("*.dist-info")} - {
            "pip",
            "setuptools",
        }


@pytest.fixture
def node(tmp_path: Path, bundle: Bundle, index: Path) -> Node:
    return Node(tmp_path / "node", bundle, index)


def test_an_old_python_can_read_them() -> None:
    """And nothing is imported but what comes with Python."""
    for name in PROGRAMS:
        source = Path(program.__file__).with_name(name).read_text(encoding="utf-8")
        tree = ast.parse(source, feature_version=(3, 8))
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names


def test_a_recorded_run_is_carried_out(
    tmp_path: Path, bundle: Bundle, project: Project, index: Path
) -> None:
    """With the machine's own Python: the result is in the store, and all that ran came in the bundle."""
    node = Node(tmp_path / "node", bundle, index, lock=None)
    store = tmp_path / "store"
    with Portal() as portal:
        lab = Lab(portal, open_blobs(str(store)), tmp_path / "lab home")
        run = lab.make("tasks.train", {"task": {"gain": 4.0}})
    said = node.done("run", f"{store.as_uri()}/runs/{run}")
    assert "waiting" not in said
    folder = store / "runs" / run
    assert ends(folder) == [0]
    assert json.loads((folder / "result.json").read_text())["result"] == {"gain": 8.0}
    seen = json.loads((tmp_path / "node/seen.json").read_text())
    assert seen["crown_exp"].startswith(str(node.work / ".crown-job"))
    assert seen["cwd"] == str(node.work / ".crown-job" / bundle.digest[:16] / "project")
    assert 1_700_000_000 < float(seen["since"]) <= time.time()
    assert not (tmp_path / "node/environments").exists()


def test_a_run_in_an_environment_that_was_made(tmp_path: Path, node: Node, bundle: Bundle) -> None:
    """The lock's packages, its Python first on PATH; paid since what prepare found."""
    said = node.done("prepare")
    assert "making the environment with pip" in said and "is ready after" in said
    assert node.packages() == {"tiny", "tinier"}
    site = node.environment / f"venv/lib/python{MINOR}/site-packages"
    ours = next(path for path in map(Path, sys.path) if (path / "torch").is_dir())
    (site / "borrowed.pth").write_text(f"{ours}\n")  # else torch would have to be installed
    store = tmp_path / "store"
    with Portal() as portal:
        run = Lab(portal, open_blobs(str(store)), tmp_path / "home").make("tasks.train")
    wrong = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "", "CROWN_ENVIRONMENT_GET": "file:///x"}
    node.done("run", f"{store.as_uri()}/runs/{run}", env={**NOWHERE, **wrong})
    seen = json.loads((tmp_path / "node/seen.json").read_text())
    assert seen["prefix"] == str(node.environment / "venv")
    assert seen["tiny"].startswith(str(site)) and seen["links"] == []
    assert seen["path"].startswith(str(node.environment / "venv/bin"))
    assert seen["since"] == (node.work / ".crown-job/since").read_text()
    assert seen["crown_exp"].startswith(str(node.work))


def test_a_second_time_nothing_is_installed_and_two_at_once_make_one(node: Node) -> None:
    both = [node.start("prepare") for _ in range(2)]
    said = [child.communicate(timeout=200)[0] for child in both]
    assert [child.returncode for child in both] == [0, 0], said
    assert "".join(said).count("making the environment") == 1
    assert node.packages() == {"tiny", "tinier"}
    assert node.done("prepare", env=NOWHERE) == ""
    assert [path.name for path in (node.work / ".crown-job").glob("part*")] == []


@pytest.fixture
def deaf() -> Iterator[str]:
    """The URL of an index that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple"


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def wait_for(what: Callable[[], int]) -> int:
    for _ in range(1200):
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def installer(pid: int) -> int:
    """The process id of the pip that a start.py waits for."""
    with suppress(OSError):  # one of them has ended meanwhile
        for child in children(pid):
            for inner in children(child):
                if b"install" in Path(f"/proc/{inner}/cmdline").read_bytes():
                    return inner
    return 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_halfway_and_again(node: Node, deaf: str) -> None:
    """With all its children, as when a machine is gone; or alone: its installer goes on as an orphan."""
    hangs = {"PIP_NO_INDEX": "", "PIP_INDEX_URL": deaf, "PIP_FIND_LINKS": ""}
    first = node.start("prepare", env=hangs)
    wait_for(lambda: installer(first.pid))
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()

    second = node.start("prepare", env=hangs)
    orphan = wait_for(lambda: installer(second.pid))
    for pid in (*children(second.pid), second.pid):
        os.kill(pid, signal.SIGKILL)
    second.communicate()
    third = node.start("prepare")
    assert third.stdout is not None
    assert third.stdout.readline() == "crown: another job is at it here; waiting\n"
    os.kill(orphan, signal.SIGKILL)
    said, _ = third.communicate(timeout=200)
    assert third.returncode == 0, said
    assert node.packages() == {"tiny", "tinier"}


@pytest.mark.parametrize("by", ["file", "s3"])
def test_an_environment_is_kept_for_other_machines(
    by: str, tmp_path: Path, node: Node, bundle: Bundle, index: Path, request: pytest.FixtureRequest
) -> None:
    """Through links of the store alone; elsewhere its scripts know where they are."""
    if by == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        blobs = open_blobs(bucket.url, bucket.access)
    else:
        blobs = open_blobs(str(tmp_path / "store"))
    path = environment_path(node.key)
    with Portal() as portal:
        get, put = (str(portal.call(blobs.link, path, 600, put=put)) for put in (False, True))
        links = {"CROWN_ENVIRONMENT_GET": get, "CROWN_ENVIRONMENT_PUT": put}
        said = node.done("prepare", env=links)
        assert "kept the environment for later jobs" in said and "cannot be fetched" not in said
        assert [entry.path for entry in portal.call(blobs.list, "")] == [path]
    other = Node(tmp_path / "other", bundle, index)
    said = other.done("prepare", env={**links, **NOWHERE})
    assert "fetching the environment" in said and "making" not in said
    assert other.packages() == {"tiny", "tinier"}
    script = (other.environment / "venv/bin/tiny").read_text()
    assert f"{other.environment}/venv/bin/python" in script and str(node.root) not in script
    assert "signature" not in said.lower()


def test_what_is_kept_and_of_no_use_is_made_anew(
    tmp_path: Path, node: Node, bundle: Bundle, index: Path
) -> None:
    """Of a Python that this machine has not, for other machines, or cut off; and sent again."""
    kept = tmp_path / "kept.tar.gz"
    node.done("prepare", env={"CROWN_ENVIRONMENT_PUT": kept.as_uri()})
    whole = kept.read_bytes()
    get = {"CROWN_ENVIRONMENT_GET": kept.as_uri(), "CROWN_ENVIRONMENT_PUT": kept.as_uri()}

    def again(said: str) -> None:
        shutil.rmtree(node.environment)
        assert said in node.done("prepare", env=get)
        assert node.packages() == {"tiny", "tinier"}
        assert len(kept.read_bytes()) > len(whole) // 2

    python = node.environment / "venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    with kept.open("wb") as file:
        program.pack(node.environment, file)
    again("Python is not on this machine")
    mark = node.environment / program.MARK
    mark.write_text(mark.read_text().replace(f'"{os.uname().machine}"', '"sparc"'))
    with kept.open("wb") as file:
        program.pack(node.environment, file)
    again("is for sparc; making one for this machine")
    kept.write_bytes(whole[: len(whole) // 3])
    again("the kept environment cannot be fetched (")


def test_what_is_cut_off_is_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever: also between two files, which a reader of a stream takes for its end."""
    made, kept = tmp_path / "made", tmp_path / "kept.tar.gz"
    (made / "venv/bin").mkdir(parents=True)
    (made / "venv/bin/python").symlink_to(sys.executable)
    (made / "venv/pyvenv.cfg").write_text(f"home = {made}\n")
    for name in ("a", "b"):
        (made / "venv" / name).write_bytes(os.urandom(3000))
    (made / program.MARK).write_text(json.dumps(program.stamp(made)))
    with kept.open("wb") as file:
        program.pack(made, file)
    monkeypatch.setenv("CROWN_ENVIRONMENT_GET", kept.as_uri())
    folder = tmp_path / "there"
    assert program.fetch(folder, MINOR) and program.usable(folder, MINOR)
    assert (folder / "venv/pyvenv.cfg").read_text() == f"home = {folder}\n"

    whole = kept.read_bytes()
    plain = gzip.decompress(whole)
    with tarfile.open(kept) as archive:
        between = [plain[: entry.offset] for entry in archive.getmembers()]
    cut = [whole[: len(whole) * part // 10] for part in range(10)]
    for data in (*map(gzip.compress, between), *cut, b"x" * 2000):
        shutil.rmtree(folder, ignore_errors=True)
        kept.write_bytes(data)
        assert not program.fetch(folder, MINOR)
        assert not program.usable(folder, MINOR)


def test_what_cannot_be_kept_is_a_warning(node: Node) -> None:
    url = "http://127.0.0.1:9/secret-signature"
    said = node.done("prepare", env={"CROWN_ENVIRONMENT_GET": url, "CROWN_ENVIRONMENT_PUT": url})
    assert "cannot be fetched (URLError" in said and "could not be kept for later jobs" in said
    assert "secret-signature" not in said
    assert node.packages() == {"tiny", "tinier"}


def test_a_failing_install_ends_with_its_tail(tmp_path: Path, bundle: Bundle, index: Path) -> None:
    node = Node(tmp_path / "node", bundle, index, f"# python {MINOR}\ntiny==9\n# constraints\n")
    said = node.done("prepare", code=1)
    assert re.search(r"pip install .* ended with 1; its last lines:\n", said)
    assert "No matching distribution found for tiny==9" in said
    assert "Traceback" not in said
    assert not program.usable(node.environment, MINOR)


def test_no_python_of_the_version(tmp_path: Path, bundle: Bundle, index: Path) -> None:
    node = Node(tmp_path / "node", bundle, index, LOCK, minor="3.99")
    said = node.done("prepare", code=1)
    assert f"the run needs Python 3.99, and this machine has {MINOR}" in said.replace("3.9, ", "")
    assert "pip install uv" in said and "compute.image" in said


def test_a_bundle_that_was_damaged_on_the_way(node: Node) -> None:
    (node.work / "code.tar.gz").write_bytes(b"half")
    assert node.done("prepare", code=1) == (
        "crown: code.tar.gz is not as it was sent; launch again\n"
    )
    assert "expected: start.py prepare" in node.done("what", code=2)


def test_links_and_modes_come_as_they_were(tmp_path: Path, index: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "inner").symlink_to("run.sh")
    (root / "outer").symlink_to("/data/of/the/image")
    bundle = make_bundle(root, tmp_path / "b", exclude=[], secrets={}, environment="image")
    node = Node(tmp_path / "node", bundle, index, lock=None)
    assert node.done("prepare") == ""
    there = node.work / ".crown-job" / bundle.digest[:16] / "project"
    assert os.access(there / "run.sh", os.X_OK)
    assert [str((there / name).readlink()) for name in ("inner", "outer")] == [
        "run.sh", "/data/of/the/image"
    ]  # fmt: skip


def test_uv_is_taken_where_it_is(node: Node, index: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("no uv here")
    (node.root / "home/.local/bin").mkdir(parents=True)
    (node.root / "home/.local/bin/uv").symlink_to(uv)
    said = node.done("prepare", env={"UV_OFFLINE": "1", "UV_FIND_LINKS": str(index)})
    assert "making the environment with uv" in said
    assert node.packages() == {"tiny", "tinier"}


def test_an_older_python_starts_it(node: Node) -> None:
    """Which a machine may have beside the one that the run needs."""
    old = sorted(Path("~/.pyenv/versions").expanduser().glob("3.8*/bin/python"))
    python = str(old[0]) if old else shutil.which("python3.8")
    if python is None:
        pytest.skip("no Python 3.8 here")
    node.done("prepare", python=python)
    assert node.packages() == {"tiny", "tinier"}


def test_a_machine_that_is_not_ready_in_time_is_given_up(node: Node, deaf: str) -> None:
    """Whoever launched it may be gone, and it is paid."""
    slow = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": deaf}
    child = node.start("prepare", env={**slow, "CROWN_START_DEADLINE": "3"})
    assert child.wait(timeout=60) == 1
    with suppress(ProcessLookupError):  # its installer may go on until the machine is gone
        os.killpg(child.pid, signal.SIGKILL)
    said, _ = child.communicate()
    assert said.endswith("the machine was not ready in time (compute.start_deadline)\n")


def test_two_that_find_what_is_left_take_nothing_from_each_other(
    tmp_path: Path, bundle: Bundle, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is stopped where it has seen that it is not what came, and is about to put it away."""
    node = Node(tmp_path / "node", bundle, index, lock=None)
    facts = json.loads((node.work / "bundle.json").read_text())
    place = node.work / ".crown-job"
    (place / bundle.digest[:16] / "project/.crown").mkdir(parents=True)
    monkeypatch.setattr(start, "HERE", node.work)
    real, stopped, go_on = Path.rename, threading.Event(), threading.Event()

    def rename(self: Path, target: Path) -> Path:
        if threading.current_thread().name.endswith("_0") and not stopped.is_set():
            stopped.set()
            go_on.wait(60)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with ThreadPoolExecutor(thread_name_prefix="job") as pool:
        one = pool.submit(start.unpack, facts, place)
        assert stopped.wait(60)
        other = pool.submit(start.unpack, facts, place)
        wait([other], timeout=1)  # it may be done by then, or wait
        go_on.set()
        folders = {it.result(60) for it in (one, other)}
    assert folders == {place / bundle.digest[:16]}
    (kept,) = place.glob(f"**/{start.WHOLE}")
    assert kept.parent in folders


def test_what_is_left_of_a_machine_that_was_given_back_is_not_what_came(
    tmp_path: Path, bundle: Bundle, index: Path
) -> None:
    """Seen on SkyPilot: its home is deleted while the last run in it saves, and is the next machine's."""
    node = Node(tmp_path / "node", bundle, index, lock=None)
    node.done("prepare")
    there = node.work / ".crown-job" / bundle.digest[:16]
    shutil.rmtree(there)
    (there / "project/.crown").mkdir(parents=True)
    children = [node.start("prepare") for _ in range(3)]
    assert [(child.communicate(timeout=60)[0], child.returncode) for child in children] == [
        ("", 0)
    ] * 3
    assert (there / "project/tasks.py").exists()
    assert not (there / "project/.crown").exists()
