"""Between the clients and the server: files in the folder $SKY_STAND_IN, and what a test may do to both."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from . import exceptions


class RequestNotFound(RuntimeError):
    """SkyPilot says it in prose too."""


def folder() -> Path:
    return Path(os.environ["SKY_STAND_IN"])


def write(path: Path, value: Any) -> None:
    """In one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps(value))
    beside.chmod(0o600)
    beside.replace(path)


def send(do: str, value: dict[str, Any], request: str = "") -> str:
    """Leave a request, with a server there to answer it; its id at once."""
    reach()
    request = request or str(uuid.uuid4())
    start()
    write(folder() / "requests" / f"{request}.json", {"do": do, **value})
    return request


def answered(request: str) -> dict[str, Any] | None:
    """The answer to a request; None if there is none yet. A server that has died since forgets it."""
    reach()
    start()
    path = folder() / "answers" / f"{request}.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    if not (folder() / "requests" / f"{request}.json").exists() and not path.exists():
        raise RequestNotFound(f"Request {request!r} not found")
    return None


def reach() -> None:
    """What every call of the SDK begins with: is a server there, and of our version?"""
    path = folder() / "failing.json"
    if path.exists() and (told := json.loads(path.read_text()))["type"]:
        raise getattr(exceptions, told["type"])(told["text"])


def serves() -> bool:
    """Whether a server has the folder's lock."""
    folder().mkdir(parents=True, exist_ok=True)
    lock = os.open(folder() / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def start() -> None:
    """Start a server, if there is none. It outlives this process."""
    if serves():
        return
    with (folder() / "starting").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # until it has forgotten what was asked before
        if not serves():
            _start()


def _start() -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with (folder() / "server.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "sky.server"],
            cwd=folder(),
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def stop(where: Path, jobs: bool = True) -> None:
    """End the server (as `sky api stop` would not: with SIGKILL) and, if asked, all that its jobs started."""
    for path in where.glob("server.pid"):
        _kill(int(path.read_text()))
        path.unlink(missing_ok=True)
    until = time.monotonic() + 60
    while not _is_free(where / "lock") and time.monotonic() < until:
        time.sleep(0.01)
    for path in (where / "nodes").glob("*/pid") if jobs else ():
        _kill(-int(path.read_text()))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _is_free(path: Path) -> bool:
    if not path.exists():
        return True
    lock = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def refuse(where: Path, kind: str, text: str) -> None:
    """The next launches are refused with this exception of `sky.exceptions`; kind "": no longer."""
    write(where / "refuse.json", {"type": kind, "text": text})


def fail(where: Path, kind: str, text: str) -> None:
    """Every call that needs the server raises this from now on; kind "": no longer.

    Seen in SkyPilot's source: a server elsewhere that is dead is an ApiServerConnectionError (its URL), one of
    another version an APIVersionMismatchError; a dead one of this machine is started anew without a word.
    """
    write(where / "failing.json", {"type": kind, "text": text})


def tells_nothing(where: Path) -> None:
    """The server does not tell its users from now on, as one may be set up to."""
    (where / "secretive").touch()


def controller(where: Path, status: str) -> None:
    """The controller is STOPPED, INIT, …; "": up. Asked with `refresh`, or for a job, it is started."""
    write(where / "controller.json", status)


def sold_out(where: Path, accelerators: list[str]) -> None:
    """No machine is to be had with these: jobs end in FAILED_NO_RESOURCE."""
    write(where / "sold_out.json", accelerators)


def crowd(where: Path, full: bool) -> None:
    """Whether others have all machines: jobs wait for them, given up and tried again, until they have one."""
    write(where / "crowd.json", full)


def delay(where: Path, **seconds: float) -> None:
    """Other delays than those of `server.DELAYS`, before they are scaled."""
    write(where / "delays.json", seconds)


def older(where: Path, seconds: float) -> None:
    """Machines have been paid for so long when a job begins on them."""
    write(where / "older.json", seconds)
