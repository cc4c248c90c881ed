"""What `show` says of the job of a run that is, or was, elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from crown_exp.cli.ages import age

if TYPE_CHECKING:
    from crown_exp.folder import JobRecord


@dataclass(frozen=True, slots=True)
class ToldJob:
    """A job as it is recorded; nobody is asked about it. usd: of all the run's attempts; None: none is paid."""

    record: JobRecord
    usd: float | None = None

    def text(self, now: datetime) -> str:
        """`12 on a100_spot (skypilot), submitted 3 min ago, $0.42 so far, with OMP_NUM_THREADS=4`."""
        job = self.record
        where = f"{job.target} ({job.executor})" if job.target else job.executor
        name = job.told or "without a name"
        asked = "submitted" if job.ticket or job.handle else "recorded, not known to be submitted,"
        parts = [f"{name} on {where}", f"{asked} {age(job.created, now)}"]
        if self.usd is not None:
            from crown_exp.compute.money import in_dollars

            parts.append(in_dollars(self.usd))
        if job.env:
            parts.append("with " + " ".join(f"{name}={value}" for name, value in job.env.items()))
        over = f"; over: {job.reason or 'cancelled'}" if job.cancelled else ""
        return ", ".join(parts) + over

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        job = self.record
        return {
            "number": job.number, "executor": job.executor, "target": job.target, "job": job.job,
            "handle": job.handle, "created": job.created, "over": job.cancelled, "reason": job.reason,
            "usd": self.usd, "env": job.env,
        }  # fmt: skip
