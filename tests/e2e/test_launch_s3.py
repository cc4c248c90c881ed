"""The same command, elsewhere, with its store in a bucket: whole commands on stand-ins of SkyPilot and of S3.

The keys of the bucket are in the environment of who types the command, and nowhere else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from crown_exp.compute.wheel import Wheel
from crown_exp.folder import decode_segment
from tests.remote_runs import TASKS, wait_for
from tests.running import Heard, Project
from tests.s3.buckets import Bucket
from tests.sky_project import executor_of, preempt, sky_project, state_of

LAUNCHERS = Path(__file__).parents[2] / "launchers"
KEY, SECRET = "AKIA0000OFTHESETESTS", "a-secret-key-that-no-file-of-these-tests-may-hold"
"""moto takes any."""

TELLS = '''

def tells(run, until: str = ""):
    """What it was given to reach the bucket with; it waits for a file, to be looked at."""
    from hashlib import sha256

    key = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    while until and not pathlib.Path(until).exists():
        time.sleep(0.05)
    return {"secret": sha256(key.encode()).hexdigest()}
'''

SLOW = ("task=hastens", "checkpoint.every=1 steps")


@dataclass
class Afar:
    """A project whose store is `<bucket>/store`."""

    project: Project
    bucket: Bucket

    def crown(self, *words: str) -> str:
        """What a command said, which was to end well."""
        done = self.project.crown(*words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def runs(self) -> list[str]:
        """The ids of all runs, the oldest first."""
        found = [key.split("/")[2] for key in self.bucket.keys("store/runs/") if "/run.json" in key]
        return sorted(found, key=lambda run: str(self.record(run, "run.json")["created"]))

    def url(self, run: str) -> str:
        return f"{self.bucket.url}/store/runs/{run}"

    def record(self, run: str, path: str) -> Any:
        return json.loads(self.bucket.read(f"store/runs/{run}/{path}"))

    def result(self, run: str) -> Any:
        return self.record(run, "result.json")["result"]

    def has(self, run: str, path: str) -> bool:
        return bool(self.bucket.keys(f"store/runs/{run}/{path}"))

    def ends(self, run: str) -> list[int]:
        """The exit codes of a run's attempts, as far as they have ended."""
        keys = self.bucket.keys(f"store/runs/{run}/attempts/")
        return [json.loads(self.bucket.read(key))["exit_code"] for key in keys if ".end" in key]

    def steps(self, run: str, attempt: int) -> list[int]:
        """Those at which an attempt logged something."""
        keys = self.bucket.keys(f"store/runs/{run}/log/{attempt:06}")
        batches = [batch for key in keys for batch in decode_segment(self.bucket.read(key)).batches]
        return [record[1] for batch in batches for record in batch if record[0] == "m"]

    def begun(self, runs: int = 1) -> str:
        """The newest of so many runs, once it has begun."""
        run = str(wait_for(lambda: self.runs[-1] if len(self.runs) == runs else None))
        wait_for(lambda: self.has(run, "attempts/000001.json"))
        return run


def reached(project: Project, bucket: Bucket) -> Afar:
    """The variables by which the bucket is reached are set, with keys that are secret."""
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    project.environment |= bucket.environment() | keys
    return Afar(project, bucket)


@pytest.fixture
def afar(tmp_path: Path, bucket: Bucket) -> Iterator[Afar]:
    with sky_project(tmp_path / "project", TASKS + TELLS) as project:
        yield reached(project, bucket)


def job_of(afar: Afar) -> Any:
    """What the stand-in's server knows of its only job."""
    (job,) = json.loads((state_of(afar.project) / "jobs.json").read_text())
    return job


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All files below a folder, and those that are packed in them."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        yield str(path), path.read_bytes()
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for entry in archive:
                    file = archive.extractfile(entry)
                    yield f"{path}/{entry.name}", file.read() if file else b""
        elif path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                for name in wheel.namelist():
                    yield f"{path}/{name}", wheel.read(name)


def typed_anywhere() -> Iterator[tuple[str, bytes]]:
    """The arguments of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield str(path), path.read_bytes()
        except OSError:
            continue  # it has ended


def test_the_keys_travel_as_secrets_and_are_written_nowhere(afar: Afar, tmp_path: Path) -> None:
    look = tmp_path / "look"
    child = afar.project.popen("task=tells", f"task.until={look}", "compute=there", "--yes")
    run = afar.begun()
    assert [where for where, data in typed_anywhere() if SECRET.encode() in data] == []
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(job_of(afar)["asked"]["secrets"])
    look.touch()
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 0, said
    assert afar.result(run) == {"secret": sha256(SECRET.encode()).hexdigest()}  # it had them

    assert SECRET not in said
    wait_for(lambda: job_of(afar)["status"] == "SUCCEEDED")  # the server's memory of it ends too
    here, there = afar.project.root, state_of(afar.project)
    seen = dict([*contents(here), *contents(there)])
    seen |= {f"s3:{key}": afar.bucket.read(key) for key in afar.bucket.keys("")}
    for part in (".crown/bundles", "/uploads/", "/logs/", "/tasks.py", f"s3:store/runs/{run}/run"):
        assert any(part in where for where in seen), part  # it was looked for where it might be
    assert [where for where, data in seen.items() if SECRET.encode() in data] == []


def test_preempted_once_it_goes_on_from_what_is_in_the_bucket(afar: Afar) -> None:
    afar.crown(*SLOW, "task.pace=0")
    child = afar.project.popen(*SLOW, "compute=there", "reuse=never", "--yes")
    run = afar.begun(2)
    wait_for(lambda: afar.has(run, "checkpoints/000001-"))
    preempt(afar.project, run)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0, said
    assert afar.result(run) == afar.result(afar.runs[0])
    assert afar.record(run, "attempts/000002.json")["job"] == run
    assert afar.steps(run, attempt=2)[0] > 1  # it was not begun again
    assert afar.steps(run, attempt=2)[-1] == 400


def test_it_is_asked_about_as_if_it_were_here(afar: Afar) -> None:
    done = afar.project.crown("task=fails", "compute=there", "--yes")
    assert done.returncode == 1
    assert "ValueError: the data is not there" in done.stdout
    (run,) = afar.runs
    assert "ValueError: the data is not there" in afar.crown("logs", run)
    shown = afar.crown("show", run)
    assert "failed" in shown
    assert "there" in shown
    assert "$" in afar.crown("cost", run)


def test_what_is_done_is_found_in_the_bucket(afar: Afar) -> None:
    typed = ("-m", "task=train", "compute=there", "--yes")
    afar.crown(*typed, "task.lr=0.1,0.2")
    again = afar.crown(*typed, "task.lr=0.1,0.2,0.3")
    assert again.count("done") >= 2
    assert len(afar.runs) == 3
    assert len({afar.result(run)["sum"] for run in afar.runs}) == 3


def test_it_is_cancelled(afar: Afar) -> None:
    typed = ("task=train", "task.steps=2000", "task.pace=0.05", "compute=there", "--yes")
    child = afar.project.popen(*typed)
    run = afar.begun()
    afar.crown("cancel", run, "--yes")
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert afar.has(run, "jobs/0001.cancelled")
    with executor_of(afar.project) as executor:
        wait_for(lambda: not executor.jobs())


def test_a_new_laptop_collects_what_the_old_one_began(afar: Afar, tmp_path: Path) -> None:
    """All that the old one kept is gone; the project, the keys and SkyPilot's server are there."""
    typed = ("task=holds", f"task.until={tmp_path / 'go'}", "compute=there", "--yes")
    child = afar.project.popen(*typed)
    run = afar.begun()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    rmtree(afar.project.root / ".crown")
    no_store = {"CROWN_STORAGE__ROOT": ""}  # its address is typed instead
    follower = afar.project.popen("logs", "-f", afar.url(run), env=no_store)
    shown = afar.project.crown("show", afar.url(run), env=no_store)
    assert shown.returncode == 0, shown.stdout
    assert "running" in shown.stdout
    again = afar.project.popen(*typed)
    heard = Heard(again)
    heard.until("running")
    (tmp_path / "go").touch()
    collected = heard.rest()
    assert again.returncode == 0, collected
    assert f"{run} completed: sum {afar.result(run)['sum']:.4g}"[:-1] in collected
    followed, _ = follower.communicate(timeout=60)
    assert follower.returncode == 0, followed
    assert "sum" in followed
    assert afar.runs == [run]
    assert afar.ends(run) == [0]  # it was not begun again
    assert len(afar.bucket.keys(f"store/runs/{run}/jobs/")) == 1


# --- an environment that is made there ------------------------------------------------------------------

LOCKED = """\
executor: skypilot
accelerators: [A100:1]
spot: true
shared: true
environment: lock
name: locked
env: {{PATH: "{path}", PIP_NO_INDEX: "1", PIP_FIND_LINKS: "{index}", PIP_CONFIG_FILE: /dev/null}}
"""
PYTHON = """\
#!/bin/sh
export CROWN_ENVIRONMENTS="{folder}"
exec "{python}" "$@"
"""
"""The machines' python3, of an image that says where environments are: all machines here share one /tmp."""

WHERE = """
def where(run, lr: float = 0.1):
    import sys

    import tiny

    links = [name for name in os.environ if "CROWN_ENVIRONMENT_" in name]
    return {"prefix": sys.prefix, "tiny": tiny.__file__, "links": links}
"""


def wheel(folder: Path, name: str, files: dict[str, str], requires: str = "") -> None:
    """A package that any machine can install."""
    info = f"{name}-1.0.dist-info"
    asks = f"Requires-Dist: {requires}\n" if requires else ""
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{asks}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    made = Wheel(f"{name}-1.0-py3-none-any.whl", {key: it.encode() for key, it in files.items()})
    (folder / made.name).write_bytes(made.pack())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Python in which two packages are installed, and a folder in which they are sold.

    `tiny` is one; `stack` stands for torch and all else, which would have to be downloaded: it shows those that
    are installed for these tests, without saying so.
    """
    root = tmp_path_factory.mktemp("small")
    (index := root / "index").mkdir()
    (stack := root / "stack").mkdir()
    for site in map(Path, sys.path):
        if site.name == "site-packages":
            for path in site.iterdir():
                if not path.name.endswith((".dist-info", ".pth")):
                    (stack / path.name).symlink_to(path)
    wheel(index, "tiny", {"tiny/__init__.py": ""}, "stack")
    wheel(index, "stack", {"stack.pth": f"{stack}\n"})
    subprocess.run([sys.executable, "-m", "venv", str(root / "venv")], check=True)
    python = root / "venv/bin/python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "--no-index", "--find-links", str(index), "tiny"],
        check=True,
    )  # fmt: skip
    return python, index


@pytest.fixture
def locked(tmp_path: Path, bucket: Bucket, small: tuple[Path, Path]) -> Iterator[tuple[Afar, Path]]:
    """The project, typed in with the small Python; and where its machines have their environments."""
    with sky_project(tmp_path / "project", TASKS + WHERE) as project:
        there = tmp_path / "environments"
        (python := tmp_path / "bin/python3").parent.mkdir()
        python.write_text(PYTHON.format(folder=there, python=sys.executable))
        python.chmod(0o755)
        target = LOCKED.format(path=f"{python.parent}:/usr/bin:/bin", index=small[1])
        (project.root / "conf/compute/locked.yaml").write_text(target)
        yield reached(project, bucket), there


def typed(python: Path, afar: Afar, *words: str) -> str:
    """What a command said that was typed with another Python."""
    path = os.pathsep.join([afar.project.environment["PYTHONPATH"], str(LAUNCHERS)])
    done = subprocess.run(
        [str(python), "-m", "crown_exp", *words], cwd=afar.project.root, text=True, timeout=240,
        env={**os.environ, **afar.project.environment, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def printed(afar: Afar, job: int) -> str:
    """What a job has printed, and what prepared its machine."""
    return (state_of(afar.project) / f"logs/{job}.log").read_text()


def test_an_environment_is_made_once_and_kept_in_the_bucket(
    locked: tuple[Afar, Path], small: tuple[Path, Path]
) -> None:
    """The first machine makes it of the lock; the second, which has nothing, installs nothing."""
    (afar, there), (python, index) = locked, small
    words = ("task=where", "compute=locked", "--yes")
    typed(python, afar, *words, "task.lr=0.1")
    made = printed(afar, 1)
    assert "making the environment with" in made
    assert "kept the environment for later jobs" in made
    (kept,) = afar.bucket.keys("store/environments/")
    one = afar.result(afar.runs[0])
    assert one["prefix"] == str(there / kept.split("/")[-1].partition(".")[0] / "venv")
    assert one["tiny"].startswith(one["prefix"])
    assert one["links"] == []

    rmtree(there)  # another machine
    index.rename(index.with_name("closed"))  # on which nothing can be installed
    try:
        typed(python, afar, *words, "task.lr=0.2")
    finally:
        index.with_name("closed").rename(index)
    again = printed(afar, 2)
    assert "fetching the environment" in again
    assert "making" not in again
    assert afar.result(afar.runs[1]) == one
    assert afar.bucket.keys("store/environments/") == [kept]
