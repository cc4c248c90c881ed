"""A plan as people read it before they agree to it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from crown_exp.compute.base import Candidate, Target
from crown_exp.compute.money import CAPS, allowed, in_dollars
from crown_exp.config.letters import cut, labelled, plain
from crown_exp.launch.remote.base import Fate, Guess, Plan, Planned
from crown_exp.launch.table import Cell, Column, Text, painted, table

ROWS = 20
"""Of more runs than that, those that are alike share a line."""

SHOWN = 5
"""Machines of a target that are shown one by one."""

WIDE = 100
"""Columns from which on a line of a run has room for the region: it stands below, too."""

LABEL = 12

FATES = {Fate.NEW: "", Fate.DONE: "green", Fate.RESUMED: "yellow", Fate.RUNNING: "cyan"}
"""The colours of fates."""

HEADS = (
    Column("#", right=True, whole=True), Column("run"), Column("what", whole=True), Column("target"),
    Column("machine"), Column("$/h", right=True, whole=True), Column("hours", right=True, whole=True),
    Column("$", right=True, whole=True),
)  # fmt: skip
MACHINES = (
    Column("", right=True, whole=True), Column(""), Column(""), Column(""), Column("", whole=True),
    Column("", right=True, whole=True), Column(""),
)  # fmt: skip


def plan_lines(plan: Plan, *, width: int, colour: bool) -> Iterator[str]:
    """The runs, the machines that each target may be given, hours, what it costs, what caps allow.

    width: columns; no line has more where there are 80 of them.
    """
    yield from table(
        HEADS, [cells(runs, width) for runs in rows(plan.runs)], width=width, colour=colour
    )
    for runs in by_target(plan.launched):
        yield ""
        yield from target_lines(runs, width, colour)
    if plan.launched:
        yield ""
        yield from money_lines(plan, width)
        for warning in plan.warnings:
            yield from said("warning", warning, width)
    yield ""
    yield from where_lines(plan, width)


# --- runs -----------------------------------------------------------------------------------------------


def rows(runs: Sequence[Planned]) -> list[list[Planned]]:
    """The runs that share a line: each its own, or, of many, those that are alike."""
    if len(runs) <= ROWS:
        return [[run] for run in runs]
    groups: dict[tuple[object, ...], list[Planned]] = {}
    for run in runs:
        key = (run.target.name, run.fate, run.guess, run.candidates[:1], run.order.experiment)
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def cells(runs: Sequence[Planned], width: int) -> list[Text]:
    """A line: of several runs their number, and what they cost together."""
    first, each = runs[0], [run.usd for run in runs]
    usd = math.fsum(it or 0.0 for it in each)
    sought = first.fate in (Fate.NEW, Fate.RESUMED)
    return [
        str(first.number),
        named(runs),
        Cell(first.fate, FATES[first.fate]),
        first.target.name,
        machine_of(first, wide=width >= WIDE),
        dollars(first.usd_per_hour) if first.is_launched and first.is_priced else "-",
        "-" if not sought else "?" if first.guess is None else hours(first.guess.hours),
        "-"
        if not first.is_launched
        else dollars(usd)
        if first.is_priced and None not in each
        else "?",
    ]


def named(runs: Sequence[Planned]) -> str:
    """What the runs are called."""
    name = name_of(runs[0])
    return name if len(runs) == 1 else f"{len(runs)} runs: {name}, ..."


def name_of(run: Planned) -> str:
    """What a run is called; one that is there already has an id, too."""
    if run.earlier is None:
        return run.order.name
    return f"{run.earlier.record.id} {run.order.name}"


def machine_of(run: Planned, *, wide: bool) -> str:
    """The machine that is expected: what it has, then where. wide: whether there is room for its region."""
    if run.target.is_here:
        return "this one"
    if not run.is_launched:
        return "-"
    if not run.candidates:
        return "none is known"
    it = run.candidates[0]
    parts = [it.accelerators or it.machine, "spot" if it.spot else "", it.cloud]
    return " ".join(filter(None, [*parts, it.region if wide else ""]))


# --- machines -------------------------------------------------------------------------------------------


def by_target(runs: Iterable[Planned]) -> list[list[Planned]]:
    """The runs of each target that is not quite the same as another, in order of their first."""
    groups: list[list[Planned]] = []
    for run in runs:
        alike = (it for it in groups if it[0].target == run.target)
        found = next(alike, None)
        if found is None:
            groups.append([run])
        else:
            found.append(run)
    return groups


def target_lines(runs: Sequence[Planned], width: int, colour: bool) -> Iterator[str]:
    """Its machines in the order in which they are tried, and for how long they are thought to be needed."""
    yield from machine_lines(runs[0].target, runs[0].candidates, width, colour)
    for line in dict.fromkeys(guess_line(run, len(runs)) for run in runs):
        yield from labelled("   ", line, width)


def machine_lines(
    target: Target, found: Sequence[Candidate], width: int, colour: bool
) -> Iterator[str]:
    """The machines that a target may be given, in the order in which they are tried."""
    nodes = f", {target.nodes} machines a run" if target.nodes > 1 else ""
    yield painted(
        cut(plain(f"{target.name}: tried in this order{nodes}"), width), "bold", on=colour
    )
    lines = [candidate_cells(number, it) for number, it in enumerate(found[:SHOWN], 1)]
    yield from table(MACHINES, lines, width=width, colour=colour)
    if more := found[SHOWN:]:
        yield cut(f"   and {len(more):,} more{prices(more)}", width)
    if not found:
        yield from labelled("   ", "no machine is known that it could be given", width)


def candidate_cells(number: int, it: Candidate) -> list[Text]:
    """A machine: accelerators, where, what it is called, its price."""
    price = "no price" if it.usd_per_hour is None else f"{in_dollars(it.usd_per_hour)}/h"
    price = "-" if it.is_off else price
    off = Cell(f"not enabled: sky check {it.cloud}", "yellow") if it.enabled is False else ""
    where = f"{it.cloud} {it.region}".strip()
    kind = "spot" if it.spot else ""
    return [f"  {number}", it.accelerators, where, it.machine, kind, price, off]


def prices(machines: Iterable[Candidate]) -> str:
    """From the cheapest to the dearest; nothing if none has a price."""
    known = [it.usd_per_hour for it in machines if it.usd_per_hour is not None]
    if not known:
        return ""
    low, high = in_dollars(min(known)), in_dollars(max(known))
    return f", {low}/h" if low == high else f", {low} to {high}/h"


def guess_line(run: Planned, of: int) -> str:
    """How long a run is thought to take, and why."""
    what = run.order.experiment or run.order.checked.target.name
    if run.guess is None:
        return f"hours unknown: nothing like {what} has run on it"
    done = f", of which {run.guess.done:.0%} is done" if run.guess.done else ""
    return (
        f"{hours(run.guess.hours)} h{' each' if of > 1 else ''}: {why(run.guess)} of {what}{done}"
    )


def why(guess: Guess) -> str:
    """What a guess rests on."""
    if guess.runs == 1:
        return "as the earlier run"
    return f"the median of {guess.runs} earlier runs"


# --- money ----------------------------------------------------------------------------------------------


def money_lines(plan: Plan, width: int) -> Iterator[str]:
    """The sum, the controller, the caps."""
    if not plan.is_billed:
        yield from said("cost", unbilled_words(plan), width)
        return
    yield from said("expected", expected_words(plan), width)
    if words := fall_back_words(plan):
        yield from said("or else", words, width)
    if plan.controller is not None:
        yield from said("controller", controller_words(plan.controller), width)
    yield from cap_lines(plan, width)


def unbilled_words(plan: Plan) -> str:
    """What is paid for machines without a price, or for none."""
    if unknown := sum(not run.candidates for run in plan.launched):
        return f"unknown: no machine is known for {counted(unknown)}"
    if off := sum(not run.is_priced for run in plan.launched):
        return f"unknown: no machine that is enabled is known for {counted(off)}"
    return "nothing: no machine of these has a price"


def rate_of(plan: Plan) -> float:
    """Dollars an hour, of all launched runs together."""
    return math.fsum(run.usd_per_hour for run in plan.launched)


def expected_words(plan: Plan) -> str:
    """What all cost together."""
    together = " while all run at once" if len(plan.launched) > 1 else ""
    rate = f"{in_dollars(rate_of(plan))}/h{together}"
    if plan.usd is not None:
        return f"{in_dollars(plan.usd)}; {rate}"
    unknown = sum(run.usd is None for run in plan.launched)
    known = math.fsum(run.usd or 0.0 for run in plan.launched)
    if unknown == len(plan.launched):
        return f"unknown; {rate}"
    return f"unknown for {counted(unknown)}; the others {in_dollars(known)}; {rate}"


def fall_back_words(plan: Plan) -> str:
    """What is paid where no machine that costs nothing is to be had; "" if none is expected to be free."""
    free = [run for run in plan.launched if run.is_billed and run.usd_per_hour == 0]
    if not free:
        return ""
    low, high = min(run.prices[0] for run in free), max(run.prices[-1] for run in free)
    price = in_dollars(low) if low == high else f"{in_dollars(low)} to {in_dollars(high)}"
    each = " each" if len(free) > 1 else ""
    return f"{counted(len(free))} on machines for {price}/h{each}, if none that costs nothing is to be had"


def controller_words(it: Candidate) -> str:
    """The machine that would be started to watch over the jobs."""
    price = "no price" if it.usd_per_hour is None else f"{in_dollars(it.usd_per_hour)}/h"
    where = " ".join(filter(None, [it.cloud, it.region, it.machine]))
    return f"{price} beside that ({where}); SkyPilot starts one if none is up, and stops it when it idles"


def cap_lines(plan: Plan, width: int) -> Iterator[str]:
    """A line for each cap: when it is reached, if nobody else spends anything."""
    caps = [(name, cap) for name in CAPS if (cap := plan.caps.get(name)) is not None]
    if not caps:
        hint = ", ".join(f"budget.{name}=..." for name in CAPS)
        yield from said("caps", f"no cap is set: {hint} end runs that cost more", width)
    for number, (name, cap) in enumerate(caps):
        yield from said("" if number else "caps", cap_words(plan, name, cap), width)


def cap_words(plan: Plan, name: str, cap: float) -> str:
    """What a cap allows: a run's cap at that run's rate, others at that of all together."""
    rate, spent = plan.rate(name), plan.spent.get(name, 0.0)
    left = allowed({name: cap}, plan.spent, rate)
    used = f" ({in_dollars(spent)} of it spent)" if spent else ""
    if left.hours == 0:
        return f"budget.{name}={cap:g} is reached{used}"
    over = f"; {capped_words(plan, name, cap - spent)}" if is_above(plan, name, cap - spent) else ""
    return f"budget.{name}={cap:g}{used}: reached after {hours(left.hours)} h at {in_dollars(rate)}/h{over}"


def is_above(plan: Plan, name: str, left: float) -> bool:
    """Whether more is expected than is left of a cap."""
    if name == "run_usd":
        return any(run.usd is not None and run.usd > left for run in plan.launched)
    return math.fsum(run.usd or 0.0 for run in plan.launched) > left


def capped_words(plan: Plan, name: str, left: float) -> str:
    """What happens then."""
    few = [run for run in plan.launched if run.usd is not None and run.usd > left]
    who = counted(len(few)) if name == "run_usd" else "runs"
    return f"more is expected, so {who} will be saved and ended then"


# --- where ----------------------------------------------------------------------------------------------


def where_lines(plan: Plan, width: int) -> Iterator[str]:
    """What needs this machine, and what does not; of a plan that is refused, that it is."""
    if plan.refused:
        yield from said("refused", "nothing of it would be launched; why is told below", width)
        return
    due = [run for run in plan.runs if run.fate is not Fate.DONE]
    local = sum(run.target.is_here for run in due)
    if not due:
        yield from said("next", "nothing: all of it is done", width)
    if local:
        needs = " needs" if local == 1 else ", one after the other, need"
        yield from said("here", f"{counted(local)}{needs} this machine awake to the end", width)
    if away := len(due) - local:
        goes = "goes" if away == 1 else "go"
        what = (
            f"{counted(away)} {goes} on when this machine is off: come back with crown-exp logs -f"
        )
        yield from said("elsewhere", what, width)


# --- words ----------------------------------------------------------------------------------------------


def said(label: str, text: str, width: int) -> Iterator[str]:
    """A text folded beside its label."""
    return labelled(f"{label:<{LABEL}}", text, width)


def counted(runs: int) -> str:
    """`1 run`, `24 runs`."""
    return "1 run" if runs == 1 else f"{runs:,} runs"


def dollars(usd: float) -> str:
    """`1.15`, in a column whose head says that they are dollars."""
    return in_dollars(usd).replace("$", "")


def hours(value: float) -> str:
    """Two digits behind the point, of many hours one."""
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}"
