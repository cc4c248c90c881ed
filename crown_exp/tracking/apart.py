"""A vendor's library in a process of its own: what it does to a process, it does to that one.

One line of JSON asks, `["name", [arguments]]`, one answers, `[true, value]` or `[false, "what failed"]`.
Each is answered before the next is asked, so whoever is slow is waited for, and nothing piles up between.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from crown_exp.errors import CrownError

LEAVE_SECONDS = 10.0
"""How long the process may go on without the one that started it."""
KILLED_SECONDS = 2.0
AT_ONCE = 1 << 16
LONGEST = 300
"""Characters of an error that are told."""

CHILD = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from crown_exp.tracking.apart import serve
serve(sys.argv[2], sys.argv[3])
"""


class Failed(CrownError):
    """The process refused, ended or did not answer."""


class Apart:
    """An object of the class `target` in a process of its own, which ends when this object is gone.

    environment: all of the process's, but for the folder of its temporary files, which goes when it ends.
    said: the file that takes what it prints; gone if that was nothing.
    The process has no terminal and no signals from one: it is asked nothing, and Ctrl-C is not its affair.
    """

    def __init__(self, target: str, *, environment: Mapping[str, str], said: Path) -> None:
        said.parent.mkdir(parents=True, exist_ok=True)
        self.said = said
        with said.open("ab") as stream:
            # Not below `said`: a socket in it must have a short path.
            temporary = tempfile.mkdtemp(prefix="crown-")
            self.process = subprocess.Popen(
                [sys.executable, "-c", CHILD, json.dumps(sys.path), target, temporary],
                env={**environment, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary)},
                start_new_session=True, bufsize=0,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
            )  # fmt: skip
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        self.end = weakref.finalize(self, end, self.process, said, temporary, os.getpid())

    def call(self, name: str, *arguments: Any, seconds: float) -> Any:
        """What the method answers, if it does within `seconds`; else the process is ended.

        Arguments and answer: what JSON holds. Raises Failed.
        """
        asked = json.dumps([name, arguments]).encode() + b"\n"
        try:
            line = self.exchange(asked, time.monotonic() + seconds)
        except TimeoutError:
            raise Failed(self.why(name, seconds)) from None
        except (OSError, ValueError):  # the pipe is broken, or closed
            raise Failed(self.why_it_ended()) from None
        good, value = json.loads(line)
        if not good:
            raise Failed(value)
        return value

    def exchange(self, asked: bytes, deadline: float) -> bytes:
        """Write a line and read one, until the deadline. Raises TimeoutError, OSError, ValueError."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        unsent, line = memoryview(asked), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                left = deadline - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fileobj is stdin:
                        unsent = unsent[os.write(key.fd, unsent) :]
                        if not unsent:
                            selector.unregister(stdin)
                    elif part := os.read(key.fd, AT_ONCE):
                        line += part
                    else:
                        raise BrokenPipeError
        return bytes(line)

    def why(self, name: str, seconds: float) -> str:
        """It did not answer; it never will."""
        self.end()
        return f"no answer to {name} in {seconds:g} s"

    def why_it_ended(self) -> str:
        """Its exit code, or the signal that ended it, and the last it said."""
        try:
            how = ended_with(self.process.wait(KILLED_SECONDS))
        except subprocess.TimeoutExpired:
            how = "closed its pipes"
        lines = self.said.read_text("utf-8", "replace").split("\n") if self.said.exists() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        self.end()
        return f"its process {how}: {last}"


def ended_with(status: int) -> str:
    """How a process ended, in words."""
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended with {status}"


def end(process: subprocess.Popen[bytes], said: Path, temporary: str, owner: int) -> None:
    """End the process, if it has not, and clear up; but not from a fork of the one that owns it."""
    if os.getpid() != owner:
        return
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (OSError, AttributeError):
            process.kill()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:
            pass  # what was still to be sent
    try:
        process.wait(KILLED_SECONDS)
        shutil.rmtree(temporary, ignore_errors=True)
        if said.stat().st_size == 0:
            said.unlink()
    except (OSError, subprocess.TimeoutExpired):
        pass


# --- the process ----------------------------------------------------------------------------------


def serve(target: str, temporary: str) -> NoReturn:
    """Answer until there are no more questions. Standard input is empty, output goes where errors go."""
    threading.Thread(target=leave_alone, args=(os.getppid(), temporary), daemon=True).start()
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    served: Any = None
    for line in asked:
        try:
            served = served or made(target)
            name, arguments = json.loads(line)
            answer = json.dumps([True, getattr(served, name)(*arguments)])
        except BaseException as error:
            answer = json.dumps([False, in_a_line(error)])
        try:
            answers.write(answer.encode() + b"\n")
            answers.flush()
        except OSError:
            break  # nobody reads any more
    threading.Timer(LEAVE_SECONDS, leave, (1, temporary)).start()
    if served is not None and hasattr(served, "abandoned"):
        served.abandoned()
    leave(0, temporary)


def leave(code: int, temporary: str) -> NoReturn:
    """End this process, without what libraries do then, and with its temporary files."""
    try:
        shutil.rmtree(temporary, ignore_errors=True)
    finally:
        os._exit(code)


def made(target: str) -> Any:
    """An object of the class that is named as `module:Class`."""
    from importlib import import_module

    module, _, name = target.partition(":")
    return getattr(import_module(module), name)()


def leave_alone(parent: int, temporary: str) -> None:
    """End the process soon after the one that started it, whatever hangs here.

    An end of the pipe does not tell: a fork of that one (a data worker) may hold it open.
    """
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(LEAVE_SECONDS)
    leave(1, temporary)


def in_a_line(error: BaseException) -> str:
    """An error as one line that is not too long: a CrownError's own words, or what kind it is and its words."""
    text = " ".join(str(error).split()).rstrip(".")
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    if isinstance(error, CrownError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
