"""Real processes that want one run: at any time, one has it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from crown_exp.errors import Superseded
from crown_exp.folder import AttemptRecord, RunPaths
from crown_exp.storage import machine
from crown_exp.storage.file import FileStore
from crown_exp.storage.runs import claim_attempt

ROOT = Path(__file__).parents[2]
ROUNDS = 40

# Reads ids of runs, tries to begin an attempt of each, says which it got, and lives on.
STARTER = """
import os, sys
from datetime import UTC, datetime
import anyio
from crown_exp.errors import Superseded
from crown_exp.folder import AttemptRecord
from crown_exp.storage import Portal, machine
from crown_exp.storage.file import FileStore
from crown_exp.storage.runs import claim_attempt

def refuse(*args):
    raise PermissionError(1, "no links here")

if sys.argv[2] == "no":
    os.link = refuse
store, here, pid = FileStore(sys.argv[1]), machine.here(), os.getpid()
started = machine.process_started(pid)

def build(run, number):
    return AttemptRecord(
        run, number, datetime.now(UTC), here.host, pid, started, here.boot_id, None, {}, {}
    )

with Portal() as portal:
    print("up", flush=True)
    for line in sys.stdin:
        run = line.strip()
        try:
            claimed = portal.call(claim_attempt, store, run, lambda number: build(run, number), here)
            print(claimed.attempt, flush=True)
        except Superseded:
            print("refused", flush=True)
"""


@dataclass
class Starter:
    """A process that can be told to start a run."""

    process: subprocess.Popen[str]

    def tell(self, run: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{run}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, run: str) -> str:
        self.tell(run)
        return self.hear()


@contextmanager
def starter(root: Path, links: str = "yes") -> Iterator[Starter]:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(root), links],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        found = Starter(process)
        assert found.hear() == "up"
        try:
            yield found
        finally:
            process.kill()


def own_attempt(run: str, number: int, pid: int, started: float | None) -> AttemptRecord:
    here = machine.here()
    return AttemptRecord(
        run, number, datetime.now(UTC), here.host, pid, started, here.boot_id, None, {}, {}
    )


def claim_here(store: FileStore, run: str) -> int:
    async def claim() -> int:
        pid = os.getpid()
        record = await claim_attempt(
            store,
            run,
            lambda number: own_attempt(run, number, pid, machine.process_started(pid)),
            machine.here(),
        )
        return record.attempt

    return anyio.run(claim)


@pytest.mark.parametrize("links", ["yes", "no"])
def test_of_two_that_start_at_once_one_goes_on(tmp_path: Path, links: str) -> None:
    store = FileStore(tmp_path)
    with starter(tmp_path, links) as one, starter(tmp_path, links) as other:
        for number in range(ROUNDS):
            run = f"r1-{number}"
            one.tell(run)
            other.tell(run)
            assert sorted([one.hear(), other.hear()]) == ["1", "refused"]
            listed = [entry.path for entry in anyio.run(store.list, RunPaths(run).attempts)]
            assert listed == [RunPaths(run).attempt(1)]


def test_of_two_that_find_a_dead_holder_one_goes_on(tmp_path: Path) -> None:
    with starter(tmp_path) as one, starter(tmp_path) as other:
        runs = [f"r1-{number}" for number in range(ROUNDS)]
        with starter(tmp_path) as holder:
            assert [holder.start(run) for run in runs] == ["1"] * ROUNDS
            assert one.start(runs[0]) == "refused"
            holder.process.kill()
            holder.process.wait()
        for run in runs:
            one.tell(run)
            other.tell(run)
            assert sorted([one.hear(), other.hear()]) == ["2", "refused"]


def test_a_killed_holder_gives_the_run_up_at_once_a_stopped_one_does_not(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    with starter(tmp_path) as holder:
        assert holder.start("r1") == "1"
        with pytest.raises(Superseded, match=rf"attempt 1 on \S+ \(pid {holder.process.pid}\)"):
            claim_here(store, "r1")
        holder.process.send_signal(signal.SIGSTOP)
        with pytest.raises(Superseded):
            claim_here(store, "r1")
        holder.process.kill()
        if hasattr(os, "waitid"):  # dead, and not yet reaped by its parent
            os.waitid(os.P_PID, holder.process.pid, os.WEXITED | os.WNOWAIT)
        else:
            holder.process.wait()
        assert claim_here(store, "r1") == 2
