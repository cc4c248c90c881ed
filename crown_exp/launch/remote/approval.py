"""Whether a plan may be carried out: caps that cannot be kept, and what the user has to say yes to. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from crown_exp.compute.money import CAPS
from crown_exp.errors import ConfigError, CrownError
from crown_exp.launch.remote.base import Plan, Planned
from crown_exp.outcome import ExitCode


class Capped(CrownError):
    """A cap leaves nothing to launch with."""

    exit_code = int(ExitCode.CAPPED)


class Declined(CrownError):
    """The user said no."""

    exit_code = int(ExitCode.INTERRUPTED)


def allow(plan: Plan, *, yes: bool, ask: Callable[[str], bool] | None) -> None:
    """Nothing, if the plan may be carried out.

    yes: the user agreed beforehand. ask: a question to the user; None if nobody is there. Raises Capped for a
    cap that is reached, or below the price of one hour; where more is expected than budget.confirm_above_usd,
    Declined if the user says no, and ConfigError if nobody can be asked. What nobody can guess counts as more,
    unless the caps keep it below.
    """
    if not plan.is_billed:
        return
    for line in cut_off(plan):
        raise Capped(f"{line}; nothing was launched")
    above, most = confirm_above(plan), most_of(plan)
    if yes or most <= above:
        return
    expected = told(plan, most)
    if ask is None:
        more = f", more than ${above:g}" if most < math.inf else ""
        way = "type --yes to launch" + ("" if plan.caps else ", best with budget.run_usd=...")
        what = f"{expected}{more}; {way}"
        raise ConfigError.of("budget.confirm_above_usd", what)
    if not ask(f"{expected}. Launch?"):
        raise Declined("nothing was launched")


def confirm_above(plan: Plan) -> float:
    """The smallest of the runs' own: dollars above which the user is asked."""
    budgets = (run.order.composition.config["budget"] for run in plan.launched)
    return min((float(it["confirm_above_usd"]) for it in budgets), default=math.inf)


def most_of(plan: Plan) -> float:
    """Dollars: what is expected, but no more than the caps let it become; inf if neither is known."""
    return min(math.inf if plan.usd is None else plan.usd, most_allowed(plan))


def most_allowed(plan: Plan) -> float:
    """Dollars that the launched runs may cost together before a cap ends the last of them; inf without caps."""
    left = {
        name: max(0.0, cap - plan.spent.get(name, 0.0))
        for name, cap in plan.caps.items()
        if cap is not None
    }
    if "run_usd" in left:  # each has its own; one that goes on has used up a part of it
        left["run_usd"] = (plan.caps["run_usd"] or 0.0) * sum(
            run.usd_per_hour > 0 for run in plan.launched
        )
    return min(left.values(), default=math.inf)


def told(plan: Plan, most: float) -> str:
    """What it is expected to cost, as a sentence begins."""
    rate = math.fsum(run.usd_per_hour for run in plan.launched)
    hourly = f"${rate:.2f} for an hour of all runs together"
    if plan.usd is not None:
        return f"${plan.usd:.2f} are expected ({hourly})"
    if most < math.inf:
        return f"up to ${most:.2f} may be spent: nobody knows for how long ({hourly})"
    return f"what it will cost is not known: nothing like it has run ({hourly})"


def cut_off(plan: Plan) -> Iterator[str]:
    """A line for each cap that would end runs before they get anywhere."""
    for name in CAPS:
        cap = plan.caps.get(name)
        if cap is None:
            continue
        spent = plan.spent.get(name, 0.0)
        if spent >= cap:
            more = f"type budget.{name}={2 * max(cap, spent):.4g} to go on"
            yield f"budget.{name}={cap:g} is reached: ${spent:.2f} were spent; {more}"
            continue
        for run in plan.launched:
            price = price_of_an_hour(run)
            if cap < price and not is_short(run, cap):
                more = (
                    f"type budget.{name}={math.ceil(price):g} or more, or choose a cheaper compute"
                )
                yield (
                    f"budget.{name}={cap:g} is below the price of one hour: the cheapest machine of "
                    f"compute={run.target.name} is ${price:.2f}/h; {more}"
                )
                break


def price_of_an_hour(run: Planned) -> float:
    """Of the cheapest machine that a run may be given, in dollars; 0 if one costs nothing."""
    prices = [it.usd_per_hour or 0.0 for it in run.candidates if it.enabled is not False]
    return min(prices or [run.usd_per_hour])


def is_short(run: Planned, cap: float) -> bool:
    """Whether it is known to end before it has cost so much."""
    return run.usd is not None and run.usd <= cap
