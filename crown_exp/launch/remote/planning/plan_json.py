"""A plan for machines. Pure. docs/record.md tells the fields."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from crown_exp.compute.base import Candidate
from crown_exp.compute.money import CAPS, allowed
from crown_exp.launch.remote.base import Fate, Plan, Planned


def plan_json(plan: Plan) -> dict[str, Any]:
    """One object: dollars, hours and counts are numbers, what is not known, or does not apply, is null."""
    return {
        "runs": [run_json(run) for run in plan.runs],
        "controller": candidate_json(plan.controller) if plan.controller else None,
        "usd": plan.usd,
        "usd_per_hour": plan.usd_per_hour,
        "caps": {name: cap_json(plan, name) for name in CAPS},
        "warnings": list(plan.warnings),
        "refused": list(plan.refused),
    }


def run_json(run: Planned) -> dict[str, Any]:
    """One run: what it is, what will be done about it, where it may go, how long that is thought to take."""
    sought = run.fate in (Fate.NEW, Fate.RESUMED)
    guess = run.guess if sought else None
    return {
        "number": run.number,
        "name": run.order.name,
        "experiment": run.order.experiment,
        "overrides": list(run.order.composition.overrides),
        "fate": str(run.fate),
        "run": run.earlier.record.id if run.earlier else None,
        "target": run.target.name,
        "executor": run.target.executor,
        "candidates": [candidate_json(it) for it in run.candidates],
        "hours": guess.hours if guess else None,
        "hours_from": guess.runs if guess else 0,
        "done": guess.done if guess else None,
        "usd": run.usd,
    }


def candidate_json(it: Candidate) -> dict[str, Any]:
    """A machine that it may be given, with its price for all nodes."""
    return asdict(it)


def cap_json(plan: Plan, name: str) -> dict[str, float | None] | None:
    """A cap, what counts towards it, what is left, and for how many hours that is enough; null without one.

    hours: of a run's cap at the dearest run's rate, of others at that of all together; null if for ever.
    """
    cap = plan.caps.get(name)
    if cap is None:
        return None
    spent = plan.spent.get(name, 0.0)
    hours = allowed({name: cap}, plan.spent, plan.rate(name)).hours
    return {
        "usd": cap,
        "spent": spent,
        "left": max(0.0, cap - spent),
        "hours": hours if math.isfinite(hours) else None,
    }
