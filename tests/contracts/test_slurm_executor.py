"""Jobs on a real Slurm: the contract of executors, signals, what is run again, and secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crown_exp.compute.base import (
    OVER,
    Executor,
    ExecutorError,
    Job,
    JobState,
    JobStatus,
    NotSubmitted,
    Target,
)
from crown_exp.compute.executors.slurm import SlurmExecutor
from crown_exp.compute.executors.slurm.submission import TRAVELS
from crown_exp.testing import ExecutorContract
from tests.slurm import cluster, missing

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

TARGET = Target(name="slurm", executor="slurm", cpus=1)
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

UP = "import os, time; print('up', os.getpid(), os.getppid(), flush=True); time.sleep(60)"


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
        return TARGET


class Bed:
    """An executor and jobs of one Python program each, which begin in a folder of the test."""

    def __init__(self, root: Path) -> None:
        self.root, self.executor = root, SlurmExecutor(root / "slurm")
        self.made = 0

    def submit(self, code: str, *arguments: str, name: str = "", **options: object) -> str:
        self.made += 1
        target = options.pop("target", TARGET)
        job = Job(
            name or f"{self.root.name}-{self.made}", (sys.executable, "-c", code, *arguments),
            directory=self.root, target=target, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        return self.executor.submit(job)

    def wait(self, handle: str, states: frozenset[JobState] = OVER) -> JobStatus:
        until = time.monotonic() + 120
        while (status := self.executor.poll([handle])[handle]).state not in states:
            assert time.monotonic() < until, (status, self.executor.log(handle))
            time.sleep(0.1)
        return status

    def watch(self, handle: str, patience: float = 120) -> list[JobStatus]:
        """All that is said of a job until it is over, asked for as often as possible."""
        until, seen = time.monotonic() + patience, list[JobStatus]()
        while not seen or seen[-1].state not in OVER:
            assert time.monotonic() < until, (seen[-1], self.executor.log(handle))
            seen.append(self.executor.poll([handle])[handle])
        return seen

    def wait_until_up(self, handle: str) -> None:
        until = time.monotonic() + 30
        while "up" not in self.executor.log(handle):
            assert time.monotonic() < until, self.executor.poll([handle])
            time.sleep(0.05)

    def pids(self, handle: str) -> tuple[int, int]:
        """Of a job that runs UP: the process of the command, and that of the batch script."""
        self.wait_until_up(handle)
        _, first, second = self.executor.log(handle).split()
        return int(first), int(second)

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


def test_secrets_are_gone_when_the_job_is_over(bed: Bed) -> None:
    ends = bed.submit("import os; print(os.environ['TOKEN'])", secrets={"TOKEN": "hush-hush"})
    killed = bed.submit(UP, secrets={"TOKEN": "hush-hush"}, name="killed")
    bed.wait_until_up(killed)
    file = bed.root / "slurm/killed/secrets.json"
    assert file.stat().st_mode & 0o777 == 0o600
    bed.wait(ends)
    command("scancel", "--signal=KILL", "--full", killed)
    bed.wait(killed)
    assert not list(bed.root.glob("slurm/*/secrets.json"))
    assert not [file for file in bed.root.glob("slurm/*/*.json") if "hush" in file.read_text()]


def test_a_later_start_has_the_secrets_too(bed: Bed) -> None:
    code = "import os; assert os.environ['TOKEN'] == 'hush-hush'\n" + ENDS
    assert bed.wait(bed.submit(code, "75", secrets={"TOKEN": "hush-hush"})).exit_code == 0
    assert bed.starts == 2


def test_nothing_else_of_our_environment_travels(
    bed: Bed, slurm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hush-hush")
    monkeypatch.setenv("SBATCH_EXPORT", "ALL")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    tells = "import json, os; print(json.dumps(dict(os.environ)))"
    handle = bed.submit(tells, env={"MINE": "a b"}, name="tells")
    assert bed.wait(handle).state is JobState.SUCCEEDED
    seen = json.loads(bed.executor.log(handle))
    own = {"MINE": "a b", "CROWN_JOB": "tells", "LC_ALL": "C.UTF-8", "HOME": os.environ["HOME"]}
    assert own.items() <= seen.items()
    by_slurm = (
        "SLURM",
        "ENVIRONMENT",
        "HOSTNAME",
        "PWD",
        "SHLVL",
        "_",
        "SUBMITIT",
        "TMPDIR",
        "CUDA_VISIBLE",
        "GPU_DEVICE",
    )
    rest = {name for name in seen if not TRAVELS.fullmatch(name) and not name.startswith(by_slurm)}
    assert rest == {"MINE", "CROWN_JOB"}
    kept = [file for file in Path(slurm).parent.rglob("*") if file.is_file()]
    assert not [file for file in kept if b"hush-hush" in file.read_bytes()]


# --- what is killed outright ----------------------------------------------------------------------------


def test_a_command_that_is_killed_is_not_run_again(bed: Bed) -> None:
    handle = bed.submit(UP)
    os.kill(bed.pids(handle)[0], signal.SIGKILL)
    status = bed.wait(handle)
    assert (status.state, status.exit_code, status.recoveries) == (JobState.FAILED, 137, 0)
    assert status.reason.startswith("its process was ended by SIGKILL")


def test_a_job_whose_batch_process_is_killed_is_not_run_again(bed: Bed) -> None:
    handle = bed.submit(UP)
    command_, batch = bed.pids(handle)
    os.kill(batch, signal.SIGKILL)
    status = bed.wait(handle)
    assert (status.state, status.exit_code) == (JobState.FAILED, None)
    assert status.reason == "Slurm ended it: FAILED"
    assert bed.executor.log(handle).count("up") == 1
    until = time.monotonic() + 30
    while Path(f"/proc/{command_}").exists():  # a run is asked to save
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_job_that_slurm_is_told_to_kill_is_cancelled(bed: Bed) -> None:
    handle = bed.submit(UP)
    bed.wait_until_up(handle)
    command("scancel", "--signal=KILL", handle)
    status = bed.wait(handle)
    assert (status.state, status.reason) == (JobState.CANCELLED, "Slurm ended it: CANCELLED")
    assert bed.executor.log(handle).count("up") == 1


def test_a_job_whose_node_goes_down_is_run_again_elsewhere(bed: Bed) -> None:
    handle = bed.submit(TELLS, secrets={"TOKEN": "hush-hush"})
    bed.wait_until_up(handle)
    node = command("squeue", "-h", "-j", handle, "-o", "%N").strip()
    command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        assert bed.wait(handle, frozenset({JobState.RECOVERING})).recoveries == 0
        status = bed.wait(handle)
    finally:
        back_up(node)
    assert (status.state, status.recoveries) == (JobState.SUCCEEDED, 1), bed.executor.log(handle)
    assert "got SIGTERM" in bed.executor.log(handle)
    assert bed.starts == 2


def back_up(node: str) -> None:
    """A node that was said to be down is up as soon as it has told Slurm so."""
    until = time.monotonic() + 60
    while "idle" not in command("sinfo", "-h", "-n", node, "-p", "cpu", "-o", "%t"):
        subprocess.run(
            ["scontrol", "update", f"NodeName={node}", "State=RESUME"], capture_output=True
        )
        assert time.monotonic() < until
        time.sleep(0.5)


@pytest.mark.parametrize("mode", ["REQUEUE", "CANCEL"])
def test_a_job_that_others_take_the_place_of_saves_and_goes_on(bed: Bed, mode: str) -> None:
    command("scontrol", "update", "PartitionName=spot", f"PreemptMode={mode}")
    spot = replace(TARGET, partition="spot")
    handle = bed.submit(TELLS, target=spot, secrets={"TOKEN": "hush-hush"})
    bed.wait_until_up(handle)
    whole = replace(TARGET, cpus=4)
    others = [
        bed.submit("import time; time.sleep(8)", name=f"other-{n}", target=whole) for n in range(2)
    ]
    seen = bed.watch(handle)
    assert (seen[-1].state, seen[-1].exit_code) == (JobState.SUCCEEDED, 0), bed.executor.log(handle)
    assert seen[-1].recoveries == 1
    assert "got SIGTERM" in bed.executor.log(handle)
    assert not {status.state for status in seen[:-1]} & OVER
    assert bed.starts == 2
    assert {bed.wait(other).state for other in others} == {JobState.SUCCEEDED}


def test_a_job_that_saves_only_when_its_time_is_over_goes_on_too(bed: Bed) -> None:
    """Slurm calls it over (TIMEOUT) when it tells it so: too late for the job to ask for another start."""
    late = TELLS.replace('print("up"', 'signal.signal(signal.SIGUSR2, signal.SIG_IGN)\nprint("up"')
    handle = bed.submit(late.replace("+ 60", "+ 200"), target=replace(TARGET, time=60.0))
    seen = bed.watch(handle, patience=300)
    assert (seen[-1].state, seen[-1].recoveries) == (JobState.SUCCEEDED, 1), bed.executor.log(
        handle
    )
    assert "got SIGTERM" in bed.executor.log(handle)
    assert bed.starts == 2


# --- what is given up, refused or lost -------------------------------------------------------------------


def test_a_store_that_is_never_there_is_given_up(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crown_exp.compute.executors.slurm.jobs.MOST_LOST", 2)
    handle = bed.submit("print('up', flush=True); raise SystemExit(80)")
    bed.wait(handle, frozenset({JobState.RECOVERING}))
    status = bed.wait(handle)
    assert (status.state, status.exit_code, status.recoveries) == (JobState.FAILED, 80, 1)
    assert status.reason == (
        "its store was not to be had 2 times in a row; the next launch starts it again"
    )


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"partition": "cpux"}, "compute.partition: no such partition; did you mean cpu?"),
        ({"time": 2 * 86400.0}, "compute.time: cpu lets a job run for 24 hours at a stretch; expected"),
        ({"cpus": 5}, "compute.cpus: no machine of cpu has 5 CPUs; expected at most 4"),
        ({"memory_gb": 900}, "compute.memory_gb: no machine of cpu has 900 GB; expected at most 3"),
        ({"accelerators": ("A100:1",)}, "compute.accelerators: no machine of cpu has a GPU; expected"),
    ],
)  # fmt: skip
def test_what_no_machine_gives_is_refused(bed: Bed, asked: dict[str, Any], line: str) -> None:
    target = Target(name="slurm", executor="slurm", **asked)
    assert [str(problem).startswith(line) for problem in bed.executor.problems(target)] == [True]
    with pytest.raises(NotSubmitted) as caught:
        bed.submit("pass", target=target, name="asks", secrets={"TOKEN": "hush-hush"})
    assert str(caught.value).startswith(f"asks: {line}")
    assert "\n" not in str(caught.value)
    assert not bed.executor.jobs()
    assert not (bed.root / "slurm/asks").exists()


def test_what_sbatch_refuses_is_told_in_its_words(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SBATCH_CONSTRAINT", "no-such-feature")
    with pytest.raises(NotSubmitted) as caught:
        bed.submit("pass", name="asks", secrets={"TOKEN": "hush-hush"})
    assert str(caught.value) == (
        "asks: sbatch: Batch job submission failed: Invalid feature specification"
    )
    assert capfd.readouterr() == ("", "")
    assert not (bed.root / "slurm/asks").exists()


def test_a_job_whose_submitter_died_is_found_again(bed: Bed) -> None:
    """Killed after sbatch had answered, and before the answer was noted."""
    handle = bed.submit("print('up', flush=True); import time; time.sleep(3)", name="found")
    (bed.root / "slurm/.handles" / handle).unlink()
    (bed.root / "slurm/found/handle").unlink()
    later = SlurmExecutor(bed.root / "slurm")
    assert [job.handle for job in later.jobs() if job.name == "found"] == [handle]
    assert later.handle(handle) == handle
    assert bed.wait(handle).state is JobState.SUCCEEDED
    assert "up" in later.log(handle)


def test_an_answer_that_was_lost_is_no_refusal(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch fails after Slurm has taken the job, as it does when its answer is late."""
    real = shutil.which("sbatch")
    fails = bed.root / "bin/sbatch"
    fails.parent.mkdir()
    fails.write_text(f'#!/bin/sh\n{real} "$@" >/dev/null; echo timed out >&2; exit 1\n')
    fails.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fails.parent}:{os.environ['PATH']}")
    assert bed.wait(bed.submit("pass")).state is JobState.SUCCEEDED


def test_a_cluster_that_does_not_answer_refuses_nothing(
    bed: Bed, slurm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Path(slurm).read_text()
    away = re.sub("SlurmctldPort=.*", "SlurmctldPort=1\nMessageTimeout=2", there)
    (bed.root / "slurm.conf").write_text(away)
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(bed.root / "slurm.conf"))
        with pytest.raises(ExecutorError):
            bed.submit("pass")


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


def test_many_submits_ask_slurm_once(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = bed.root / "bin", bed.root / "asked"
    folder.mkdir()
    for name in ("squeue", "sinfo", "sbatch"):
        wrapper = folder / name
        wrapper.write_text(f'#!/bin/sh\necho {name} >> {asked}\nexec {shutil.which(name)} "$@"\n')
        wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    handles = [bed.submit("import time; time.sleep(60)", name=f"one-{n}") for n in range(4)]
    assert sorted(asked.read_text().split()) == ["sbatch"] * 4 + ["sinfo", "squeue"]
    with pytest.raises(NotSubmitted, match=f"^one-2: job {handles[2]} has this name already$"):
        bed.submit("pass", name="one-2")
    assert {job.handle for job in bed.executor.jobs()} == {*handles}


def test_what_is_left_of_old_jobs_is_looked_through_once(bed: Bed) -> None:
    bed.submit("pass", name="first")
    left = bed.root / "slurm/left"
    left.mkdir()
    os.utime(left, (0, 0))
    bed.submit("pass", name="second")
    assert left.exists()
    Bed(bed.root).submit("pass", name="third")
    assert not left.exists()


def test_a_name_that_another_process_took_meanwhile_is_refused(bed: Bed) -> None:
    bed.submit("pass", name="first")
    handle = Bed(bed.root).submit("import time; time.sleep(60)", name="taken")
    with pytest.raises(NotSubmitted, match=f"^taken: job {handle} has this name already$"):
        bed.submit("pass", name="taken")


def test_the_name_of_a_job_that_is_over_is_free(bed: Bed) -> None:
    bed.wait(bed.submit("raise SystemExit(1)", name="again"))
    assert bed.wait(bed.submit("pass", name="again")).state is JobState.SUCCEEDED
