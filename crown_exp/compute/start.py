"""What a job on another machine runs: makes the machine ready, then becomes the run.

    python3 start.py prepare             unpacks what came with it, and makes the environment
    python3 start.py run <folder url>    becomes `python -m crown_exp run <folder url>`
    python3 start.py shell [argv ...]    becomes a shell, or another command, where a run would begin

A script of its own (standard library only, Python 3.8 or newer) that lies beside what it unpacks and beside
`environment.py`. All of it may be done twice, by two jobs at once, or be killed half-way.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FRESH_S = 1800.0
"""A machine that was booted so shortly before it was made ready was booted for us."""

SHELLS = ("/bin/bash", "/bin/sh")
LITTER_AGE_S = 24 * 3600.0


WHOLE = "whole"
"""In what was unpacked. SkyPilot deletes the home of a machine that it gives back while a run in it still
saves, and the same home may be the next machine's: what is left there is not what came."""


class Failure(Exception):
    """The machine cannot be made ready; the message is for the user."""


def say(text: str) -> None:
    """Write a line into the job's log."""
    sys.stderr.write(f"crown: {text}\n")
    sys.stderr.flush()


def unpack(facts: dict[str, Any], place: Path) -> Path:
    """The folder with the project and crown_exp as they came: made once, and whole or not there."""
    folder = place / str(facts["digest"])[:16]
    if (folder / WHOLE).exists():
        return folder
    for name, digest in facts["files"].items():
        if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != digest:
            raise Failure(f"{name} is not as it was sent; launch again")
    place.mkdir(exist_ok=True)
    for old in place.glob("part-*"):  # of jobs that were killed
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > LITTER_AGE_S:
                shutil.rmtree(str(old))
    part = Path(tempfile.mkdtemp(prefix="part-", dir=str(place)))
    try:
        with tarfile.open(str(HERE / "code.tar.gz"), errors="surrogateescape") as code:
            extract(code, part / "project")
        with zipfile.ZipFile(str(HERE / facts["wheel"])) as wheel:
            wheel.extractall(str(part / "wheel"))
        (part / WHOLE).touch()
        # Else what another job has just put there is taken for the remains that it replaced.
        with alone(place):
            if folder.is_dir() and not (folder / WHOLE).exists():
                folder.rename(place / f"{part.name}-remains")
            part.rename(folder)
    except OSError:
        if not (folder / WHOLE).exists():  # else another job was first
            raise
    finally:
        shutil.rmtree(str(part), ignore_errors=True)
    return folder


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Inside, no other job is, for a moment."""
    with (place / "lock").open("a") as file:
        with contextlib.suppress(OSError):  # a file system may have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def extract(archive: tarfile.TarFile, folder: Path) -> None:
    """All of an archive that we made, links that lead out as well."""
    folder.mkdir(parents=True)
    trusted: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}
    archive.extractall(str(folder), **trusted)


def interpreter(facts: dict[str, Any]) -> Path:
    """What to run with: the Python of this machine, or that of the environment, which is made if needed."""
    if facts["environment"] == "image":
        return Path(sys.executable)
    done = subprocess.run(
        [sys.executable, str(HERE / "environment.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise Failure("this machine has no environment for the run, as said above")
    return Path(done.stdout.strip())


def since(now: float) -> float:
    """Since when this machine is paid: its boot, or if that was long ago for others, now."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        booted = float(next(line for line in lines if line.startswith("btime")).split()[1])
        if now - FRESH_S < booted < now:
            return booted
    return now


def prepare(place: str = ".crown-job") -> tuple[dict[str, Any], Path, Path]:
    """Make this machine ready: what came, where it was unpacked, the interpreter to run with."""
    facts = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    with contextlib.suppress(OSError):  # not ours to touch
        os.utime(str(HERE))  # still in use: on a cluster this is the bundle itself
    folder = unpack(facts, Path.cwd() / place)
    return facts, folder, interpreter(facts)


def run(url: str) -> None:
    """Become the run."""
    facts, folder, python = prepare()
    enter(facts, folder, python)
    if not os.environ.get("CROWN_MACHINE_SINCE"):
        os.environ["CROWN_MACHINE_SINCE"] = noted(folder.parent / "since")
    os.execv(str(python), [str(python), "-m", "crown_exp", "run", url])


def shell(argv: list[str]) -> None:
    """Become a command, or an interactive shell, in the project as it came and with its environment.

    The project is another copy than that of jobs: what is changed in it changes none of theirs.
    """
    facts, folder, python = prepare(".crown-shell")
    enter(facts, folder, python)
    if facts["environment"] == "image":
        first(python)
    os.environ.pop("CROWN_JOB", None)  # what is typed there is no part of a job
    argv = argv or [shell_here()]
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise Failure(f"{argv[0]} cannot be started: {error.strerror}") from None


def shell_here() -> str:
    """The user's shell, if it is on this machine."""
    known = [os.environ.get("SHELL", ""), *SHELLS]
    return next((path for path in known if os.access(path, os.X_OK)), SHELLS[-1])


def enter(facts: dict[str, Any], folder: Path, python: Path) -> None:
    """Go into the project, and set what finds its modules and programs."""
    project = folder / "project"
    for name in ("CROWN_ENVIRONMENT_GET", "CROWN_ENVIRONMENT_PUT"):
        os.environ.pop(name, None)  # links to the store, which are nothing of the task's
    paths = [folder / "wheel", project, *(project / name for name in facts["paths"])]
    given = os.environ.get("PYTHONPATH")
    kept = [given] if given and facts["environment"] == "image" else []
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *kept])
    if facts["environment"] != "image":
        os.environ.pop("PYTHONHOME", None)
        os.environ["VIRTUAL_ENV"] = str(python.parent.parent)
        first(python)
    os.chdir(str(project))


def first(python: Path) -> None:
    """Have `python`, and programs that are installed beside it, be this one's."""
    path = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = f"{python.parent}{os.pathsep}{path}"


@contextlib.contextmanager
def deadline(seconds: str) -> Iterator[None]:
    """Inside, all ends after so long: nobody may be watching, and the machine is paid. "": it never does."""

    def end(number: int, frame: Any) -> None:
        raise Failure("the machine was not ready in time (compute.start_deadline)")

    signal.signal(signal.SIGALRM, end)
    signal.alarm(int(seconds or 0))
    try:
        yield
    finally:
        signal.alarm(0)


def noted(file: Path) -> str:
    """What `prepare` found out about since when the machine is paid; if it did not, from now on."""
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return repr(since(time.time()))


def main(arguments: list[str]) -> int:
    """Do what the arguments say; the exit code, 1 if the machine cannot be made ready."""
    try:
        if arguments == ["prepare"]:
            began = time.time()
            with deadline(os.environ.get("CROWN_START_DEADLINE", "")):
                _, folder, _ = prepare()
            (folder.parent / "since").write_text(repr(since(began)), encoding="ascii")
        elif len(arguments) == 2 and arguments[0] == "run":
            run(arguments[1])
        elif arguments[:1] == ["shell"]:
            shell(arguments[1:])
        else:
            say("expected: start.py prepare, start.py run <folder url>, or start.py shell")
            return 2
    except Failure as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"this machine cannot be made ready: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
