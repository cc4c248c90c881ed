"""A compute target in SkyPilot's words, and SkyPilot's offers in ours. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crown_exp.compute.base import Candidate, Target
from crown_exp.config.nearest import did_you_mean
from crown_exp.errors import Problem

RECOVERED = (75, 80)
"""Exit codes after which SkyPilot starts a job again: saved and stopped, the store was away."""

OWN = frozenset({"slurm", "kubernetes", "ssh"})
"""Infrastructure of one's own: no catalogue, no price."""


def cloud_of(infra: str) -> str:
    """`aws` of `aws/us-east-1`."""
    return infra.partition("/")[0].lower()


def resources(target: Target) -> list[dict[str, Any]]:
    """Arguments of sky.Resources for each choice that the target leaves, in fall-back order.

    All places are tried for the first accelerator before any is for the second. A target with `avoid` must
    have been `narrowed` before: SkyPilot itself can only be told where to go, not where not to.
    """
    return [
        _choice(target, accelerators, infra)
        for accelerators in target.accelerators or (None,)
        for infra in target.infra or (None,)
    ]


def _choice(target: Target, accelerators: str | None, infra: str | None) -> dict[str, Any]:
    on_slurm = infra is not None and cloud_of(infra) == "slurm"
    fields: dict[str, Any] = {
        "accelerators": accelerators,
        "infra": infra,
        "cpus": f"{target.cpus}+" if target.cpus else None,
        "memory": f"{target.memory_gb}+" if target.memory_gb else None,
        "disk_size": target.disk_gb,
        "image_id": target.image,
        "max_hourly_cost": target.max_usd_per_hour and target.max_usd_per_hour / target.nodes,
        # Slurm refuses the word: what may be taken back there is a partition, named in infra
        "use_spot": target.spot and not on_slurm,
    }
    if target.managed:
        fields["job_recovery"] = recovery(target)
    else:
        fields["autostop"] = {"idle_minutes": target.autostop_minutes, "down": True}
    return {name: value for name, value in fields.items() if value is not None}


def recovery(target: Target) -> dict[str, Any]:
    """How SkyPilot goes on after a preemption: one way for all choices of a target, as it demands."""
    # FAILOVER forgets the partition: on Slurm, seen, a job came back on the default one.
    slurm = any(cloud_of(infra) == "slurm" for infra in target.infra)
    same = target.recovery == "same" and not slurm
    return {
        "strategy": "FAILOVER" if same else "EAGER_NEXT_REGION",
        "max_restarts_on_errors": 0,
        "recover_on_exit_codes": list(RECOVERED),
    }


def clouds(target: Target, enabled: Iterable[str]) -> list[str]:
    """Clouds with prices in which the target may run, of those that are enabled."""
    named = [cloud_of(infra) for infra in target.infra] or sorted(enabled)
    avoided = {infra.lower() for infra in target.avoid}
    return [c for c in dict.fromkeys(named) if c not in OWN and c not in avoided]


def candidates(
    target: Target, offers: Mapping[str, Sequence[Mapping[str, Any]]], enabled: Iterable[str]
) -> list[Candidate]:
    """The machines that the target may be given, in the order in which they are tried.

    offers: rows of `door.offers` by accelerators, "" for none, with $/h of one machine. What a target names
    in infra is tried in that order, cheapest first within it; else the cheapest is first.
    """
    known = set(enabled)
    found: list[Candidate] = []
    for accelerators in target.accelerators or ("",):
        rows = sorted(offers.get(accelerators, ()), key=lambda row: float(row["usd_per_hour"]))
        for infra in target.infra or ("",):
            if infra and cloud_of(infra) in OWN:
                found.append(_own(target, accelerators, infra, known))
                continue
            own = () if infra else sorted(known & OWN)  # SkyPilot takes what costs nothing first
            found += [_own(target, accelerators, cloud, known) for cloud in own]
            found += [_sold(target, accelerators, row, known) for row in rows if _at(infra, row)]
    return [c for c in dict.fromkeys(found) if _allowed(target, c)]


def _own(target: Target, accelerators: str, infra: str, enabled: set[str]) -> Candidate:
    cloud, _, region = infra.partition("/")
    return Candidate(
        cloud=cloud.lower(), region=region, machine="", accelerators=accelerators,
        spot=target.spot, usd_per_hour=0.0, enabled=cloud.lower() in enabled,
    )  # fmt: skip


def _sold(
    target: Target, accelerators: str, row: Mapping[str, Any], enabled: set[str]
) -> Candidate:
    return Candidate(
        cloud=row["cloud"], region=row["region"], machine=row["machine"], accelerators=accelerators,
        spot=target.spot, usd_per_hour=float(row["usd_per_hour"]) * target.nodes,
        enabled=row["cloud"] in enabled,
    )  # fmt: skip


def _at(infra: str, row: Mapping[str, Any]) -> bool:
    cloud, _, region = infra.partition("/")
    region = region.partition("/")[0]  # a zone costs what its region does
    return not infra or (row["cloud"] == cloud.lower() and region in ("", "*", row["region"]))


def _allowed(target: Target, candidate: Candidate) -> bool:
    avoided = {infra.lower() for infra in target.avoid}
    limit, price = target.max_usd_per_hour, candidate.usd_per_hour
    return (
        candidate.cloud not in avoided
        and f"{candidate.cloud}/{candidate.region}".lower() not in avoided
        and (limit is None or price is None or price <= limit)
    )


def narrowed(target: Target, found: Iterable[Candidate]) -> Target:
    """The target with `avoid` turned into the places that are left, in the order of the candidates.

    Raises nothing: without a place left its infra is empty, which `problems` must have refused.
    """
    if not target.avoid:
        return target
    places = dict.fromkeys(
        f"{c.cloud}/{c.region}" if c.region else c.cloud for c in found if c.enabled
    )
    return dataclasses.replace(target, infra=tuple(places), avoid=())


def unknown_accelerators(target: Target, names: Iterable[str]) -> list[Problem]:
    """One problem for each accelerator that no catalogue knows, with the nearest names."""
    known = {name.lower(): name for name in names}
    return [
        Problem(
            "compute.accelerators",
            f"no cloud in SkyPilot's catalogue sells {name!r}; {did_you_mean(name, known.values())}",
        )
        for name in (wanted.partition(":")[0] for wanted in target.accelerators)
        if name.lower() not in known
    ]


def offer_fields(target: Target, accelerators: str) -> dict[str, Any]:
    """Arguments of sky.Resources to ask for offers: what decides which machines fit, and their price."""
    bare = dataclasses.replace(target, max_usd_per_hour=None, image=None, disk_gb=None)
    fields = _choice(bare, accelerators or None, None)
    return {name: fields[name] for name in fields if name not in ("job_recovery", "autostop")}
