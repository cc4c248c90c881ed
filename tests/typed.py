"""A command at a terminal of its own, for tests."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import termios
import time

from tests.running import Project


class Typed:
    """A command at a terminal."""

    def __init__(self, project: Project, *words: str, **env: str) -> None:
        ours, theirs = pty.openpty()
        self.terminal, self.said = ours, ""
        self.process = project.popen(
            *words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=env,
            preexec_fn=_controls,
        )  # fmt: skip
        os.close(theirs)

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < until, self.said
            self.read(0.2)

    def read(self, seconds: float) -> None:
        if select.select([self.terminal], [], [], seconds)[0]:
            try:
                self.said += os.read(self.terminal, 4096).decode(errors="replace")
            except OSError:  # nobody has the other end
                time.sleep(0.05)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def end(self) -> int:
        until = time.monotonic() + 120
        while self.process.poll() is None:
            assert time.monotonic() < until, self.said
            self.read(0.1)
        self.read(0.1)
        os.close(self.terminal)
        return self.process.returncode


def _controls() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
