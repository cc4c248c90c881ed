"""A run that was sent to where its compute target is."""

from __future__ import annotations

from dataclasses import dataclass

from crown_exp.compute.base import Executor, Target
from crown_exp.folder import JobRecord, RunRecord


@dataclass(frozen=True)
class Sent:
    """A run with the job that carries it out. number: its place among the jobs of the command, from 0.

    job: with its handle, unless the run was over already. executor: who holds that job.
    """

    number: int
    record: RunRecord
    job: JobRecord
    target: Target
    executor: Executor
