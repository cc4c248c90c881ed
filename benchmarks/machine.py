"""Where the figures come from."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "hydra-core", "omegaconf")
PEERS = (
    "wandb",
    "mlflow-skinny",
    "tensorboard",
    "trackio",
    "accelerate",
    "lightning",
    "transformers",
    "torchdata",
    "safetensors",
)


def describe() -> dict[str, str]:
    """The processor and the versions that matter."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": f"{processor()}, {cores} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    } | {name: version(name) for name in (*PACKAGES, *filter(installed, PEERS))}


def installed(name: str) -> bool:
    """Whether a distribution is."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def load() -> str:
    """The load average over 1, 5 and 15 minutes."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def processor() -> str:
    """What the system calls its processor."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()
