"""A real Slurm of two pretended nodes, for tests: dev/slurm.sh with a folder and ports of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "dev/slurm.sh"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")


def missing() -> str:
    """Why there can be no Slurm here, in one line; "" if there can."""
    path = f"/usr/sbin:{os.environ.get('PATH', '')}"
    lacking = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if lacking:
        return f"no {lacking[0]}: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.getuid() == 0 else "dev/slurm.sh needs root"


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for first in range(17100 + os.getpid() % 500 * 4, 32000, 4):
        try:
            for port in range(first, first + count):
                with socket.create_server(("127.0.0.1", port)):
                    pass
        except OSError:
            continue
        return first
    raise RuntimeError("no free ports")


@contextmanager
def cluster() -> Iterator[str]:
    """Inside, a Slurm is up; its SLURM_CONF."""
    folder = f"/dev/shm/crown-slurm-{os.getpid()}"
    settings = {
        "CROWN_SLURM_DIR": folder,
        "CROWN_SLURM_PORT": str(free_ports(3)),
        "CROWN_SLURM_KILL_WAIT": "5",
    }
    environment = {**os.environ, **settings}
    try:
        subprocess.run([SCRIPT, "up"], env=environment, check=True, stdout=subprocess.DEVNULL)
        yield f"{folder}/slurm.conf"
    finally:
        subprocess.run([SCRIPT, "down"], env=environment, check=True)
