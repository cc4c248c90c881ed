"""The registry of a project beside the store it is an index of, opened for one command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from crown_exp.clock import Clock, SystemClock
from crown_exp.config.project import Project, find_project
from crown_exp.config.settings import load_settings
from crown_exp.errors import CrownError, StoreError
from crown_exp.folder import died_here
from crown_exp.launch.throw_away import throw_away_folder
from crown_exp.outcome import State
from crown_exp.registry import chosen_url, default_url, ingest_run, open_registry, refresh
from crown_exp.registry.base import (
    Comparison,
    Details,
    Filter,
    Ingested,
    Page,
    Refreshed,
    RunInfo,
)
from crown_exp.storage import BlobStore, Portal, StorageManager
from crown_exp.storage.database.sqlite import BUSY_SECONDS
from crown_exp.storage.machine import here
from crown_exp.storage.runs import read_facts

if TYPE_CHECKING:
    from crown_exp.config.settings_model import Settings
    from crown_exp.registry import Registry

P = ParamSpec("P")
T = TypeVar("T")
Found = TypeVar("Found", Refreshed, Ingested)

PATIENCE_S = 15.0
"""A word that tells what is known anyway waits no longer for a store; one that answers takes two seconds."""

MOST_PROBLEMS = 5
"""Problems that are said line by line."""


@dataclass(frozen=True)
class Index:
    """Open while a command asks or changes something: `index.call(index.registry.page, …)`.

    project: None outside of one. registry: its answers are awaited, so they go through `call`.
    """

    project: Project | None
    settings: Settings
    portal: Portal
    blobs: BlobStore
    registry: Registry
    clock: Clock

    def page(self, wanted: Filter | None = None, **asked: Any) -> Page:
        """As `Registry.page`, as this machine sees it: see `seen_here`."""
        page = self.call(partial(self.registry.page, wanted, now=self.clock.now(), **asked))
        return replace(page, runs=tuple(map(self.seen_here, page.runs)))

    def get(self, run: str) -> Details:
        """As `Registry.get`, as this machine sees it."""
        details = self.call(partial(self.registry.get, run, now=self.clock.now()))
        return replace(details, run=self.seen_here(details.run))

    def info(self, run: str) -> RunInfo:
        """As `Registry.info`, as this machine sees it."""
        return self.seen_here(self.call(partial(self.registry.info, run, now=self.clock.now())))

    def compare(self, runs: Sequence[str]) -> Comparison:
        """As `Registry.compare`, as this machine sees it."""
        found = self.call(partial(self.registry.compare, runs, now=self.clock.now()))
        return replace(found, runs=tuple(map(self.seen_here, found.runs)))

    def seen_here(self, run: RunInfo) -> RunInfo:
        """A run that seems to be running is lost if its process was one of this machine and is gone."""
        if run.state is not State.RUNNING or run.store != self.blobs.url:
            return run
        try:
            facts = self.call(read_facts, self.blobs, run.id)
        except CrownError:
            return run
        return replace(run, state=State.LOST) if died_here(facts, here()) else run

    def call(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`await work(…)` in the loop that has the registry open."""
        return self.portal.call(work, *args, **kwargs)


@contextmanager
def open_index(
    project: Project | None = None,
    clock: Clock | None = None,
    busy_seconds: float = BUSY_SECONDS,
    store: str | None = None,
) -> Iterator[Index]:
    """The registry and the store of the current directory's project, or of another.

    busy_seconds: how long a write waits for those of other processes. store: another one than the project's;
    its index is thrown away at the end, as the project's is one of its own runs.
    Raises SettingsError or DatabaseError with one line.
    """
    project = project or find_project(Path.cwd())
    settings = load_settings(project)
    root = store or settings.storage.root
    with (
        registry_beside(settings, store) as url,
        Portal() as portal,
        portal.enter(StorageManager(root, settings.storage.access)) as storage,
        portal.enter(open_registry(url, busy_seconds=busy_seconds)) as registry,
    ):
        yield Index(project, settings, portal, storage.blobs, registry, clock or SystemClock())


@contextmanager
def registry_beside(settings: Settings, store: str | None) -> Iterator[str]:
    """The URL of the project's registry; for another store than its own, of one that is thrown away."""
    if store is None:
        yield chosen_url(settings)
        return
    with throw_away_folder() as folder:
        yield default_url(folder)


def look(index: Index, say: Callable[[str], None]) -> Refreshed | None:
    """Take in what is new in the store, for two seconds at the most; None if the store cannot be read.

    say: is given a line for each of the first few things that are not as they should be.
    An index that cannot be written tells what it knew before, as does one whose store cannot be read.
    """
    return _told(index, say, refresh, index.registry, index.blobs)


def look_at(index: Index, run_id: str, say: Callable[[str], None]) -> Ingested | None:
    """As `look`, at one run."""
    return _told(index, say, ingest_run, index.registry, index.blobs, run_id)


def _told(
    index: Index,
    say: Callable[[str], None],
    work: Callable[P, Awaitable[Found]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Found | None:
    try:
        told = index.call(in_time, partial(work, *args, **kwargs))
    except StoreError as error:  # of which DatabaseError is one
        say(f"{error}; what follows was known before")
        return None
    for problem in told.problems[:MOST_PROBLEMS]:
        say(problem)
    if (more := len(told.problems) - MOST_PROBLEMS) > 0:
        say(f"... and {more:,} more of these; `crown-exp reindex` says them all")
    if isinstance(told, Refreshed) and told.left:
        say(f"{told.left:,} more runs were not looked at yet; ask again, or: crown-exp reindex")
    return told


async def in_time(work: Callable[[], Awaitable[Found]]) -> Found:
    """What `work` finds. Raises StoreError if that takes so long that the store seems not to answer."""
    from anyio import fail_after

    try:
        with fail_after(PATIENCE_S):
            return await work()
    except TimeoutError:
        raise StoreError(f"the store did not answer for {PATIENCE_S:.0f} s") from None
