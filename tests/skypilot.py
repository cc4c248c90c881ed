"""The real SkyPilot on the real Slurm of dev/skypilot.sh, for tests with CROWN_TEST_SKYPILOT=1."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from crown_exp.compute.base import Executor, Target
from crown_exp.compute.executors.skypilot.child import Child
from crown_exp.compute.executors.skypilot.executor import SkyPilotExecutor

SCRIPT = Path(__file__).parents[1] / "dev/skypilot.sh"
TARGET = Target(
    name="slurm_spot", executor="skypilot", infra=("slurm/crown-dev/spot",), cpus=1, memory_gb=1
)

# Taken before a test's environment is made clean.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name.startswith("CROWN_SKY")}

marks = [
    pytest.mark.full,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("CROWN_TEST_SKYPILOT") != "1",
        reason="a real SkyPilot takes minutes a job: set CROWN_TEST_SKYPILOT=1 (root, Debian)",
    ),
]


def script(*words: str) -> str:
    """What dev/skypilot.sh prints."""
    done = subprocess.run(
        [SCRIPT, *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )
    return done.stdout


def _status() -> str:
    done = subprocess.run(
        [SCRIPT, "status"], capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}
    )
    return done.stdout or "down"


@contextmanager
def bed() -> Iterator[Mapping[str, str]]:
    """Inside, SkyPilot is up; the variables that lead to it. One that was up before stays up."""
    was_up = "down" not in _status()
    try:
        lines = script("up").splitlines()
        yield dict(line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
    finally:
        if not was_up:
            script("down")


def open_executor(variables: Mapping[str, str]) -> Executor:
    """One whose SkyPilot is that of the bed."""
    environment = {**os.environ, **variables}
    home = Path(variables["CROWN_SKY__HOME"])
    return SkyPilotExecutor(Child(variables["CROWN_SKY__PYTHON"], home, env=environment))
