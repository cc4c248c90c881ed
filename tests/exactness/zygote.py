"""Processes that begin in 30 ms: one that has imported torch and the runner forks, and the child is the run.

    with Zygote.preloaded() as zygote:
        child = zygote.start("run", str(folder), cwd=root, out=log)
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL

A child is a fresh process in all that matters: the zygote has run no operation of torch and has no second
thread, so no pool of threads is inherited; random numbers are seeded by the run; at the end threads are
joined and atexit's functions called. Two zygotes have two hash seeds: what hangs on the order of a set
differs between them.

This module is both ends: the tests', and (`python -m tests.exactness.zygote torch …`) the zygote itself.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Sums are added in one order, and importing numpy starts no threads."""

DEVELOPERS = ("CROWN_", "WANDB_", "AWS_", "HYDRA_FULL_ERROR")
"""How variables begin that are a developer's own settings and keys: no test, and no child, is to see one."""

RUNNER = (
    *("crown_exp.__main__", "crown_exp.cli.run", "crown_exp.runner.attempt", "numpy", "numpy.random"),
    *("crown_exp.registry.opening", "crown_exp.registry.ingest", "crown_exp.storage.database.sqlite"),
    *("alembic.command", "alembic.runtime.migration", "aiosqlite", "sqlalchemy.ext.asyncio"),
)  # fmt: skip
TORCH = (
    *RUNNER,
    *("torch", "torch._dynamo", "torch.utils.data", "torch.multiprocessing", "torch.optim.swa_utils"),
    *("crown_exp.data", "crown_exp.data.batches", "crown_exp.devices.precision"),
    *("crown_exp.devices.building", "crown_exp.devices.probe"),
)  # fmt: skip
EXAMPLES = (
    *TORCH, "sklearn.datasets", "sklearn.model_selection", "gymnasium.vector", "gymnasium.wrappers.vector"
)  # fmt: skip
"""What is imported before: by every run, by one with torch, by the four experiments (not they themselves)."""

LONGEST = 120.0
"""Seconds after which a child that is waited for is a failure of the test."""


# --- the tests' end -------------------------------------------------------------------------------------


@dataclass
class Child:
    """A process that a zygote forked. out: what it printed, both streams."""

    zygote: Zygote
    pid: int
    out: Path

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended: its pid may be another's then."""
        self.zygote.request(signal=[self.pid, int(number)])

    def wait(self, seconds: float = LONGEST) -> int | None:
        """Its exit code, -n if signal n ended it; None if it lives on after so many seconds."""
        return self.zygote.ended(self.pid, seconds)

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.out.read_text(errors="replace")


@dataclass
class Zygote:
    """The process that forks, seen from a test. codes: of the children that have ended."""

    process: subprocess.Popen[bytes]
    pids: list[int] = field(default_factory=list)
    codes: dict[int, int] = field(default_factory=dict)
    unread: bytes = b""

    @classmethod
    def preloaded(
        cls, modules: Iterable[str] = TORCH, *, hash_seed: int = 0, python: str = sys.executable
    ) -> Zygote:
        """A zygote that has imported these modules, in the environment of the tests."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(DEVELOPERS)}
        environment = own | ONE_THREAD | {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [python, "-m", __name__, *modules], cwd=ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        return cls(process)

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(
        self, *arguments: str, cwd: Path, out: Path,
        environment: Mapping[str, str] = {}, seams: Sequence[Any] = (),
    ) -> Child:  # fmt: skip
        """`python -m crown_exp …` in a directory, with more in its environment."""
        out.parent.mkdir(parents=True, exist_ok=True)
        known = len(self.pids)
        self.request(
            argv=arguments, cwd=str(cwd), out=str(out), environment=dict(environment), seams=list(seams)
        )  # fmt: skip
        while len(self.pids) == known:
            self.read(LONGEST)
        return Child(self, self.pids[-1], out)

    def ended(self, pid: int, seconds: float) -> int | None:
        """The code of a child; None if it has not ended by then."""
        deadline = time.monotonic() + seconds
        while pid not in self.codes and (left := deadline - time.monotonic()) > 0:
            self.read(left)
        return self.codes.get(pid)

    def request(self, **what: Any) -> None:
        """Say something to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def read(self, seconds: float) -> None:
        """Hear what it has to say, for so long at most."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            return
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            raise RuntimeError(f"the zygote ended with {self.process.wait()}")
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in map(json.loads, lines):
            if "began" in line:
                self.pids.append(line["began"])
            else:
                self.codes[line["pid"]] = line["code"]

    def close(self) -> None:
        """End it, and with it whatever child lives."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self.process.wait(LONGEST)


# --- the zygote's end -----------------------------------------------------------------------------------


def serve() -> dict[str, Any]:
    """Fork a child for each request on standard input; in the child, return its request.

    Ends the process, and every child that lives, when nobody asks any more.
    """
    living: set[int] = set()
    wake, waker = os.pipe()
    for descriptor in (wake, waker):
        os.set_blocking(descriptor, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    waiting = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            with suppress(BlockingIOError):
                os.read(wake, 4096)
            report_ended(living)
        if 0 not in ready:
            continue
        data = os.read(0, 65536)
        if not data:
            leave(living)
        *lines, waiting = (waiting + data).split(b"\n")
        for request in map(json.loads, lines):
            if "signal" in request:
                pid, number = request["signal"]
                if pid in living:
                    os.kill(pid, number)
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(wake)
                os.close(waker)
                return request  # type: ignore[no-any-return]
            living.add(pid)
            tell(began=pid)


def report_ended(living: set[int]) -> None:
    """Reap the children that have ended, end what is left of their groups, and tell their codes."""
    for pid in sorted(living):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            living.discard(pid)
            end_group(pid)
            tell(pid=pid, code=os.waitstatus_to_exitcode(status))


def end_group(pid: int) -> None:
    """Kill the processes that a child started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def leave(living: set[int]) -> NoReturn:
    """End all children, then itself."""
    for pid in living:
        end_group(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os._exit(0)


def tell(**what: int) -> None:
    """Say something to the tests; that they are gone is noticed by the next read."""
    with suppress(BrokenPipeError):
        os.write(1, json.dumps(what).encode() + b"\n")


def become(request: Mapping[str, Any]) -> None:
    """Make a forked child what `python -m crown_exp …` would be."""
    from tests.exactness.seams import place

    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command handles it
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    sys.argv = ["crown-exp", *request["argv"]]
    sys.path[0] = request["cwd"]
    tempfile.tempdir = None  # what is in its environment decides
    nowhere = os.open(os.devnull, os.O_RDONLY)
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor, target in ((nowhere, 0), (out, 1), (out, 2)):
        os.dup2(descriptor, target)
    os.close(nowhere)
    os.close(out)
    place(request["seams"])


def carry_out() -> NoReturn:
    """The command, and the end of the interpreter but for the 0.3 s of taking its modules apart."""
    try:
        importlib.import_module("crown_exp.__main__").main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def refuse_threads() -> None:
    """Exit if the process has another thread, which no child would have."""
    tasks = Path("/proc/self/task")
    if tasks.is_dir() and len(list(tasks.iterdir())) > 1:
        sys.exit("the zygote has threads: something that it imported started them")


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    refuse_threads()
    gc.freeze()  # else a child's collector, and its end, would copy every page that it looks at
    become(serve())
    carry_out()
