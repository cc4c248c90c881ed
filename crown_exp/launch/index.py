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
from crown_exp.registry import chosen_url, open_registry
from crown_exp.storage import BlobStore, Portal, StorageManager

if TYPE_CHECKING:
    from crown_exp.config.settings_model import Settings
    from crown_exp.registry import Registry

P = ParamSpec("P")
T = TypeVar("T")


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
