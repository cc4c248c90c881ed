"""Whether a plan may be carried out: caps that cannot be kept, and what the user has to say yes to. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from crown_exp.compute.money import CAPS, in_cents, in_dollars
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
        more = f", more than {in_dollars(above)}" if most < math.inf else ""
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
    """Dollars that may be spent: what is expected, or less where caps end it; inf if neither is known.

    Each run costs what is expected, but no more than its own cap leaves. The cap of a sweep, or of a month,
    bounds them together only where all of them have it: one that has none spends on past it.
    """
    sweeps: dict[str | None, list[Planned]] = {}
    billed = [run for run in plan.launched if run.is_billed]
    for run in billed:
        sweeps.setdefault(run.sweep, []).append(run)
    of_sweeps = (min(_each(runs), _most_left(runs, "sweep_usd")) for runs in sweeps.values())
    return min(sum(of_sweeps), _most_left(billed, "month_usd"))


def _each(runs: Iterable[Planned]) -> float:
    expected = ((run, run.usd_if_paid) for run in runs)
    return sum(min(math.inf if usd is None else usd, run.left("run_usd")) for run, usd in expected)


def _most_left(runs: Iterable[Planned], name: str) -> float:
    """What is left of a cap to the run that it leaves the most."""
    return max((run.left(name) for run in runs), default=0.0)


def told(plan: Plan, most: float) -> str:
    """What it is expected to cost, as a sentence begins."""
    each = [run.usd_if_paid for run in plan.launched]
    known = [usd for usd in each if usd is not None]
    rate = math.fsum(run.paid_per_hour for run in plan.launched)
    hourly = f"{in_dollars(rate)} for an hour of all runs together"
    if may_be_free(plan):
        hourly += ", less on machines that cost nothing"
    if len(known) == len(each):
        return f"{in_dollars(math.fsum(known))} are expected ({hourly})"
    if most < math.inf:
        return f"up to {in_dollars(most)} may be spent: nobody knows for how long ({hourly})"
    return f"what it will cost is not known: nothing like it has run ({hourly})"


def may_be_free(plan: Plan) -> bool:
    """Whether a run that may have to be paid for is expected to cost nothing."""
    return any(run.is_billed and run.usd_per_hour == 0 for run in plan.launched)


def cut_off(plan: Plan) -> Iterator[str]:
    """A line for each cap that would end a run which may be billed before it gets anywhere."""
    billed = [run for run in plan.launched if run.is_billed]
    for name in CAPS:
        lines = (line for run in billed if (line := cap_line(run, name)))
        if line := next(lines, None):
            yield line


def cap_line(run: Planned, name: str) -> str | None:
    """What is wrong with one of a run's own caps, and what to type; None if nothing is."""
    cap, spent = run.caps.get(name), run.spent.get(name, 0.0)
    if cap is None:
        return None
    if spent >= cap:
        more = f"type budget.{name}={in_cents(2 * max(cap, spent))} to go on"
        return f"budget.{name}={cap:g} is reached: {in_dollars(spent)} were spent; {more}"
    price = min(run.prices)
    if cap >= price or is_short(run, cap):
        return None
    more = f"type budget.{name}={math.ceil(price):g} or more, or choose a cheaper compute"
    return (
        f"budget.{name}={cap:g} is below the price of one hour: the cheapest machine of "
        f"compute={run.target.name} is {in_dollars(price)}/h; {more}"
    )


def is_short(run: Planned, cap: float) -> bool:
    """Whether it is known to end before it has cost so much."""
    return run.usd_if_paid is not None and run.usd_if_paid <= cap
