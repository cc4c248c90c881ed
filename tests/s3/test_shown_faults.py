"""Who waits for a slow bucket sees on a terminal how far it has come; what is no terminal gets none of it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import Project
from tests.s3.buckets import Bucket
from tests.s3.faults import Fault
from tests.s3.servers import Proxy

TASKS = """
import os
import signal

import torch


def train(run, turns: int = 4):
    net = torch.nn.Linear(1000, 1000)
    run.track(net=net)
    for turn in run.steps(turns):
        if turn == int(os.environ.get("STOP_AT", "-1")):
            os.kill(os.getpid(), signal.SIGTERM)
        run.log(turn=turn)
"""
SLOW = Fault("delay", method="GET", path="packs/", seconds=1.5)
"""Longer than what nobody needs to be told of, and than no server of the tests takes by itself."""


@contextmanager
def terminal() -> Iterator[tuple[int, list[bytes]]]:
    """A file that is a terminal, and what was written to it so far; all of it after the block."""
    ours, theirs = os.openpty()
    said: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                said.append(data)
        except OSError:  # Linux says so that nobody has the other end open any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield theirs, said
    finally:
        os.close(theirs)
        reader.join(60)
        os.close(ours)


@pytest.fixture
def project(tmp_path: Path, bucket: Bucket) -> Project:
    """A run that was stopped, in a bucket."""
    made = Project.write(tmp_path / "project", TASKS)
    made.environment = bucket.environment() | {"TERM": "xterm", "COLUMNS": "100"}
    stopped = made.crown(
        "task=train", "device=cpu", "checkpoint.mirror=false", env={"STOP_AT": "2"}
    )
    assert stopped.returncode == 75, stopped.stdout
    return made


def on_a_terminal(project: Project, env: dict[str, str], *words: str) -> str:
    """What a word that succeeds writes to a terminal."""
    with terminal() as (tty, said):
        assert project.popen(*words, env=env, stdout=tty, stderr=tty).wait(120) == 0
    return b"".join(said).decode()


def a_bar_that_went(text: str, what: str) -> bool:
    """Whether there was a line of progress, and it was taken away before what follows."""
    bar = rf"\r\x1b\[K\[=+ *\] {what} [\d.]+ [kM]?B of [\d.]+ MB  [\d.]+ [kM]?B/s"
    return bool(re.search(bar, text)) and "\r\x1b[K" in text.rpartition(what)[2]


def test_verify(project: Project, bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    env, words = bucket.behind(proxy).access, ("checkpoints", "verify", "latest")
    proxy.arm(SLOW)
    said = tmp_path / "said"
    with said.open("wb") as err:
        child = project.popen(*words, env=env, stderr=err)
        out, _ = child.communicate(timeout=120)
    assert child.returncode == 0 and "every byte is what was written" in out
    assert said.read_bytes() == b"" and "\x1b" not in out and proxy.fired()
    assert a_bar_that_went(on_a_terminal(project, env, *words), "verifying")


def test_the_restore_of_a_run(project: Project, bucket: Bucket, proxy: Proxy) -> None:
    env = bucket.behind(proxy).access
    proxy.arm(SLOW)
    done = project.crown("resume", "latest", env=env | {"STOP_AT": "3"})
    assert done.returncode == 75 and "goes on after step 3" in done.stdout, done.stdout
    assert not any(sign in done.stdout for sign in ("restoring", "\r", "\x1b")) and proxy.fired()
    assert a_bar_that_went(on_a_terminal(project, env, "resume", "latest"), "restoring")
