"""How a run ended, read from its folder or from what a stock launcher brings back."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from hydra.core.utils import JobReturn, JobStatus

from crown_exp.errors import ConfigError, CrownError
from crown_exp.folder import AttemptRecord, EndRecord, ResultRecord, RunPaths, RunRecord, encode
from crown_exp.launch.collect import RunFailed, collect, ended_elsewhere, launched
from crown_exp.launch.invocation import Ended, Invocation
from crown_exp.storage import open_blobs
from crown_exp.storage.runs import write_end, write_result, write_run

Collected = Callable[..., Ended]

NOW = datetime(2026, 11, 22, tzinfo=UTC)
RUN = RunRecord(
    id="r261122-abcdef", name="x lr=1", experiment="x", user="u", created=NOW, task="m.train",
    signature="v1:0", overrides=["+experiment=x", "optimizer.lr=1"], tags=[], seed=0, compute="local",
    sweep=None, lineage=None, code=None, bound=[],
)  # fmt: skip


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    """What is said of a run whose process had a status, given its result or the reason of its end record."""

    def told(
        status: int, result: object = None, reason: str | None = None, began: bool = False
    ) -> Ended:
        return anyio.run(story, status, result, reason, began)

    async def story(status: int, result: object, reason: str | None, began: bool) -> Ended:
        blobs, run = open_blobs(tmp_path.as_uri()), RUN
        await write_run(blobs, run, b"{}")
        if began or reason is not None:
            attempt = AttemptRecord(
                run=run.id, attempt=1, started=NOW, host="h", pid=1, process_started=None,
                boot_id=None, job=None, numerics={}, versions={},
            )  # fmt: skip
            await blobs.put(RunPaths(run.id).attempt(1), encode(attempt))
        if result is not None:
            await write_result(blobs, ResultRecord(run.id, 1, 5, NOW, result))
        if reason is not None:
            end = EndRecord(
                run=run.id, attempt=1, ended=NOW, exit_code=status, step=5, reason=reason, error=None, code=None
            )  # fmt: skip
            await write_end(blobs, end)
        return await collect(blobs, run, status)

    return told


def test_a_result_is_brought_back(collected: Collected) -> None:
    ended = collected(0, {"accuracy": 0.5}, "completed")
    assert (ended.exit_code, ended.result, ended.error) == (0, {"accuracy": 0.5}, "")
    assert (ended.run, ended.overrides) == (RUN.id, ("+experiment=x", "optimizer.lr=1"))


def test_a_failure_has_the_reason_of_its_end_record(collected: Collected) -> None:
    ended = collected(79, reason="a loss is not finite")
    assert (ended.exit_code, ended.result, ended.error) == (79, None, "a loss is not finite")


def test_a_process_that_ended_before_its_attempt_began(collected: Collected) -> None:
    assert collected(2).error == "its process ended before the task began"


def test_a_process_that_ended_in_the_middle_of_its_attempt(collected: Collected) -> None:
    ended = collected(3, began=True)
    assert (ended.exit_code, ended.error) == (3, "its process ended without a word (exit code 3)")


@pytest.mark.parametrize(
    ("status", "code"), [(-signal.SIGINT, 130), (-signal.SIGTERM, 75), (-signal.SIGKILL, 80)]
)
def test_a_process_that_was_killed(collected: Collected, status: int, code: int) -> None:
    ended = collected(status)
    assert ended.exit_code == code
    assert signal.Signals(-status).name in ended.error


def test_what_a_stock_launcher_brings_back() -> None:
    job = JobReturn(overrides=["+experiment=x", "++optimizer.lr=1"], status=JobStatus.COMPLETED)
    job.return_value = 0.5
    assert ended_elsewhere(job) == Ended(
        "", "+experiment=x optimizer.lr=1", 0, 0.5, "", ("+experiment=x", "optimizer.lr=1")
    )
    job.status, job.return_value = JobStatus.FAILED, RunFailed("r1: diverged\nmore", 79)
    assert (ended_elsewhere(job).exit_code, ended_elsewhere(job).error) == (79, "r1: diverged")
    job.return_value = KeyError("x")
    assert ended_elsewhere(job).exit_code == 1


def test_errors_survive_the_way_back_from_a_worker() -> None:
    failed = pickle.loads(pickle.dumps(RunFailed("r1: diverged", 79)))
    assert (str(failed), failed.exit_code) == ("r1: diverged", 79)
    wrong = ConfigError.of("seed", "expected an int", "x.yaml:3")
    assert pickle.loads(pickle.dumps(wrong)).problems == wrong.problems


class Launcher:
    """What Hydra's launchers offer."""

    def __init__(self, *returned: JobReturn, error: Exception | None = None) -> None:
        self.returned, self.error = returned, error

    def launch(self, jobs: object, initial_job_idx: int) -> tuple[JobReturn, ...]:
        if self.error:
            raise self.error
        return self.returned


def test_what_a_foreign_launcher_cannot_do_is_one_line() -> None:
    invocation = Invocation(multirun=True, project=None)
    with pytest.raises(CrownError, match=r"^hydra/launcher \(.*test_collect\): no srun here$"):
        launched(invocation, Launcher(error=RuntimeError("no srun\nhere")), [[]], 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        launched(invocation, Launcher(error=ConfigError.of("a", "b")), [[]], 0)  # type: ignore[arg-type]


def test_what_a_launcher_does_not_note_itself_is_noted() -> None:
    invocation = Invocation(multirun=True, project=None)
    job = JobReturn(overrides=["seed=1"], status=JobStatus.COMPLETED)
    launched(invocation, Launcher(job, job), [[], []], 0)  # type: ignore[arg-type]
    assert [ended.name for ended in invocation.ended] == ["seed=1", "seed=1"]
