"""Start a run on this machine in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def run_process(folder: str) -> int:
    """`python -m crown_exp run <folder>` in the current directory, with this terminal; its exit code.

    A process ended by a signal gives minus its number. Ctrl-C reaches the child by itself: here it is
    only waited for, so that it can end its run.
    """
    child = subprocess.Popen([sys.executable, "-m", "crown_exp", "run", folder])
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue
