"""What a command is about to do, worked out before anything is done: machines, prices, hours, caps."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from crown_exp.clock import Clock
from crown_exp.compute.base import Candidate, Target
from crown_exp.compute.money import CAPS, month_of, sums
from crown_exp.compute.target import priced, target_of
from crown_exp.launch.remote.base import Earlier, Fate, Plan, Planned
from crown_exp.launch.remote.executors import Executors
from crown_exp.launch.remote.planning.estimate import guesses
from crown_exp.launch.remote.planning.rest import rest
from crown_exp.launch.session import Session
from crown_exp.launch.submit import Order
from crown_exp.storage import BlobStore
from crown_exp.storage.spending import SLACK, Ledger, read_ledger
from crown_exp.tracking.run_log import to_stderr


def make_plan(
    session: Session,
    orders: Sequence[Order],
    earlier: Sequence[Earlier | None],
    warn: Callable[[str], None] = to_stderr,
) -> Plan:
    """The plan for these orders, whose earlier runs are known.

    Executors are asked for the machines of each target to which a job is to go, once, and the ledger is read
    only if a cap is set on what is billed. warn: is given a line for each record of the ledger that is
    damaged. Raises ConfigError, StoreError, ExecutorError.
    """
    runs = tuple(
        Planned(number, order, target_of(order.composition.config["compute"]), earlier=was)
        for number, (order, was) in enumerate(zip(orders, earlier, strict=True), 1)
    )
    runs = _guessed(session, _with_machines(session.executors, runs))
    plan = Plan(_with_controller(session.executors, runs))
    caps = caps_of(plan.launched)
    if not plan.is_billed or not caps:
        return replace(plan, caps=caps)
    ledger = session.portal.call(_ledger, session.blobs, plan.launched, caps, session.clock)
    for line in ledger.damaged:
        warn(f"{line}; it is left out of what was spent")
    runs = spent_by(plan.runs, ledger, session.clock)
    if any(run.sweep for run in plan.launched) and "sweep_usd" in caps:
        runs = with_first_month(runs, ledger, session.clock)
    return Plan(runs, caps, most_spent(runs))


# --- machines -------------------------------------------------------------------------------------------


def _with_machines(executors: Executors, runs: Iterable[Planned]) -> tuple[Planned, ...]:
    asked: dict[str, tuple[Candidate, ...]] = {}

    def candidates(run: Planned) -> tuple[Candidate, ...]:
        if not run.is_launched:
            return ()
        key = json.dumps(run.order.composition.config["compute"], sort_keys=True)
        if key not in asked:
            found = executors[run.target.executor].candidates(run.target)
            asked[key] = tuple(to_be_had_first(priced(run.target, found)))
        return asked[key]

    return tuple(replace(run, candidates=candidates(run)) for run in runs)


def to_be_had_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """In the same order, but those of clouds that are not enabled here last: they will not be given."""
    return sorted(candidates, key=lambda it: it.enabled is False)


def _with_controller(executors: Executors, runs: Sequence[Planned]) -> tuple[Planned, ...]:
    if not any(map(_is_watched, runs)):
        return tuple(runs)
    controller = executors["skypilot"].controller()
    return tuple(replace(run, controller=controller) if _is_watched(run) else run for run in runs)


def _is_watched(run: Planned) -> bool:
    """Whether a machine of SkyPilot's watches over its job."""
    return run.is_launched and run.target.executor == "skypilot" and run.target.managed


def _guessed(session: Session, runs: Sequence[Planned]) -> tuple[Planned, ...]:
    """With hours for those that are yet to run; of those that go on, for the rest."""
    due = [run for run in runs if run.fate in (Fate.NEW, Fate.RESUMED)]
    found = guesses(session, [run.order for run in due], [expected_of(run) for run in due])
    by_number = {
        run.number: rest(session, guess, run.earlier.facts, run.order.composition.config)
        if guess is not None and run.earlier is not None
        else guess
        for run, guess in zip(due, found, strict=True)
    }
    return tuple(replace(run, guess=by_number.get(run.number)) for run in runs)


def expected_of(run: Planned) -> Target:
    """A run's target with the accelerators of the machines that it may be given, the expected one's first."""
    if not run.candidates:
        return run.target
    found = dict.fromkeys(it.accelerators for it in run.candidates if it.accelerators)
    return replace(run.target, accelerators=tuple(found) if run.candidates[0].accelerators else ())


# --- caps -----------------------------------------------------------------------------------------------


def caps_of(runs: Iterable[Planned]) -> dict[str, float | None]:
    """The smallest of each cap that any of these runs has; without those that none has."""
    each = [run.caps for run in runs]
    return {
        name: min(caps[name] for caps in each if name in caps)
        for name in CAPS
        if any(name in caps for caps in each)
    }


async def _ledger(
    blobs: BlobStore, runs: Sequence[Planned], caps: Collection[str], clock: Clock
) -> Ledger:
    """What counts towards the caps: all of this month, of runs that go on what they have, of a sweep all.

    A sweep's id tells no day: typed again next year, it is the same.
    """
    if "sweep_usd" in caps and any(run.sweep for run in runs):
        return await read_ledger(blobs)
    own = {"run_usd", "sweep_usd"} & set(caps)
    resumed = {run.earlier.record.id for run in runs if run.earlier and own}
    month = month_of(clock.now()) if "month_usd" in caps else ""
    return await read_ledger(blobs, resumed, month)


def spent_by(runs: Iterable[Planned], ledger: Ledger, clock: Clock) -> tuple[Planned, ...]:
    """The runs, each with what counts towards its own caps."""
    by_run, by_sweep = sums(ledger.records, "run"), sums(ledger.records, "sweep")
    this_month = sums(ledger.records, "month").get(month_of(clock.now()), 0.0)

    def spent(run: Planned) -> dict[str, float]:
        own = by_run.get(run.earlier.record.id, 0.0) if run.earlier else 0.0
        sweep = by_sweep.get(run.sweep, 0.0) if run.sweep is not None else own
        return {"run_usd": own, "sweep_usd": sweep, "month_usd": this_month}

    return tuple(replace(run, spent=spent(run)) if run.is_launched else run for run in runs)


def with_first_month(runs: Iterable[Planned], ledger: Ledger, clock: Clock) -> tuple[Planned, ...]:
    """The runs, each with the month in which its sweep was paid first: their machines need not read older ones.

    ledger: all of it. What is not in it yet is paid from about now on.
    """
    now = month_of(clock.now() - SLACK)
    first = {it.sweep: now for it in ledger.records}
    for it in ledger.records:
        first[it.sweep] = min(first[it.sweep], month_of(it.since))

    def since(run: Planned) -> str | None:
        own = run.earlier.record.sweep if run.earlier else run.order.sweep
        return first.get(own["id"], now) if own else None

    return tuple(replace(run, sweep_since=since(run)) for run in runs)


def most_spent(runs: Iterable[Planned]) -> dict[str, float]:
    """Dollars by cap: of several runs, or sweeps, that of which the most was spent."""
    each = [run.spent for run in runs]
    return {name: max((it.get(name, 0.0) for it in each), default=0.0) for name in CAPS}
