"""What the launch of runs elsewhere speaks of: what is there already, the plan, the jobs submitted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crown_exp.compute.base import Candidate, Target
from crown_exp.compute.money import CAPS
from crown_exp.folder import Facts, JobRecord, RunRecord
from crown_exp.launch.submit import Order


class Fate(StrEnum):
    """What a command will do about one of its runs. `RUNNING`: its job is under way; it is watched."""

    NEW = "new"
    DONE = "done"
    RESUMED = "to resume"
    RUNNING = "running"


@dataclass(frozen=True)
class Earlier:
    """An equal run that is there already, and what is to become of it. fate: never NEW."""

    facts: Facts
    fate: Fate

    @property
    def record(self) -> RunRecord:
        """Who the run is."""
        return self.facts.run


@dataclass(frozen=True)
class Guess:
    """How long a run is thought to take, yet. runs: of how many earlier ones that is the median.

    done: the part of the run that is done already, 0 to 1; hours are those of the rest.
    """

    hours: float
    runs: int
    done: float = 0.0


@dataclass(frozen=True)
class Planned:
    """One run of a command, before anything is done about it.

    target: of a run here, too. candidates: in fall-back order, the first is the one that is
    expected; () here. guess: None if nothing like it has run. number: in the command, from 1. changes: what
    its next job is to change of the run's config, as in JobRecord. controller: the machine that watches over
    its job, and is paid; None if none. spent: dollars that count towards each of its own caps, by the names in
    `money.CAPS`; what is absent is nothing. sweep_since: as in JobRecord.
    """

    number: int
    order: Order
    target: Target
    candidates: tuple[Candidate, ...] = ()
    earlier: Earlier | None = None
    guess: Guess | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    controller: Candidate | None = None
    spent: Mapping[str, float] = field(default_factory=dict)
    sweep_since: str | None = None

    @property
    def fate(self) -> Fate:
        """What will be done."""
        return self.earlier.fate if self.earlier else Fate.NEW

    @property
    def env(self) -> dict[str, str]:
        """The variables that Hydra is to set for its job: those of its last one, and what the command says."""
        return {**(self.earlier.facts.env if self.earlier else {}), **self.order.env}

    @property
    def is_launched(self) -> bool:
        """Whether a job is to be submitted for it."""
        return not self.target.is_here and self.fate in (Fate.NEW, Fate.RESUMED)

    @property
    def usd_per_hour(self) -> float:
        """Of the machine that is expected; 0 where nothing is paid."""
        return (self.candidates[0].usd_per_hour or 0.0) if self.candidates else 0.0

    @property
    def prices(self) -> tuple[float, ...]:
        """Dollars an hour of the machines that it may really be given and that cost something, rising.

        Those of clouds that are not enabled here will not be given, unless there are no others.
        """
        given = [it for it in self.candidates if it.enabled is not False] or self.candidates
        return tuple(sorted(it.usd_per_hour for it in given if it.usd_per_hour))

    @property
    def is_billed(self) -> bool:
        """Whether it may cost money: on the machine that is expected, or on one that is tried after it."""
        return self.is_launched and bool(self.prices)

    @property
    def paid_per_hour(self) -> float:
        """Dollars an hour if paid for: of the machine that is expected, of the cheapest if that is free."""
        return self.usd_per_hour or min(self.prices, default=0.0)

    @property
    def is_priced(self) -> bool:
        """Whether the price of the expected machine tells something; that of a cluster that is off does not."""
        return bool(self.candidates) and not self.candidates[0].is_off

    @property
    def usd(self) -> float | None:
        """What it is expected to cost; None if it is paid and nobody knows how long it takes, or on what."""
        return self._cost(self.usd_per_hour)

    @property
    def usd_if_paid(self) -> float | None:
        """As usd; of one that is expected to be free, what it costs where it has to be paid for."""
        return self._cost(self.paid_per_hour)

    def _cost(self, usd_per_hour: float) -> float | None:
        if not self.is_launched:
            return 0.0
        if usd_per_hour == 0:
            return 0.0 if self.is_priced else None
        return None if self.guess is None else self.guess.hours * usd_per_hour

    @property
    def sweep(self) -> str | None:
        """The id of its sweep."""
        return self.order.sweep["id"] if self.order.sweep else None

    @property
    def caps(self) -> dict[str, float]:
        """Its own caps in dollars, as it will see them: that of a sweep holds for a run without one, too."""
        budget = self.order.composition.config["budget"]
        return {name: float(budget[name]) for name in CAPS if budget[name] is not None}

    def left(self, name: str) -> float:
        """Dollars that one of its caps leaves; inf without that cap."""
        cap = self.caps.get(name)
        return math.inf if cap is None else max(0.0, cap - self.spent.get(name, 0.0))


@dataclass(frozen=True)
class Plan:
    """What a command is about to do, and what that costs.

    caps, spent: the smallest of each cap of all runs, and the most that was spent of it, to be shown; dollars
    by the names in `money.CAPS`; what is absent is no cap, or nothing. Each run is held to its own. refused:
    all that keeps it from being carried out, a line each, as far as that was looked for. warnings: what may go
    wrong later, a sentence each.
    """

    runs: tuple[Planned, ...]
    caps: Mapping[str, float | None] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def controller(self) -> Candidate | None:
        """The machine that SkyPilot would start beside the jobs, if none is up; None if it needs none."""
        return next((run.controller for run in self.launched if run.controller), None)

    @property
    def launched(self) -> tuple[Planned, ...]:
        """Those for which a job is to be submitted."""
        return tuple(run for run in self.runs if run.is_launched)

    @property
    def is_billed(self) -> bool:
        """Whether anything that is to be submitted may cost money."""
        return any(run.is_billed for run in self.launched)

    def rate(self, name: str) -> float:
        """Dollars an hour at which one of its caps is spent: a run's at the dearest run's, others at all's."""
        rates = [run.paid_per_hour for run in self.launched]
        return max(rates, default=0.0) if name == "run_usd" else math.fsum(rates)

    @property
    def usd_per_hour(self) -> float | None:
        """Dollars an hour of all that is launched; None if the price of any is not known."""
        known = all(run.is_priced for run in self.launched)
        return math.fsum(run.usd_per_hour for run in self.launched) if known else None

    @property
    def usd(self) -> float | None:
        """What is expected of all together, without the controller; None if that of any run is not known."""
        each = [run.usd for run in self.launched]
        known = [usd for usd in each if usd is not None]
        return math.fsum(known) if len(known) == len(each) else None


@dataclass(frozen=True)
class Submitted:
    """A run that has a job elsewhere. job: with its handle."""

    record: RunRecord
    job: JobRecord
    target: Target
