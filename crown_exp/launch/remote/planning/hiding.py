"""A plan without secrets that were typed: all that is shown of it is to be safe in a log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from crown_exp.config.secrets import redact, redact_override, secrets_in
from crown_exp.launch.remote.base import Plan
from crown_exp.launch.submit import Order


def without_secrets(plan: Plan, secrets: Mapping[str, str]) -> Plan:
    """The plan to be shown: its runs' names and overrides, what refuses it and what is warned of, with `***`.

    secrets: name and value of those in the environment.
    """
    runs = tuple(replace(run, order=hidden(run.order, secrets)) for run in plan.runs)
    refused = tuple(redact(line, secrets) for line in plan.refused)
    warnings = tuple(redact(line, secrets) for line in plan.warnings)
    return replace(plan, runs=runs, refused=refused, warnings=warnings)


def hidden(order: Order, secrets: Mapping[str, str]) -> Order:
    """The order with a name and overrides that hold no secret. Only to be shown: it is not what was typed."""
    composition, config = order.composition, order.composition.config
    found = secrets_in(config, secrets)
    overrides = tuple(redact_override(it, found, secrets) for it in composition.overrides)
    swept = [redact_override(it, found, secrets) for it in order.swept]
    if config["name"]:
        config = config | {"name": redact(str(config["name"]), {**secrets, **found})}
    return replace(
        order, composition=replace(composition, config=config, overrides=overrides), swept=swept
    )
