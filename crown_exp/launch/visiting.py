"""A throw-away copy of a run, to go back to one of its turns: what a visit needs of its folder, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crown_exp.checkpoints.format import Manifest
from crown_exp.checkpoints.restore import Number, look, read_manifest, read_pack
from crown_exp.checkpoints.skeleton import put_together
from crown_exp.config.changes import changes_of, filled
from crown_exp.config.identity import deciding_differences
from crown_exp.config.schema import defaults, own_tracker
from crown_exp.config.values import shown
from crown_exp.errors import ConfigError
from crown_exp.folder import RunPaths
from crown_exp.folder.records import Damaged
from crown_exp.launch.address import address
from crown_exp.launch.codechange import code_change
from crown_exp.launch.fitness import unfit
from crown_exp.launch.forking import step_of
from crown_exp.launch.initial import from_elsewhere
from crown_exp.launch.recorded import Recorded, look_up, stored_config, with_values
from crown_exp.launch.session import Session
from crown_exp.outcome import ExitCode
from crown_exp.storage import BlobStore, NotFound, open_blobs
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

NEVER = "1000000000 steps"


@dataclass(frozen=True)
class Wanted:
    """A turn of a run. step: the turn, counted from 1. config: with which it is made again."""

    found: Recorded
    step: int
    config: Mapping[str, Any]

    @property
    def words(self) -> str:
        """`k7f3q2@60`."""
        return f"{self.found.short}@{self.step}"


@dataclass(frozen=True)
class Visited:
    """The copy. changes: against its config.yaml. since: the step of its checkpoint, 0 without one.

    loops: as the newest checkpoint of the run itself has them.
    """

    run: str
    blobs: BlobStore
    home: Path
    changes: Mapping[str, Any]
    since: int
    loops: Sequence[Mapping[str, Any]]


def wanted(
    session: Session, loader: ConfigLoaderImpl, typed: str, changes: Sequence[str]
) -> Wanted:
    """RUN@STEP as it was typed, with keys that cannot change the result.

    Raises ConfigError for no run, no turn of it, or a key that decides the result; as `look_up`. Says so if
    the code has changed.
    """
    asked = address(typed, steps=True)
    step = None if asked.step is None else step_of(typed, asked.step)
    if step is None:
        raise ConfigError.of(typed, "expected RUN@STEP, a turn counted from 1: k7f@120")
    found = look_up(session, asked.run)
    refuse_missing(found, typed, step)
    composition, checked = with_values(loader, found, changes)
    bound = dict.fromkeys([*found.record.bound, *checked.bound])
    if differing := deciding_differences(found.config, composition.config, bound):
        told = ", ".join(f"{key} ({shown(a)} -> {shown(b)})" for key, (a, b) in differing.items())
        what = f"would make another turn of it: {told}; crown-exp fork makes a new run"
        raise ConfigError.of(typed, what)
    config = quiet(composition.config, changes)
    if problems := unfit(config):
        raise ConfigError(problems)
    if change := code_change(session, found.facts):
        to_stderr(f"warning: {change}; the turn is made by the code as it is now")
    return Wanted(found, step, config)


def refuse_missing(found: Recorded, typed: str, step: int) -> None:
    """Raises ConfigError if the run has no such turn, as far as its records tell."""
    facts, begun = found.facts, begins_after(found)
    if step <= begun:
        what = f"expected a turn from {begun + 1} on"
        what += " (those before are another run's: it is a fork)" if begun else ""
        raise ConfigError.of(typed, what)
    if facts.result is not None:
        last = facts.result.step
        if not last:
            raise ConfigError.of(typed, "this run made no turn: its task has no loop of run.steps")
        if step > last:
            raise ConfigError.of(typed, f"no such turn: the run ended after {last}")
    elif facts.last_end and found.over:
        last = facts.last_end.step
        if step > last + 1:
            raise ConfigError.of(typed, f"no such turn: the run failed in turn {last + 1}")


def begins_after(found: Recorded) -> int:
    """The step that a run began with: a fork's, else 0."""
    lineage = found.record.lineage or {}
    return int(lineage["fork"]["step"]) if "fork" in lineage else 0


def quiet(config: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The config of a visit: no tracker, no saves, no limits of time, no workers unless they were typed."""
    device = dict(config["device"])
    if not any(text.startswith("device.workers=") for text in typed):
        device["workers"] = 0
    return {
        **config,
        "device": device,
        "tracker": own_tracker(config["tracker"]),
        "checkpoint": {**config["checkpoint"], "every": NEVER, "keep_every": None},
        "limits": {**config["limits"], "attempt": None, "run": None},
    }


def visited(session: Session, want: Wanted, folder: Path) -> Visited:
    """Copy what the visit needs into a store in `folder`: the newest checkpoint before the turn that verifies.

    Raises Damaged if there are some and none does, StoreError.
    """
    paths, target = RunPaths(want.found.record.id), open_blobs(str(folder / "store"))
    source, call = session.blobs, session.portal.call
    stored = filled(stored_config(session, paths.run_id), defaults())
    manifest, loops = call(copy_checkpoint, source, target, paths, want.step)
    if manifest is not None:
        for entry in call(source.list, paths.attempts):
            if paths.attempt_number(entry.path):  # those that ended are over; this one is not
                call(copy, source, target, entry.path)
        for entry in call(source.list, paths.files):
            if number_of(entry.path.removeprefix(paths.files)) <= manifest.step:
                call(copy, source, target, entry.path)
    for path in (paths.config, paths.record):
        call(copy, source, target, path)
    return Visited(
        paths.run_id, target, folder / "home",
        changes_of(stored, from_elsewhere(want.config, source.url)),
        manifest.step if manifest else 0, loops,
    )  # fmt: skip


async def copy_checkpoint(
    source: BlobStore, target: BlobStore, paths: RunPaths, step: int
) -> tuple[Manifest | None, Sequence[Mapping[str, Any]]]:
    """Copy the newest checkpoint before a turn; its manifest, and the loops of the newest of all."""
    usable = sorted((await look(source, paths)).usable, key=by_step, reverse=True)
    loops, why = (await loops_of(source, paths, usable[0]) if usable else []), ""
    earlier = [number for number in usable if number[1] < step]
    for number in earlier:
        try:
            manifest, _ = await read_manifest(source, paths, number)
            for pack in manifest.packs:
                await target.put(paths.pack(pack.sha256), await read_pack(source, paths, pack))
            await copy(source, target, paths.checkpoint(*number))
        except (Damaged, NotFound) as error:
            why = why or str(error)
        else:
            return manifest, loops
    if earlier and await begins_saved(usable):
        raise Damaged(f"{paths.run_id}: no checkpoint before turn {step} verifies ({why})")
    return None, loops


async def begins_saved(usable: Sequence[Number]) -> bool:
    """Whether the run began with a state of another one, so that it has no start of its own."""
    return any(attempt == 0 for attempt, _ in usable)


async def loops_of(
    source: BlobStore, paths: RunPaths, number: Number
) -> Sequence[Mapping[str, Any]]:
    """The loops of a checkpoint; none if it cannot be read."""
    try:
        manifest, _ = await read_manifest(source, paths, number)
        return list(put_together(manifest.tree["loops"], ()))
    except (Damaged, NotFound, LookupError, TypeError, ValueError):
        return []


async def copy(source: BlobStore, target: BlobStore, path: str) -> None:
    """One blob."""
    await target.put(path, await source.get(path))


def by_step(number: Number) -> Number:
    """(step, attempt): in this order the newest state before a turn is last."""
    return number[1], number[0]


def number_of(path: str) -> int:
    """The step in `12/samples.png`; 0 if there is none."""
    text = path.partition("/")[0]
    return int(text) if text.isdecimal() else 0


def no_such_turn(want: Wanted, done: int, error: str, code: int) -> ConfigError:
    """What to say when a visit ended before it came to the turn."""
    if code == ExitCode.OK:
        return ConfigError.of(want.words, f"no such turn: the task ends after {done}")
    return ConfigError.of(want.words, f"not reached: the task ends after turn {done}: {error}")
