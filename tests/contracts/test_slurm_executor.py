"""Jobs on a real Slurm: the contract of executors, signals, what is run again, and secrets."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crown_exp.compute.base import (
    OVER,
    Executor,
    Job,
    JobState,
    JobStatus,
    NotSubmitted,
    Target,
)
from crown_exp.compute.executors.slurm import SlurmExecutor
from crown_exp.testing import ExecutorContract
from tests.slurm import cluster, missing

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

TELLS = """
import signal, sys, time
from pathlib import Path
got = []
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    assert signal.getsignal(number) is signal.SIG_DFL
    signal.signal(number, lambda number, frame: got.append(signal.Signals(number).name))
starts = Path("starts")
first = not starts.exists()
starts.open("a").write("start\\n")
print("up", flush=True)
until = time.monotonic() + 60
while first and not got and time.monotonic() < until:
    time.sleep(0.05)
time.sleep(2.5 if first else 0)
print("got", *got, flush=True)
sys.exit(75 if first else 0)
"""
ENDS = """
import sys
from pathlib import Path
starts = Path("starts")
code = 0 if starts.exists() else int(sys.argv[1])
starts.open("a").write("start\\n")
sys.exit(code)
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[str]:
    with cluster() as conf:
        yield conf


@pytest.fixture(autouse=True)
def on_slurm(slurm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm)


class TestSlurmExecutor(ExecutorContract):
    @pytest.fixture
    def open_executor(self, tmp_path: Path) -> Callable[[], Executor]:
        return lambda: SlurmExecutor(tmp_path / "slurm")

    @pytest.fixture
    def target(self) -> Target:
        return Target(name="slurm", executor="slurm", cpus=1)


class Bed:
    """An executor and jobs of one Python program each, which begin in a folder of the test."""

    def __init__(self, root: Path) -> None:
        self.root, self.executor = root, SlurmExecutor(root / "slurm")
        self.made = 0

    def submit(self, code: str, *arguments: str, name: str = "", **options: object) -> str:
        self.made += 1
        target = Target(name="slurm", executor="slurm", cpus=1)
        job = Job(
            name or f"{self.root.name}-{self.made}", (sys.executable, "-c", code, *arguments), target,
            directory=self.root, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        return self.executor.submit(job)

    def wait(self, handle: str, states: frozenset[JobState] = OVER) -> JobStatus:
        until = time.monotonic() + 120
        while (status := self.executor.poll([handle])[handle]).state not in states:
            assert time.monotonic() < until, (status, self.executor.log(handle))
            time.sleep(0.1)
        return status

    def watch(self, handle: str) -> list[JobStatus]:
        """All that is said of a job until it is over, asked for as often as possible."""
        until, seen = time.monotonic() + 120, list[JobStatus]()
        while not seen or seen[-1].state not in OVER:
            assert time.monotonic() < until, (seen[-1], self.executor.log(handle))
            seen.append(self.executor.poll([handle])[handle])
        return seen

    def wait_until_up(self, handle: str) -> None:
        until = time.monotonic() + 30
        while "up" not in self.executor.log(handle):
            assert time.monotonic() < until, self.executor.poll([handle])
            time.sleep(0.05)

    @property
    def starts(self) -> int:
        return len((self.root / "starts").read_text().splitlines())


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    bed = Bed(tmp_path)
    yield bed
    bed.executor.cancel([job.handle for job in bed.executor.jobs()])


def command(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("code", [75, 80])
def test_a_job_that_was_preempted_or_has_no_store_is_run_again(bed: Bed, code: int) -> None:
    handle = bed.submit(ENDS, str(code))
    status = bed.wait(handle)
    assert (status.state, status.exit_code, status.recoveries) == (JobState.SUCCEEDED, 0, 1)
    assert bed.starts == 2


def test_a_job_that_is_told_of_its_time_limit_is_never_taken_for_dead(bed: Bed) -> None:
    handle = bed.submit(TELLS)
    bed.wait_until_up(handle)
    command("scancel", "--batch", "--signal=USR2", handle)  # what Slurm sends before a limit
    seen = bed.watch(handle)
    assert (seen[-1].state, seen[-1].recoveries) == (JobState.SUCCEEDED, 1)
    assert not {status.state for status in seen[:-1]} & OVER
    assert "got SIGUSR2" in bed.executor.log(handle)
    assert bed.starts == 2


@pytest.mark.parametrize("code", [1, 2, 76, 77, 78, 79])
def test_no_other_end_is_run_again(bed: Bed, code: int) -> None:
    status = bed.wait(bed.submit(ENDS, str(code)))
    assert (status.state, status.exit_code, status.recoveries) == (JobState.FAILED, code, 0)
    assert bed.starts == 1


def test_a_cancelled_job_may_save_is_not_run_again_and_hides_no_other(bed: Bed) -> None:
    other = bed.submit("import time; time.sleep(6)", name="the-other")
    handle = bed.submit(TELLS)
    bed.wait_until_up(handle)
    command("scancel", handle)  # behind our back
    assert bed.wait(handle).state is JobState.CANCELLED
    # SIGTERM once, whoever Slurm sent it to; SIGUSR2 says nothing new to a run that is asked to stop
    assert "got SIGTERM SIGUSR2" in bed.executor.log(handle)
    assert bed.wait(other).state is JobState.SUCCEEDED
    assert bed.starts == 1


def test_a_job_is_what_it_was_when_it_was_submitted(bed: Bed) -> None:
    hold = [bed.submit("import time; time.sleep(3)", name=f"hold-{n}") for n in range(8)]
    handle = bed.submit(ENDS, "0")
    assert bed.executor.poll([handle])[handle].state is JobState.WAITING
    for script in (bed.root / "slurm").glob("*/*.sh"):
        script.write_text("exit 9")  # Slurm has a copy
    assert bed.wait(handle).state is JobState.SUCCEEDED
    assert {bed.wait(other).state for other in hold} == {JobState.SUCCEEDED}


def test_no_secret_is_where_others_read(bed: Bed) -> None:
    handle = bed.submit(
        "import os, time; print('up', len(os.environ['TOKEN']), flush=True); time.sleep(60)",
        secrets={"TOKEN": "hush-hush"},
    )  # fmt: skip
    bed.wait_until_up(handle)
    assert "up 9" in bed.executor.log(handle)
    shown = command("scontrol", "show", "job", "-dd", handle)
    script = command("scontrol", "write", "batch_script", handle, "-")
    arguments = command("ps", "-eo", "args")
    assert "hush-hush" not in shown + script + arguments
    folder = bed.executor.folders.folder(handle)
    assert folder is not None and folder.stat().st_mode & 0o077 == 0
    for file in folder.rglob("*"):
        assert file.stat().st_mode & 0o077 == 0 or b"hush-hush" not in file.read_bytes()


def test_a_name_that_is_taken_is_refused(bed: Bed) -> None:
    handle = bed.submit("import time; time.sleep(60)", name="taken")
    with pytest.raises(NotSubmitted, match=f"^taken: job {handle} has this name already$"):
        bed.submit("pass", name="taken")


def test_an_end_is_known_when_slurm_has_forgotten_the_job(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = bed.submit("raise SystemExit(5)")
    bed.wait(handle)
    monkeypatch.setattr("crown_exp.compute.executors.slurm.executor.read_queue", dict)
    status = SlurmExecutor(bed.root / "slurm").poll([handle])[handle]
    assert (status.state, status.exit_code) == (JobState.FAILED, 5)
