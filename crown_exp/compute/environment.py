"""Makes the environment of a job's lock on this machine, unless it is there; prints its interpreter.

A script of its own (standard library only, Python 3.8 or newer) that lies beside the lock; `start.py` calls
it. An environment lies at a fixed place of the machine: there, it was fetched from the store, or it is made
and then kept there. Two jobs may want it at once, and one may be killed half-way: it is made under a lock
that the installer inherits, so nobody touches it as long as an orphan still writes, and it counts once its
mark is there, which is written last.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

HERE = Path(__file__).resolve().parent
MARK = "crown-environment.json"
"""First in a packed environment, last in one that is made: where and for which machines it was made."""

END = "crown-environment.end"
"""Last in a packed environment. A stream that is cut off between two files looks like one that has ended."""

CONSTRAINTS = "# constraints"
"""The line of a lock after which packages are only installed if another asks for them."""

TAIL = 25
PATIENCE_S = 60.0
LARGEST_PUT = 5 * 2**30
FOUND = "import sys; print('%d.%d' % sys.version_info[:2])"
QUIET: Any = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.DEVNULL,
    "text": True,
    "timeout": PATIENCE_S,
}


class Failure(Exception):
    """The machine cannot be made ready; the message is for the user."""


def say(text: str) -> None:
    """Write a line into the job's log."""
    sys.stderr.write(f"crown: {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Alone with a file of this machine; its descriptor. The lock ends with the last process that has it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another job is at it here; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def extract_rest(archive: tarfile.TarFile, folder: Path) -> None:
    """What is left of an archive that we made and that is read as it comes; links that lead out as well."""
    trusted: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}
    folder.mkdir(parents=True)
    archive.extractall(str(folder), members=iter(archive.next, None), **trusted)


def environments() -> Path:
    """The folder of this machine's environments, the same on every machine so that they can be moved."""
    given = os.environ.get("CROWN_ENVIRONMENTS")
    if given:
        folder = Path(given).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    ours = Path("/tmp") / f"crown-{os.getuid()}"
    ours.mkdir(mode=0o700, exist_ok=True)
    if ours.lstat().st_uid != os.getuid() or ours.is_symlink():
        raise Failure(f"{ours} is somebody else's; set CROWN_ENVIRONMENTS to a folder of yours")
    folder = ours / "environments"
    folder.mkdir(exist_ok=True)
    return folder


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / "venv" / "bin" / "python"


def usable(folder: Path, minor: str) -> bool:
    """Whether an environment is whole, and its interpreter starts here."""
    return (folder / MARK).is_file() and version_of(python_of(folder)) == minor


def version_of(python: Path, *needed: str) -> str:
    """`3.11` of an interpreter; empty if it does not start or lacks a module."""
    program = "; ".join([*("import " + name for name in needed), FOUND])
    try:
        done = subprocess.run([str(python), "-I", "-c", program], **QUIET)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "" if done.returncode else str(done.stdout).strip()


def stamp(folder: Path) -> dict[str, str]:
    """What a packed environment says of itself."""
    return {"path": str(folder), "machine": platform.machine(), "system": platform.system()}


def fetch(folder: Path, minor: str) -> bool:
    """Unpack the environment that is kept for this lock; False if there is none that works here."""
    url = os.environ.get("CROWN_ENVIRONMENT_GET")
    if not url:
        return False
    try:
        with opened(url) as stream, tarfile.open(fileobj=stream, mode="r|gz") as archive:
            head = archive.next()
            file = archive.extractfile(head) if head and head.name == MARK else None
            told = json.loads(file.read()) if file else {}
            here = stamp(folder)
            if any(told.get(name) != here[name] for name in ("machine", "system")):
                say(
                    f"the kept environment is for {told.get('machine')}; making one for this machine"
                )
                return False
            say("fetching the environment")
            extract_rest(archive, folder)
            if not (folder / END).is_file():
                raise EOFError
    except FileNotFoundError:
        return False
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        say(f"the kept environment cannot be fetched ({told_by(error)}); making it")
        return False
    relocate(folder, told["path"])
    if version_of(python_of(folder)) != minor:
        say("the kept environment's Python is not on this machine; making it anew")
        return False
    (folder / MARK).write_text(json.dumps(here), encoding="utf-8")
    return True


def told_by(error: Exception) -> str:
    """An error in a few words. No URL is in it, which would be a secret."""
    return f"{type(error).__name__}: {str(error) or 'it is cut off'}".splitlines()[0]


def opened(url: str) -> Any:
    """A stream of what a link leads to. Raises FileNotFoundError if it leads to nothing."""
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path)).open("rb")
    try:
        return urlopen(url, timeout=PATIENCE_S)
    except HTTPError as error:
        if error.code in (403, 404):  # S3 says 403 of what is not there to who may not list
            raise FileNotFoundError from None
        raise


def relocate(folder: Path, old: str) -> None:
    """Let an environment that was made elsewhere know where it is: its scripts and links."""
    new = str(folder)
    if old == new:
        return
    pythons_of_uv = (folder / "python").glob("*")
    venv = folder / "venv"
    for path in [venv / "pyvenv.cfg", *(venv / "bin").iterdir(), *pythons_of_uv]:
        if path.is_symlink():
            target = os.readlink(str(path))  # noqa: PTH115 -- Path.readlink is of Python 3.9
            if target.startswith(f"{old}/"):
                path.unlink()
                path.symlink_to(new + target[len(old) :])
        elif path.is_file():
            data = path.read_bytes()
            if b"\0" not in data and old.encode() in data:
                path.write_bytes(data.replace(old.encode(), new.encode()))


def build(folder: Path, minor: str, lock: int) -> None:
    """Make the environment of the lock, by uv where it is, else by pip. Raises Failure."""
    uv = find_uv()
    python = (
        find_python(minor, uv)
        if uv is None
        else find_python(minor, uv) or ask_uv(uv, folder, minor, lock)
    )
    folder.mkdir(exist_ok=True)
    requirements, constraints = folder / "requirements.txt", folder / "constraints.txt"
    wanted, _, only_if = (HERE / "lock.txt").read_text(encoding="utf-8").partition(CONSTRAINTS)
    requirements.write_text(wanted, encoding="utf-8")
    constraints.write_text(only_if, encoding="utf-8")
    venv, own = folder / "venv", python_of(folder)
    lists = ["-r", str(requirements), "-c", str(constraints)]
    say(f"making the environment with {'uv' if uv else 'pip'} and {python}")
    if uv:
        call([uv, "venv", "--python", str(python), str(venv)], lock)
        call([uv, "pip", "install", "--python", str(own), *lists], lock)
    else:
        call([str(python), "-m", "venv", str(venv)], lock)
        quick = ["--disable-pip-version-check", "--no-input"]
        call([str(own), "-m", "pip", "install", *quick, *lists], lock)
    (folder / MARK).write_text(json.dumps(stamp(folder)), encoding="utf-8")


def find_uv() -> str | None:
    """uv, if it is on PATH or where its installer puts it."""
    places = [os.environ.get("PATH", os.defpath), "~/.local/bin", "~/.cargo/bin"]
    return shutil.which("uv", path=os.pathsep.join(map(os.path.expanduser, places)))


def find_python(minor: str, uv: str | None) -> Path | None:
    """An interpreter of this version that can make an environment. Raises Failure if only uv could get one."""
    needed = () if uv else ("venv", "ensurepip")
    seen, incomplete = set(), ""
    for python in pythons(minor):
        version = version_of(python)
        if version == minor and (not needed or version_of(python, *needed)):
            return python
        incomplete = str(python) if version == minor else incomplete
        seen.add(version)
    if uv:
        return None
    if incomplete:
        raise Failure(
            f"{incomplete} lacks the modules venv and ensurepip (on Debian: apt install python{minor}-venv); "
            "add that to compute.setup, or uv, which needs neither (pip install uv)"
        )
    found = ", ".join(sorted(seen - {""})) or "none"
    raise Failure(
        f"the run needs Python {minor}, and this machine has {found}; have uv on it, which fetches one "
        f"(compute.setup: pip install uv), or an image with Python {minor} (compute.image)"
    )


def pythons(minor: str) -> Iterator[Path]:
    """Interpreters of this machine, those that are likely to fit first, none twice."""
    folders = [Path(name) for name in os.environ.get("PATH", os.defpath).split(os.pathsep) if name]
    folders += [Path("/usr/local/bin"), Path("/usr/bin"), Path("/opt/conda/bin")]
    folders += sorted(Path("~/.pyenv/versions").expanduser().glob("*/bin"))
    folders += sorted(Path("~").expanduser().glob("*conda3/bin"))
    names = [folder / name for name in (f"python{minor}", "python3") for folder in folders]
    known = set()
    for python in [Path(sys.executable), *names]:
        if python.exists() and str(python) not in known:
            known.add(str(python))
            yield python


def ask_uv(uv: str, folder: Path, minor: str, lock: int) -> Path:
    """An interpreter that uv fetches into the environment itself, so that it travels with it."""
    place = folder / "python"
    say(f"fetching Python {minor}")
    place.mkdir(parents=True, exist_ok=True)
    own = {"UV_PYTHON_INSTALL_DIR": str(place), "UV_PYTHON_INSTALL_BIN": "0"}
    call([uv, "python", "install", minor], lock, own)
    # beside the folder of a version, uv makes a link to it for the minor version
    found = [
        path
        for path in sorted(place.glob(f"*/bin/python{minor}"))
        if not path.parents[1].is_symlink()
    ]
    if not found:
        raise Failure(f"uv fetched no Python {minor}; take an image with it (compute.image)")
    return found[0]


def call(argv: list[str], lock: int, own: dict[str, str] | None = None) -> None:
    """See a command through. Raises Failure with the end of what it said."""
    environment = {**os.environ, **(own or {})}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
        )
        if done.returncode:
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").splitlines()[-TAIL:]
            shown = "\n".join(f"    {line}" for line in lines)
            command = " ".join(argv[:4])
            raise Failure(f"`{command} …` ended with {done.returncode}; its last lines:\n{shown}")


def send(folder: Path) -> None:
    """Keep the environment for the jobs to come, if there is a place for it; a failure is told, no more."""
    url = os.environ.get("CROWN_ENVIRONMENT_PUT")
    if not url:
        return
    began = time.time()
    try:
        with tempfile.TemporaryFile(dir=str(folder.parent)) as file:
            pack(folder, file)
            size = file.tell()
            file.seek(0)
            if url.startswith("file://"):
                put_file(Path(unquote(urlsplit(url).path)), file)
            elif size > LARGEST_PUT:
                raise OSError(f"{size / 1e9:.1f} GB, and one upload takes {LARGEST_PUT / 1e9:.1f}")
            else:
                headers = {"Content-Length": str(size), "Content-Type": ""}
                request = Request(url, file, headers, method="PUT")
                urlopen(request, timeout=PATIENCE_S).close()
    except (OSError, ValueError, tarfile.TarError) as error:
        say(f"the environment could not be kept for later jobs: {told_by(error)}")
    else:
        say(
            f"kept the environment for later jobs: {size / 1e6:.0f} MB in {time.time() - began:.0f} s"
        )


def pack(folder: Path, file: IO[bytes]) -> None:
    """Write an environment as a tar.gz, its mark first."""

    def nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        names = [MARK, *sorted({path.name for path in folder.iterdir()} - {MARK, END})]
        for name in names:
            archive.add(str(folder / name), name, filter=nobodys)
        archive.addfile(tarfile.TarInfo(END))


def put_file(target: Path, source: IO[bytes]) -> None:
    """Write a file at once or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".crown-temp-{os.getpid()}-{platform.node()}")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(source, file, 2**20)
        part.replace(target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def main() -> int:
    """Print the interpreter of the environment; the exit code, 1 if it cannot be made."""
    try:
        sys.stdout.write(f"{python_of(ensure())}\n")
    except Failure as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"the environment cannot be made: {error}")
        return 1
    return 0


def ensure() -> Path:
    """The folder of the environment, which is there, fetched or made."""
    facts = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    minor, root = str(facts["python"]), environments()
    folder = root / str(facts["environment"])
    if usable(folder, minor):
        return folder
    with locked(root / f"{folder.name}.lock") as lock:
        if not usable(folder, minor):
            began = time.time()
            shutil.rmtree(str(folder), ignore_errors=True)
            if not fetch(folder, minor):
                shutil.rmtree(str(folder), ignore_errors=True)
                build(folder, minor, lock)
                send(folder)
            say(f"the environment is ready after {time.time() - began:.0f} s")
    return folder


if __name__ == "__main__":
    sys.exit(main())
