"""Watching on a real terminal, in a process of its own: the table, Ctrl-C, what is asked, the exit code."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.launch.remote.base import Submitted
from tests.elsewhere import Elsewhere, on_skypilot, until

WATCHES = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its Ctrl-C is ours
from crown_exp.compute.base import Target
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.watching.leaving import AGAIN_SECONDS, see_through
from crown_exp.launch.remote.watching.watch import Watch
from crown_exp.launch.session import open_session
from crown_exp.storage.runs import read_facts

with open_session(None) as session:
    runs = []
    for run in sys.argv[2:]:
        facts = session.portal.call(read_facts, session.blobs, run)
        runs.append(Submitted(facts.run, facts.jobs[0], Target(name="a100_spot", executor="skypilot")))
    again = float(sys.argv[1]) or AGAIN_SECONDS
    ended = see_through(Watch(session, runs), again_seconds=again)
print(*(f"{it.run} ended with {it.exit_code}: {it.result or it.error}" for it in ended), sep="\\n")
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    with on_skypilot(tmp_path, monkeypatch) as made:
        yield made


class Terminal:
    """A process on a terminal of its own, as a person has it.

    again: for so many seconds a second Ctrl-C may follow; 0: as long as it is for users.
    """

    def __init__(self, far: Elsewhere, *sent: Submitted, again: float = 0.0) -> None:
        self.file, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", WATCHES, str(again), *(it.record.id for it in sent)],
            cwd=far.root, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "CROWN_STORAGE__ROOT": str(far.root / "store"), "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        self.said, self.is_open = "", True

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.close()

    def read(self) -> None:
        try:
            self.said += os.read(self.file, 65536).decode(errors="replace")
        except OSError:  # its end, on Linux
            time.sleep(0.05)

    def until(self, *words: str) -> None:
        """Read until it has said all of these."""

        def done() -> bool:
            self.read()
            return all(word in self.said for word in words)

        until(done)

    def types(self, text: str) -> None:
        os.write(self.file, text.encode())

    def close(self) -> int:
        """The code with which the process ends once nobody looks."""
        if self.is_open:
            self.is_open = False
            os.close(self.file)
        return self.process.wait(120)


def test_a_table_until_all_are_over(far: Elsewhere, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    sent = far.send("lasts", {"task": {"ends": str(ends)}})
    run = sent.record.id
    with Terminal(far, sent) as terminal:
        terminal.until("ETA", "running", "loss 1", "\x1b[2A\r\x1b[J")  # over its two lines
        ends.touch()
        terminal.until("completed", f"{run} ended with 0: ended")


def test_ctrl_c_leaves_and_the_run_goes_on(far: Elsewhere) -> None:
    sent = far.send("lasts")
    run = sent.record.id
    with Terminal(far, sent) as terminal:
        terminal.until("running")
        terminal.types("\x03")
        terminal.until("detached", f"crown-exp logs -f {run}")
        terminal.until(f"{run} ended with 130: detached; it goes on")  # after five seconds
    assert not far.is_over(sent) and not far.job(run).cancelled


def test_ctrl_c_twice_asks_and_ends_them(far: Elsewhere) -> None:
    sent = [far.send("lasts"), far.send("lasts")]
    with Terminal(far, *sent, again=300.0) as terminal:  # nobody is late, however busy it is here
        terminal.until("running")
        terminal.types("\x03")
        terminal.until("asks whether to cancel")
        terminal.types("\x03")
        terminal.until("cancel 2 runs? [y/N] ")
        terminal.types("y\r")
        terminal.until(*(f"{it.record.id} ended with 130: cancelled by the user" for it in sent))
    assert all(far.job(it.record.id).cancelled for it in sent)
    until(lambda: all(map(far.is_over, sent)))


def test_a_terminal_that_is_closed_loses_nothing(far: Elsewhere) -> None:
    """SIGHUP: the run goes on, and a later command finds it."""
    sent = far.send("lasts")
    with Terminal(far, sent) as terminal:
        terminal.until("running")
        assert terminal.close() == -signal.SIGHUP
    assert not far.is_over(sent) and not far.job(sent.record.id).cancelled
    done = subprocess.run(
        [sys.executable, "-m", "crown_exp", "cancel", "--yes", sent.record.id],
        cwd=far.root, env={**os.environ, "CROWN_STORAGE__ROOT": str(far.root / "store")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "was told to end" in done.stdout
    until(lambda: far.is_over(sent))
