"""The registry of a project beside the store it is an index of, opened for one command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from crown_exp.clock import Clock, SystemClock
from crown_exp.config.project import Project, find_project
from crown_exp.config.settings import load_settings
from crown_exp.errors import StoreError
from crown_exp.registry import chosen_url, ingest_run, open_registry, refresh
from crown_exp.registry.base import Ingested, Refreshed
from crown_exp.storage import BlobStore, Portal, StorageManager
from crown_exp.storage.database import DatabaseError

if TYPE_CHECKING:
    from crown_exp.config.settings_model import Settings
    from crown_exp.registry import Registry

P = ParamSpec("P")
T = TypeVar("T")
Found = TypeVar("Found", Refreshed, Ingested)

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

    def call(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`await work(…)` in the loop that has the registry open."""
        return self.portal.call(work, *args, **kwargs)


@contextmanager
def open_index(project: Project | None = None, clock: Clock | None = None) -> Iterator[Index]:
    """The registry and the store of the current directory's project, or of another.

    Raises SettingsError or DatabaseError with one line.
    """
    project = project or find_project(Path.cwd())
    settings = load_settings(project)
    with (
        Portal() as portal,
        portal.enter(StorageManager(settings.storage.root)) as storage,
        portal.enter(open_registry(chosen_url(settings))) as registry,
    ):
        yield Index(project, settings, portal, storage.blobs, registry, clock or SystemClock())


def look(index: Index, say: Callable[[str], None]) -> Refreshed | None:
    """Take in what is new in the store, for two seconds at the most; None if the store cannot be read.

    say: is given a line for each of the first few things that are not as they should be.
    Raises DatabaseError if the index cannot be written.
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
        told = index.call(work, *args, **kwargs)
    except DatabaseError:
        raise
    except StoreError as error:
        say(f"{error}; what follows was known before")
        return None
    for problem in told.problems[:MOST_PROBLEMS]:
        say(problem)
    if (more := len(told.problems) - MOST_PROBLEMS) > 0:
        say(f"... and {more:,} more of these; `crown-exp reindex` says them all")
    if isinstance(told, Refreshed) and told.left:
        say(f"{told.left:,} more runs were not looked at yet; ask again, or: crown-exp reindex")
    return told
