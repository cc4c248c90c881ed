"""Workers that die or hang: named, with what they were at, and nothing of them is left."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any

import pytest

from crown_exp.data import Batches, Stream, workers
from crown_exp.errors import TaskError
from tests.pages import ROOT

AT = 9
HERE = os.getpid()


def leave() -> None:
    os._exit(3)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # pytest's faulthandler would tell it
    os.kill(os.getpid(), signal.SIGSEGV)


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    if path := os.environ.get("CROWN_TEST_HANGS"):
        Path(path).write_text(str(os.getpid()))
    threading.Event().wait()


class Failing:
    """Something befalls the worker that reads sample AT."""

    def __init__(self, fate: Callable[[], None]) -> None:
        self.fate = fate

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> int:
        if i == AT and os.getpid() != HERE:
            self.fate()
        return i


class Flowing(Failing):
    def __iter__(self) -> Iterator[int]:
        yield from map(super().__getitem__, range(20))

    __getitem__ = None  # type: ignore[assignment]
    __len__ = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def only_who_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So long as a worker does not hang, it is waited for long: on a busy machine it is only slow."""
    hangs, answer = tmp_path / "hangs", workers._Worker.answer
    monkeypatch.setenv("CROWN_TEST_HANGS", str(hangs))

    def patient(self: workers._Worker, timeout: float | None) -> Any:
        until = time.monotonic() + 120
        while not wait([self._pipe, self._process.sentinel], 0.02):
            if hangs.exists() and hangs.read_text() == str(self._process.pid):
                break
            assert time.monotonic() < until, "a worker neither answers nor hangs"
        return answer(self, timeout)

    monkeypatch.setattr(workers._Worker, "answer", patient)


def batches(fate: Callable[[], None], workers: int = 2, **options: Any) -> Batches:
    return Batches(
        Failing(fate), batch_size=2, seed=0, train=False, workers=workers, name="mine", **options
    )


@pytest.mark.parametrize(
    ("fate", "why"),
    [
        (leave, "exit code 3"),
        (killed, "killed by signal 9: out of memory?"),
        (crash, "killed by signal 11: a crash in native code"),
    ],
)
def test_a_worker_that_dies_is_named_with_its_batch(fate: Callable[[], None], why: str) -> None:
    found = []
    with pytest.raises(TaskError) as caught:
        for batch in batches(fate):
            found.append(batch.tolist())
    before = [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert found == before[: len(found)]  # what was ready and not taken went with the worker
    assert re.sub(r"pid \d+", "pid 1", str(caught.value)) == (
        f"mine: worker 0 (pid 1) died ({why}) while building batch 4 of epoch 0: samples [8, 9]"
    )


@pytest.mark.usefixtures("only_who_hangs")
def test_a_worker_that_hangs_is_named_and_killed() -> None:
    with pytest.raises(TaskError) as caught:
        list(batches(deaf, workers=3, timeout=0.5))
    assert re.sub(r"pid \d+", "pid 1", str(caught.value)) == (
        "mine: worker 1 (pid 1) gave no answer for 0.5 s while building batch 4 of epoch 0: "
        "samples [8, 9]; it was ended (device.worker_timeout is how long is waited)"
    )


def test_a_loop_that_is_left_while_a_worker_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crown_exp.data.workers.GRACE_SECONDS", 0.3)
    for turn, _ in enumerate(batches(deaf, timeout=None)):
        if turn == 3:
            break


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"batch_size": 2}, "batch 4 of epoch 0: samples 8 to 9"),
        ({"batch_size": None}, "batch 9 of epoch 0"),
    ],
)
def test_the_worker_of_a_stream_that_dies(options: dict[str, Any], what: str) -> None:
    stream = Stream(Flowing(killed), seed=0, train=False, workers=4, name="mine", **options)
    with pytest.raises(TaskError, match=rf"mine: worker 0 \(pid \d+\) died .* building {what}$"):
        list(stream)


@pytest.mark.usefixtures("only_who_hangs")
def test_the_worker_of_a_stream_that_hangs() -> None:
    stream = Stream(Flowing(deaf), batch_size=2, seed=0, train=False, workers=1, timeout=0.5)
    with pytest.raises(TaskError, match=r"no answer for 0\.5 s while building batch 4 of epoch 0"):
        list(stream)


SCRIPT = """
import threading
from crown_exp.data import worker_process, workers
workers.GRACE_SECONDS, worker_process.LOOK_SECONDS = 0.3, 0.1
from crown_exp.data import Batches
from tests.faults.test_worker_faults import deaf, batches
loop = iter(batches(deaf, workers=2))
for _ in range(4):
    next(loop)
print("ready", flush=True)
"""


@contextmanager
def script(body: str = "") -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT + textwrap.dedent(body)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


def test_a_process_ends_though_a_worker_of_a_loop_it_holds_hangs() -> None:
    with script() as (process, said):
        assert said.read() == "ready\n"  # to its end: nobody holds it any more
        assert process.wait() == 0


def test_workers_end_when_the_process_is_killed_though_one_hangs() -> None:
    with script("threading.Event().wait()") as (process, said):
        assert said.readline() == "ready\n"
        process.kill()
        assert said.read() == ""  # as soon as the last worker is gone


def test_batches_that_are_kept_until_no_file_can_be_opened() -> None:
    body = """
        import resource, torch
        from crown_exp.data import Batches
        from crown_exp.errors import TaskError
        del loop
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            kept = list(Batches(torch.zeros(200, 1), batch_size=1, seed=0, train=False, workers=1))
        except TaskError as error:
            print(error)
        """
    with script(body) as (process, said):
        lines = said.read()
        assert "data: too many open files: each tensor that comes from workers is one" in lines
        assert process.wait() == 0
