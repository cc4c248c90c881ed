"""The process in which SkyPilot lives: started when it is first needed, spoken to in lines of JSON."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from crown_exp.compute.base import ExecutorError
from crown_exp.config.settings import whole_environment

DOOR = Path(__file__).with_name("door.py")
_ANSWER_SECONDS = 300.0
_CLOSE_SECONDS = 2.0


class NotStarted(ExecutorError):
    """CROWN_SKY__PYTHON is no Python that has SkyPilot."""

    exit_code = 2


class DoorError(ExecutorError):
    """SkyPilot answered with an error. kind: as in `door.py`; type: the class of its exception."""

    def __init__(self, kind: str, type_: str, text: str) -> None:
        super().__init__(_told(kind, type_, text))
        self.kind, self.type = kind, type_

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.kind, self.type, str(self))


def _restored(kind: str, type_: str, told: str) -> DoorError:
    error = DoorError(kind, type_, "")
    error.args = (told,)
    return error


def _told(kind: str, type_: str, text: str) -> str:
    line = " ".join(text.split())
    if kind == "missing":
        return f"SkyPilot is not installed ({line}); type: pip install 'crown-exp[sky]'"
    if kind == "version":
        return (
            "SkyPilot's API server is of another version than SkyPilot here; "
            f"type: sky api stop && sky api start ({line})"
        )
    if kind == "unreachable":
        return f"SkyPilot's API server does not answer; type: sky api status ({line})"
    return f"SkyPilot: {type_}: {line}"


class Child:
    """One process with SkyPilot in it. Calls may come from any thread; they are carried out one by one.

    python: one that has SkyPilot. home: $HOME for it, where SkyPilot keeps its state. door: the script.
    """

    def __init__(
        self,
        python: str = sys.executable,
        home: Path | None = None,
        *,
        door: Path = DOOR,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [python, "-u", str(door)]
        self._env = {
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            **(whole_environment() if env is None else env),
            **({"HOME": str(home)} if home else {}),
        }
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._said: deque[str] = deque(maxlen=20)
        self._count = 0

    def ask(self, do: str, seconds: float = _ANSWER_SECONDS, /, **arguments: Any) -> Any:
        """The door's answer. Raises NotStarted; DoorError; ExecutorError if it dies or needs over `seconds`.

        After either the next call starts a new process; what was asked of SkyPilot's server goes on there.
        """
        with self._turn:
            process = self._process or self._started(seconds)
            self._count += 1
            line = json.dumps({"id": self._count, "do": do, "with": arguments})
            assert process.stdin is not None
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            except OSError:
                raise self._died(process) from None
            return self._answer(process, self._count, seconds)

    def _started(self, seconds: float) -> subprocess.Popen[str]:
        self._lines = queue.SimpleQueue()
        self._said.clear()
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=self._env, text=True, encoding="utf-8", errors="replace",
                start_new_session=True,  # Ctrl-C is for us: a request in the middle is not to be cut off
            )  # fmt: skip
        except OSError as error:
            raise self._useless(f"cannot be started ({error.strerror})") from None
        assert process.stdout is not None and process.stderr is not None
        for target, arguments in (
            (_read, (process.stdout, self._lines)),
            (_keep, (process.stderr, self._said)),
        ):
            threading.Thread(target=target, args=arguments, daemon=True).start()
        self._process = process
        try:
            self._answer(process, 0, seconds)
        except ExecutorError as error:
            if self._command[0] == sys.executable:
                raise
            missing = isinstance(error, DoorError) and error.kind == "missing"
            why = "has no SkyPilot" if missing else f"does not begin as one does: {error}"
            raise self._useless(why) from None
        return process

    def _useless(self, why: str) -> NotStarted:
        what = "set it to a Python that has SkyPilot, or unset it"
        return NotStarted(f"CROWN_SKY__PYTHON={self._command[0]} {why}; {what}")

    def _answer(self, process: subprocess.Popen[str], number: int, seconds: float) -> Any:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self._end(process)
            raise ExecutorError(
                f"SkyPilot did not answer within {seconds:.0f} s; what was asked may still happen"
            ) from None
        if not line:
            raise self._died(process)
        try:
            told = json.loads(line)
            if told["id"] < number:  # to a question whose asker was interrupted, as by Ctrl-C
                return self._answer(process, number, seconds)
            if told["id"] != number:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            self._end(process)
            raise ExecutorError(
                f"SkyPilot's process said something odd: {line.strip()[:200]}"
            ) from None
        if (error := told.get("error")) is not None:
            if number == 0:
                self._end(process)
            raise DoorError(error["kind"], error["type"], error["text"])
        return told["answer"]

    def _died(self, process: subprocess.Popen[str]) -> ExecutorError:
        self._end(process)
        last = next((line for line in reversed(self._said) if line.strip()), "").strip()
        return ExecutorError(
            f"SkyPilot's process ended with code {process.returncode}"
            + (f": {last[:300]}" if last else "")
        )

    def _end(self, process: subprocess.Popen[str]) -> None:
        self._process = None
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def busy(self) -> bool:
        """Whether a question waits for its answer."""
        return self._turn.locked()

    def close(self) -> None:
        """End the process, if there is one. What it asked SkyPilot's server for goes on.

        A question that is not answered yet is cut off: its asker is told that the process died.
        """
        answered = self._turn.acquire(timeout=_CLOSE_SECONDS)
        try:
            process = self._process
            if process is not None and answered:
                self._end(process)
            elif process is not None:
                process.kill()
        finally:
            if answered:
                self._turn.release()


def _read(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")


def _keep(stream: IO[str], said: deque[str]) -> None:
    with stream:
        said.extend(stream)
