"""Plans for tests: two targets that are billed, one that is not, and this machine."""

from __future__ import annotations

from typing import Any

from crown_exp.compute.base import Candidate, Target
from crown_exp.config import schema
from crown_exp.folder import Facts
from crown_exp.launch.remote.base import Earlier, Fate, Guess, Planned
from tests.unit.launch.test_submit import order
from tests.unit.registry.folders import RUN

HERE = Target()
A100 = Target("a100_spot", "skypilot", ("A100:1",), spot=True)
H100 = Target("h100", "skypilot", ("H100:1",))
CLUSTER = Target("slurm", "slurm", shared=True)


def candidate(
    region: str, usd: float | None, machine: str = "a2-highgpu-1g", **changes: Any
) -> Candidate:
    fields: dict[str, Any] = {
        "cloud": "gcp",
        "accelerators": "A100:1",
        "spot": True,
        "enabled": True,
    }
    return Candidate(region=region, machine=machine, usd_per_hour=usd, **fields | changes)


OFFERS = {
    "a100_spot": (candidate("us-central1", 1.15), candidate("europe-west4", 1.25)),
    "h100": (candidate("us-central1", 11.06, "a3-highgpu-1g", accelerators="H100:1", spot=False),),
    "slurm": (candidate("", 0.0, "", cloud="slurm", accelerators="", spot=False),),
    "local": (),
}
WATCHER = candidate("us-east-1", 0.19, "m6i.xlarge", cloud="aws", accelerators="", spot=False)


def planned(
    number: int = 1,
    target: Target = A100,
    hours: float | None = None,
    fate: Fate = Fate.NEW,
    runs: int = 3,
    **changes: Any,
) -> Planned:
    """A run of a plan. hours: guessed. changes: budget, in dollars; candidates; name."""
    name = changes.pop("name", f"run {number}")
    candidates = changes.pop("candidates", OFFERS.get(target.name, ()))
    budget = schema.defaults()["budget"] | changes
    launched = not target.is_here and fate in (Fate.NEW, Fate.RESUMED)
    return Planned(
        number,
        order(f"seed={number}", name=name, budget=budget),
        target,
        candidates if launched else (),
        None if fate is Fate.NEW else Earlier(Facts(RUN), fate),
        None if hours is None else Guess(hours, runs),
    )
