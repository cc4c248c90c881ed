"""How long runs are thought to take: as earlier ones of the same experiment took on the same accelerators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from crown_exp.compute.base import Target
from crown_exp.compute.money import HOUR
from crown_exp.launch.remote.base import Guess
from crown_exp.launch.remote.planning.past import NEWEST, Kind, Lived, Past, in_registry, in_store
from crown_exp.launch.remote.planning.rest import total_of
from crown_exp.launch.submit import Order
from crown_exp.storage.machine import here

if TYPE_CHECKING:
    from crown_exp.launch.session import Session

WHOLE = 0.9
"""A run that did so much of the steps of the longest is taken for a whole one."""


def guesses(
    session: Session, orders: Sequence[Order], targets: Sequence[Target]
) -> list[Guess | None]:
    """How long each run is thought to take, whole, without interruption; None: nothing like it has run.

    targets: of each order; the first of its accelerators is expected. The registry is asked, then
    the newest runs of the store about those that it knows nothing of. Raises StoreError.
    """
    if session.database is None:  # a debug run's: nothing was there before
        return [None for _ in orders]
    kinds = [kind_of(order) for order in orders]
    totals = [total_of(order.composition.config) for order in orders]
    host = here().host
    past = in_registry(session.database, session.blobs.url, set(kinds))
    found = _all(past, kinds, targets, totals, host)
    unknown = {kind for kind, known in zip(kinds, found, strict=True) if known is None}
    if not unknown:
        return found
    past = session.portal.call(in_store, session.blobs, unknown)
    others = _all(past, kinds, targets, totals, host)
    return [known or other for known, other in zip(found, others, strict=True)]


def kind_of(order: Order) -> Kind:
    """What an order runs."""
    return order.experiment, order.checked.target.name


def _all(
    past: Past, kinds: Sequence[Kind], targets: Sequence[Target],
    totals: Sequence[int | None], host: str,
) -> list[Guess | None]:  # fmt: skip
    known: dict[tuple[object, ...], Guess | None] = {}
    found = []
    for kind, target, total in zip(kinds, targets, totals, strict=True):
        key = (kind, target.name, target.executor, target.accelerators, target.nodes, total)
        if key not in known:
            known[key] = guess(past.get(kind, ()), target, total, host)
        found.append(known[key])
    return found


def guess(
    past: Iterable[Sequence[Lived]], target: Target, total: int | None, host: str
) -> Guess | None:
    """The median of the runs that lived on such a target from their first attempt to their last.

    Without any, of those that may have: on one of the same accelerators, nobody could tell which.
    past: the newest run first. total: the steps that it is to do, so that each takes for as many as it did;
    None: nobody knows, and only the longest tell, as others were cut short. host: this machine.
    """
    past = list(past)
    for suits in (fits, may_fit):
        like = [run for run in past if all(suits(attempt, target, host) for attempt in run)]
        hours = [each for each in map(hours_of, scaled(like, total)) if each > 0][:NEWEST]
        if hours:
            return Guess(median(hours), len(hours))
    return None


def scaled(
    runs: Sequence[Sequence[Lived]], total: int | None
) -> Iterator[tuple[Sequence[Lived], float]]:
    """The runs that tell how long one of so many steps takes, and by what to multiply what each took."""
    longest = max((run[0].steps for run in runs if run), default=0)
    for run in runs:
        steps = run[0].steps if run else 0
        if total is not None and steps > 0:
            yield run, total / steps
        elif total is None and steps >= WHOLE * longest:
            yield run, 1.0


def hours_of(told: tuple[Sequence[Lived], float]) -> float:
    """How long a run would have taken; 0 if nobody knows."""
    run, times = told
    return times * sum(attempt.seconds for attempt in run) / HOUR


def fits(lived: Lived, target: Target, host: str) -> bool:
    """Whether an attempt was lived on what the target is.

    Here: on this machine, started by hand. Elsewhere: on these accelerators, wherever they were paid for; what
    has none, or is more than one machine, or is not paid for, is known by the target's name alone.
    """
    if target.is_here:
        return lived.target is None and lived.accelerators is None and lived.host == host
    wanted = (target.accelerators[0] if target.accelerators else "").lower()
    same = lived.accelerators is not None and lived.accelerators.lower() == wanted
    if lived.target is not None and lived.target == target.name:
        return same or lived.accelerators is None
    return same and bool(wanted) and target.nodes == 1


def may_fit(lived: Lived, target: Target, host: str) -> bool:
    """Whether an attempt may have been lived on what the target is: its job had the same ones to choose."""
    same = not target.is_here and lived.choices == {it.lower() for it in target.accelerators}
    told = bool(lived.choices) and (lived.target == target.name or target.nodes == 1)
    return fits(lived, target, host) or (same and told)
