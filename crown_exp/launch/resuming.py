"""Going on with a recorded run: what changes, and whether that may be.

What decides the result may not differ: a fork is offered, the very command. All else may.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crown_exp.config.changes import changes_of, same
from crown_exp.config.identity import deciding_differences, deciding_parts, lookup
from crown_exp.config.secrets import guard
from crown_exp.config.values import shown
from crown_exp.errors import ConfigError, Problem
from crown_exp.folder import Facts, RunRecord
from crown_exp.identity import signature
from crown_exp.launch.codechange import code_change
from crown_exp.launch.fitness import unfit
from crown_exp.launch.forking import newest_step
from crown_exp.launch.initial import named
from crown_exp.launch.recorded import LATEST, Recorded, look_up, newest_run, with_values
from crown_exp.launch.remote.planning.fitness import elsewhere_problems
from crown_exp.launch.session import Session
from crown_exp.launch.submit import Order
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

FIXED = {
    "name": "is what the run was made with; write a note instead: crown-exp note",
    "tags": "are changed without running anything: crown-exp tag",
    "identity.ignore": "says what the run's signature is made of, which stays",
    "debug": "a debug run keeps nothing, so there is nothing to go on with: leave it out",
}
"""Keys that a resumed run keeps although they decide no result, and why."""


@dataclass(frozen=True)
class Resumption:
    """A run to go on with. changes: against its config as the newest attempt had it.

    order: the run as it would be made anew with these; None if it is over, or begins. facts: what is known
    of it; None if it begins.
    """

    record: RunRecord
    changes: Mapping[str, Any]
    order: Order | None = None
    facts: Facts | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether it goes on elsewhere; a run that is over does nowhere."""
        return self.order is not None and self.order.is_elsewhere


def resumed(
    session: Session, loader: ConfigLoaderImpl, run: str, typed: Sequence[str]
) -> Resumption:
    """`resume RUN key=value…`: the recorded config is the base.

    Raises ConfigError for what cannot be resumed so, and as `look_up`. Says so if the code has changed.
    """
    found = look_up(session, run)
    record = found.record
    if found.over and not typed:
        return Resumption(record, {}, facts=found.facts)
    refuse_deletions(typed)
    composition, checked = with_values(loader, found, typed)
    config = composition.config
    if config["resume"] is not None:
        raise ConfigError.of("resume", f"the run is named already: {record.id}")
    if wrong := list(fixed_problems(found.config, config)):
        raise ConfigError(wrong)
    order = Order(composition, checked, sweep=record.sweep)
    return approved(session, found, order, typed)


def resumed_from(session: Session, order: Order) -> Resumption:
    """`+experiment=x … resume=<id|latest>`: what was composed must have the run's signature.

    Raises as `resumed`.
    """
    if order.composition.config["debug"]:
        raise ConfigError.of("debug=true", FIXED["debug"])
    order = named(session, order)
    config = order.composition.config
    wanted = str(config["resume"])
    if wanted == LATEST:
        wanted = latest(session, order)
    found = look_up(session, wanted)
    own = {key: found.config.get(key) for key in ("name", "tags", "debug", "resume")}
    identity = config["identity"] | {"ignore": lookup(found.config, "identity.ignore", [])}
    seed = (
        found.config["seed"] if config["seed"] is None else config["seed"]
    )  # null draws one: it was
    config = {**config, **own, "identity": identity, "seed": seed}
    composition = replace(order.composition, config=config)
    return approved(session, found, replace(order, composition=composition))


def latest(session: Session, order: Order) -> str:
    """The id of the newest run with the signature of what was composed.

    If none has it, that of the newest of the same experiment, whose differences are then told.
    """
    config = order.composition.config
    if config["seed"] is None:
        what = "seed=null draws another seed for each run, so name the run: resume=<id>"
        raise ConfigError.of("resume=latest", what)
    parts = deciding_parts(
        config | {"resume": None}, order.checked.bound, config["identity"]["ignore"]
    )
    wanted, task = signature(parts), order.checked.target.name

    def equal(record: RunRecord) -> bool:
        return record.signature == wanted

    def alike(record: RunRecord) -> bool:
        forked = "fork" in (record.lineage or {})
        return (record.experiment, record.task) == (order.experiment, task) and not forked

    for fits in (equal, alike):
        if newest := session.portal.call(newest_run, session.blobs, fits):
            return newest.id
    what = f"no run of this experiment is in {session.blobs.url}; nothing was started: leave it out"
    raise ConfigError.of("resume=latest", f"{what} to make a new run")


def approved(
    session: Session, found: Recorded, order: Order, typed: Sequence[str] | None = None
) -> Resumption:
    """Go on so. Raises ConfigError if the result would be another, or this machine or the store cannot.

    typed: the overrides of the recorded config that made that of `order`; None if it was composed.
    """
    config = order.composition.config
    groups = dict.fromkeys([*found.record.bound, *order.checked.bound])
    kept_out = guard(config, session.secrets)
    if differing := deciding_differences(found.config, config, groups):
        # first: what is refused for its value tells that value
        raise (
            ConfigError(kept_out) if kept_out else refused(session, found, config, differing, typed)
        )
    changes = changes_of(found.config, config)
    if found.over:
        return Resumption(found.record, changes, facts=found.facts)
    problems = kept_out
    problems += elsewhere_problems(session, [order]) if order.is_elsewhere else unfit(config)
    if problems:
        raise ConfigError(problems)
    if change := code_change(session, found.facts):
        if config["identity"]["code"] == "refuse":
            what = f"{change}; nothing was run: put it back, or type identity.code=warn"
            raise ConfigError.of("identity.code=refuse", what)
        to_stderr(f"warning: {change}")
    session.prepare()
    return Resumption(found.record, changes, order, found.facts)


def refused(
    session: Session,
    found: Recorded,
    config: Mapping[str, Any],
    differing: Mapping[str, tuple[Any, Any]],
    typed: Sequence[str] | None,
) -> ConfigError:
    """What would make another result, and the command that forks the run with it."""
    told = ", ".join(
        f"{key} ({default_or(old)} -> {default_or(new)})" for key, (old, new) in differing.items()
    )
    why = f"a resumed run keeps what decides its result; this differs: {told}"
    step = newest_step(session, found.record.id)
    if step is None:
        how = "nothing of it is saved to fork from: "
        how += (
            "leave resume out to make a new run"
            if typed is None
            else f"crown-exp resume {found.short} goes on with it as it is; with another value, make a new run"
        )
        return ConfigError.of(found.record.id, f"{why}; {how}")
    words = [*typed] if typed is not None else list(as_typed(config, differing))
    command = f"crown-exp fork {found.short}@{step} {shlex.join(words)}"
    return ConfigError.of(found.record.id, f"{why}; a new run from its state: {command}")


def default_or(value: Any) -> str:
    """A value as one types it; what is absent is whatever the code has."""
    return "the default" if value is None else shown(value)


def as_typed(config: Mapping[str, Any], differing: Iterable[str]) -> Iterator[str]:
    """The overrides that make a recorded config differ so."""
    from crown_exp.config.recorded import typed_value

    gone = object()
    for key in differing:
        value = lookup(config, key, gone)
        yield f"~{key}" if value is gone else f"{key}={typed_value(value)}"


def fixed_problems(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of `FIXED` that would change."""
    for key, why in FIXED.items():
        if not same(lookup(old, key, None), lookup(new, key, None)):
            yield Problem(key, why)


def refuse_deletions(typed: Sequence[str]) -> None:
    """Raises ConfigError for `~key`: a resumed run has all keys that it had."""
    if wrong := [text for text in typed if text.startswith("~")]:
        what = "a resumed run keeps its keys: type key=null, or fork it"
        raise ConfigError([Problem(text, what) for text in wrong])
