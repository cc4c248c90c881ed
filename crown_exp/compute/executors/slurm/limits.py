"""What a cluster's partitions can give at all. Slurm lets a job that asks for more wait for ever."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crown_exp.compute.base import Target
from crown_exp.config.nearest import did_you_mean

FIELDS = "%P|%l|%c|%m|%G"
"""What `sinfo -o` is asked for."""

ANY_GPU = "gpu"
"""The name of an accelerator that stands for whatever GPU there is: `gpu:2`."""

_GPUS = re.compile(r"\bgpu:(?:([^:,()]+):)?(\d+)")
_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


@dataclass(frozen=True)
class Machines:
    """Equal machines of a partition.

    seconds: how long a job may run at a stretch, inf if there is no limit. gpus: how many of each kind a
    machine has, by their names in small letters; "" is the kind of those without a name.
    """

    partition: str
    default: bool
    seconds: float
    cpus: int
    memory_mb: int
    gpus: Mapping[str, int]


def parse(text: str) -> list[Machines]:
    """What sinfo prints; lines that are not as expected are left out."""
    rows = (line.split("|", 4) for line in text.splitlines())
    return [found for row in rows if len(row) == 5 and (found := _machines(*row)) is not None]


def _machines(partition: str, limit: str, cpus: str, memory: str, gres: str) -> Machines | None:
    numbers = [text.rstrip("+") for text in (cpus, memory)]
    if not all(re.fullmatch(r"\d+", text, re.ASCII) for text in numbers):
        return None
    gpus: dict[str, int] = {}
    for kind, count in _GPUS.findall(gres):
        gpus[kind.lower()] = gpus.get(kind.lower(), 0) + int(count)
    name = partition.rstrip("*")
    return Machines(
        name, name != partition, _seconds(limit), int(numbers[0]), int(numbers[1]), gpus
    )


def _seconds(text: str) -> float:
    """Slurm's `1-00:00:00`, `8:00:00` or `30:00`; inf for `infinite` and all else."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return math.inf
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def beyond(target: Target, cluster: Sequence[Machines]) -> list[tuple[str, str]]:
    """What the target asks for that no machine of its partition gives: keys of `compute`, and a line each.

    Nothing if it names no partition and the cluster has no default: sbatch says so.
    """
    names = dict.fromkeys(machines.partition for machines in cluster)
    if target.partition is not None and target.partition not in names:
        return [("partition", f"no such partition; {did_you_mean(target.partition, names)}")]
    chosen = [
        machines
        for machines in cluster
        if (
            machines.default if target.partition is None else machines.partition == target.partition
        )
    ]
    if not chosen:
        return []
    found = list(_one_by_one(target, chosen))
    if not found and not any(_fits(target, machines) for machines in chosen):
        what = f"no machine of {chosen[0].partition} has that many CPUs, memory and GPUs at once"
        found.append(("partition", what))
    return found


def _one_by_one(target: Target, chosen: Sequence[Machines]) -> Iterator[tuple[str, str]]:
    name = chosen[0].partition
    seconds = max(machines.seconds for machines in chosen)
    if target.time is not None and target.time > seconds:
        minutes = math.floor(seconds / 60)
        most = f"{minutes // 60} hours" if minutes % 60 == 0 else f"{minutes} minutes"
        what = f"{name} lets a job run for {most} at a stretch; expected at most that"
        yield ("time", f"{what}: a run that is stopped by it goes on in its next start")
    cpus = max(machines.cpus for machines in chosen)
    if (target.cpus or 0) > cpus:
        yield ("cpus", f"no machine of {name} has {target.cpus} CPUs; expected at most {cpus}")
    memory = max(machines.memory_mb for machines in chosen) // 1024
    if (target.memory_gb or 0) > memory:
        what = f"no machine of {name} has {target.memory_gb} GB; expected at most {memory}"
        yield ("memory_gb", what)
    if target.accelerators and not any(_has_gpus(target, machines) for machines in chosen):
        yield ("accelerators", _no_such_gpu(target, name, chosen))


def _no_such_gpu(target: Target, name: str, chosen: Sequence[Machines]) -> str:
    kind, count = gpus_of(target)
    known = dict.fromkeys(kind for machines in chosen for kind in machines.gpus)
    if not known:
        return f"no machine of {name} has a GPU; expected another compute.partition, or []"
    if kind == ANY_GPU or kind in known:
        return f"no machine of {name} has {count} of {kind}; expected fewer"
    named = [each or ANY_GPU for each in known]
    return f"no machine of {name} has a GPU called {kind}; {did_you_mean(kind, named)}"


def _fits(target: Target, machines: Machines) -> bool:
    return (
        (target.cpus or 0) <= machines.cpus
        and (target.memory_gb or 0) * 1024 <= machines.memory_mb
        and _has_gpus(target, machines)
    )


def _has_gpus(target: Target, machines: Machines) -> bool:
    if not target.accelerators:
        return True
    kind, count = gpus_of(target)
    has = sum(machines.gpus.values()) if kind == ANY_GPU else machines.gpus.get(kind, 0)
    return has >= count


def gpus_of(target: Target) -> tuple[str, int]:
    """The kind, in small letters as clusters name them, and the number of GPUs that are asked for first."""
    kind, _, count = target.accelerators[0].partition(":")
    return kind.lower(), int(count or 1)
