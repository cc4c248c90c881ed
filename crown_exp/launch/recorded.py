"""A recorded run, looked up to go on with it or to fork it; a line for each way in which it may be lacking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from crown_exp.config.changes import changed, filled
from crown_exp.config.layers import conf_layers, layered
from crown_exp.config.project import Project
from crown_exp.config.schema import defaults
from crown_exp.errors import ConfigError, CrownError, Problem, StoreError
from crown_exp.folder import RUNS, Facts, RunPaths, RunRecord, state
from crown_exp.folder.paths import is_id
from crown_exp.launch.address import address
from crown_exp.launch.equal import store_of
from crown_exp.launch.session import Session
from crown_exp.outcome import FINAL
from crown_exp.storage import BlobStore, NotFound
from crown_exp.storage.parallel import each
from crown_exp.storage.runs import find_run, read_facts, read_run

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    from crown_exp.config.check import Checked
    from crown_exp.config.compose import Composition

T = TypeVar("T")

LATEST = "latest"

AT_ONCE = 32
"""How many records are read together."""


@dataclass(frozen=True)
class Recorded:
    """A run as its folder has it.

    config: as its newest attempt carried it out. over: it is completed, pruned or failed for good.
    """

    facts: Facts
    config: dict[str, Any]
    over: bool

    @property
    def record(self) -> RunRecord:
        """Who the run is."""
        return self.facts.run

    @property
    def short(self) -> str:
        """What one types of its id."""
        return self.record.id.partition("-")[2] or self.record.id


@contextmanager
def conf_of(project: Project | None) -> Iterator[ConfigLoaderImpl]:
    """The project's conf/ over ours, for the groups that a word chooses anew."""
    from crown_exp.config.compose import new_loader

    with layered(conf_layers(project)):
        yield new_loader()


def look_up(session: Session, typed: str) -> Recorded:
    """The run with this id or beginning of one, the newest for `latest`, or that of this folder.

    A folder is one of the session's store, which was opened for it.
    Raises ConfigError if no run fits or several do, Damaged, NewerFormat or StoreError if its folder does not
    hold all of it.
    """
    run_id = found(session, typed)
    facts = session.portal.call(read_facts, session.blobs, run_id)
    stored = filled(stored_config(session, run_id), defaults())
    config = changed(stored, facts.changes)
    return Recorded(facts, config, state(facts, session.portal.call(session.blobs.now)) in FINAL)


def with_values(
    loader: ConfigLoaderImpl, run: Recorded, typed: Sequence[str]
) -> tuple[Composition, Checked]:
    """The run's config with what was typed, checked as a new one is. Raises ConfigError."""
    from crown_exp.config.recorded import overridden

    try:
        return overridden(loader, run.config, typed, experiment=run.record.experiment)
    except ConfigError as error:
        problems = [
            Problem(it.where, f"{it.what}; was {run.record.id} made in this project?", it.source)
            if it.where == "task._target_"
            else it
            for it in error.problems
        ]
        raise ConfigError(problems) from None


def found(session: Session, typed: str) -> str:
    """The id of a run. Raises as `look_up`."""
    typed = address(typed).run
    if typed == LATEST:
        newest = session.portal.call(newest_run, session.blobs, lambda record: True)
        if newest is None:
            raise ConfigError.of(LATEST, f"there is no run in {session.blobs.url}")
        return newest.id
    if not typed.strip():
        raise ConfigError.of("run", "expected an id, its beginning, or latest")
    try:
        return session.portal.call(find_run, session.blobs, typed)
    except ConfigError as error:
        raise lacking(session, typed, error) from None


def lacking(session: Session, typed: str, error: ConfigError) -> CrownError:
    """Why no run has been found, as far as that can be told."""
    if is_id(typed) and session.portal.call(session.blobs.list, f"{RunPaths(typed).root}/"):
        return StoreError(
            f"{typed}: its folder has no run.json, so it is no whole run; nothing was run"
        )
    if "several" in str(error) or session.database is None:
        return error
    store = store_of(session.database, typed)
    if store is None or store == session.blobs.url:
        return error
    what = f"is in another store, {store}; this one is {session.blobs.url}"
    return ConfigError.of(
        typed, f"{what}: type its folder, {store}/runs/<id>, or set CROWN_STORAGE__ROOT"
    )


def stored_config(session: Session, run_id: str) -> dict[str, Any]:
    """config.yaml. Raises StoreError if it is not there, or not what was recorded."""
    path = RunPaths(run_id).config
    try:
        config = yaml.load(session.portal.call(session.blobs.get, path), Loader=yaml.CSafeLoader)
    except NotFound:
        raise StoreError(f"{path}: is missing, so the run is not whole; nothing was run") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("task"), dict):
        raise StoreError(f"{path}: damaged, not the config that was recorded; nothing was run")
    return config


async def newest_run(blobs: BlobStore, fits: Callable[[RunRecord], bool]) -> RunRecord | None:
    """The newest run that fits, read from the store alone; None if none does. Damaged ones are passed over.

    Ids begin with the day, so that days are gone through from the last until one has a run that fits.
    """
    names = sorted(filter(is_id, await blobs.folders(RUNS)), reverse=True)
    for _, day in groupby(names, key=lambda name: name.partition("-")[0]):
        fitting = [record for record in await read_runs(blobs, list(day)) if fits(record)]
        if fitting:
            return max(fitting, key=lambda record: (record.created, record.id))
    return None


async def read_runs(blobs: BlobStore, ids: Sequence[str]) -> list[RunRecord]:
    """The records of these runs, without those that cannot be read."""
    records: list[RunRecord] = []

    async def read(run_id: str) -> None:
        record = await if_readable(read_run(blobs, run_id))
        if record is not None:
            records.append(record)

    await each(read, ids, at_once=AT_ONCE)
    return records


async def if_readable(reading: Awaitable[T]) -> T | None:
    """What is read of a run; None if it was deleted meanwhile, or cannot be understood. Raises StoreError."""
    try:
        return await reading
    except CrownError as error:
        if isinstance(error, StoreError):
            raise
        return None
