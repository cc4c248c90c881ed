"""Start a run on this machine in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys


def start_process(folder: str) -> subprocess.Popen[bytes]:
    """`python -m crown_exp run <folder>` in the current directory, with this terminal.

    Its return code is its exit code, or minus the number of the signal that ended it.
    """
    # Ctrl-C while its Python starts, before it can answer, waits until it can.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return subprocess.Popen([sys.executable, "-m", "crown_exp", "run", folder])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
