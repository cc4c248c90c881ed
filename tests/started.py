"""Processes that a test starts: if it fails they end with it, else a later test would be blamed."""

from __future__ import annotations

import subprocess

STARTED: list[subprocess.Popen[str]] = []
"""By the test that runs now; see tests/conftest.py."""


def noted(child: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """The process, once it is known that it is the test's."""
    STARTED.append(child)
    return child


def end_all() -> None:
    """Kill those that live, and close what leads to them."""
    for child in STARTED:
        if child.poll() is None:
            child.kill()
            child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()
