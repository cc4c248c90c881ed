"""Processes whose cost is counted: started, waited for, and held to the exit code they should have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]
CHANGED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME", "PYTHONPATH", "HYDRA_FULL_ERROR")


class Cost(NamedTuple):
    """What a process took. cpu: user and system seconds, its own children included; wall: seconds."""

    cpu: float
    wall: float
    started: float
    output: str


def python(*arguments: str, home: Path, cwd: Path = CHECKOUT, expect: Sequence[int] = (0,)) -> Cost:
    """Run `python …` as a user would, with `home` as its CROWN_HOME. output: its stdout.

    Raises RuntimeError, with what it said, if it ends with another exit code than `expect`: what fails
    early is not fast.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, env=environment(home),
            stdin=subprocess.DEVNULL, stdout=out, stderr=err,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in expect:
            raise RuntimeError(
                f"python {' '.join(arguments)} ended with {process.returncode}\n{text(out)}{text(err)}"
            )
        return Cost(usage.ru_utime + usage.ru_stime, wall, started, text(out))


def task_result(*overrides: str, home: Path) -> Any:
    """The result of a run in a process of its own: `task._target_` times what needs a real `run`."""
    code = "import crown_exp, json, sys; print(json.dumps(crown_exp.start(*sys.argv[1:]).result))"
    return json.loads(python("-c", code, *overrides, home=home).output)


def environment(home: Path) -> dict[str, str]:
    """This environment without what a user's shell lacks or our settings would pick up."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not (name.startswith("CROWN_") or name in CHANGED)
    }
    return kept | {"CROWN_HOME": str(home)}


def text(file: Any) -> str:
    """All that was written to a file."""
    file.seek(0)
    return file.read().decode(errors="replace")  # type: ignore[no-any-return]
