"""Which of the machines that a job may be given this one is, and what is paid for it."""

from __future__ import annotations

from collections.abc import Sequence

from crown_exp.config.settings import Machine
from crown_exp.devices.accelerators import fitting, gpus
from crown_exp.folder import JobRecord
from crown_exp.folder.records import Rate


def place_of(job: JobRecord | None, at: Machine) -> Rate | None:
    """The machine that is paid for: the job's rate for where and what it is; None if nothing is paid.

    at: where it is. Where it has a driver that tells its accelerator, and several are left, that one's. Where
    several fit nevertheless, or it is not told where this is, the dearest: a cap is rather kept too early.
    """
    rates = rates_at(job.rates if job is not None else (), at)
    if _dearest(rates) is not None and len({it["accelerators"] for it in rates}) > 1:
        fit = fitting([it["accelerators"] for it in rates], gpus() or ())
        rates = [it for it in rates if it["accelerators"] in fit] or rates
    return _dearest(rates)


def rates_at(rates: Sequence[Rate], at: Machine) -> Sequence[Rate]:
    """Those of a place, what costs nothing there included; of its cloud if not of its region; else all."""
    cloud = [it for it in rates if it["cloud"].lower() == at.cloud]
    region = [it for it in cloud if it["region"].lower() == at.region]
    return region or cloud or rates


def _dearest(rates: Sequence[Rate]) -> Rate | None:
    paid = [it for it in rates if it["usd_per_hour"] > 0]
    return max(paid, key=lambda it: it["usd_per_hour"], default=None)
