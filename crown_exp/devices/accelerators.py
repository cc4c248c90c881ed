"""Which of a few accelerators this machine has, by the names that its driver and that clouds have for them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

ASK = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
ASK_SECONDS = 10.0
"""The first question to a driver wakes it, which takes seconds."""

MAKERS = frozenset({"NVIDIA", "TESLA", "GEFORCE", "QUADRO"})
"""Words of the driver's names that clouds leave out."""

TOLERANCE = 0.1
"""So far what a driver counts of a memory may be from the round number that it is sold by."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as its driver calls it: `NVIDIA A100-SXM4-40GB`. gib: of its memory, 0 if that is not told."""

    name: str
    gib: float = 0.0


def gpus() -> tuple[Gpu, ...] | None:
    """The NVIDIA GPUs of this machine; None if no driver tells. Takes up to ASK_SECONDS; no torch is needed."""
    try:
        done = subprocess.run(
            ASK, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = tuple(_gpu(line) for line in done.stdout.splitlines() if line.strip())
    return found or None


def _gpu(line: str) -> Gpu:
    name, _, memory = line.rpartition(",")
    told = re.fullmatch(r"\s*(\d{1,9})\s*MiB\s*", memory, re.ASCII)
    return Gpu(name.strip(), int(told[1]) / 1024) if told else Gpu(line.strip())


def fitting(accelerators: Collection[str], found: Sequence[Gpu]) -> list[str]:
    """Those of the accelerators (`A100-80GB:1`) that these GPUs may be, in order; [] if none of them.

    One that names its memory fits that alone, and then rather than one that does not. As many as there are
    count before others; machines that hold more than was asked for are not ruled out.
    """
    if not found:
        return []
    named = [it for it in accelerators if _is_named(it, found[0])]
    sized = [it for it in named if _gigabytes(it) is not None]
    counted = [it for it in sized or named if _count(it) == len(found)]
    return counted or sized or named


def _is_named(accelerator: str, gpu: Gpu) -> bool:
    """Whether a GPU is of the model, and has the memory if that is named."""
    words = [word for word in re.split(r"[^A-Z0-9]+", gpu.name.upper()) if word not in MAKERS]
    joined = {
        "".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, len(words) + 1)
    }
    wanted = _gigabytes(accelerator)
    has = gpu.gib or _gigabytes(gpu.name)
    fits = wanted is None or not has or abs(has - wanted) <= TOLERANCE * wanted
    return _model(accelerator) in joined and fits


def _model(accelerator: str) -> str:
    """`A100` of `A100-80GB:1`: what comes before the first dash."""
    return accelerator.partition(":")[0].partition("-")[0].upper()


def _gigabytes(name: str) -> int | None:
    """80 of `A100-80GB:1`; None if no memory is named."""
    found = re.search(r"(?<![A-Z0-9])(\d{1,4})GB(?![A-Z0-9])", name.upper(), re.ASCII)
    return int(found[1]) if found else None


def _count(accelerator: str) -> int:
    """How many of them: 1 where that is not said."""
    count = accelerator.partition(":")[2]
    return int(count) if re.fullmatch(r"\d{1,6}", count, re.ASCII) else 1
