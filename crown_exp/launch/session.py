"""What one command needs to make runs: settings, the store, and the code as it is now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from crown_exp.clock import Clock, SystemClock
from crown_exp.compute.code import CodeSnapshot, snapshot
from crown_exp.config.project import Project
from crown_exp.config.settings import known_secrets, load_settings, variables
from crown_exp.folder import RunRecord
from crown_exp.launch.submit import Order, refuse_secrets, submit
from crown_exp.storage import BlobStore, Portal, StorageManager

if TYPE_CHECKING:
    from crown_exp.config.settings_model import Settings


@dataclass
class Session:
    """Open while a command makes and starts runs."""

    settings: Settings
    project: Project | None
    portal: Portal
    blobs: BlobStore
    secrets: dict[str, str]
    clock: Clock

    @cached_property
    def code(self) -> CodeSnapshot:
        """The project's code, taken once for all runs of the command. Raises ConfigError for a secret in it."""
        root = self.project.root if self.project else Path.cwd()
        return snapshot(root, exclude=[self.settings.home], secrets=self.secrets)

    def make(self, order: Order) -> RunRecord:
        """A new run in the store. Raises ConfigError if its config or code holds a secret."""
        refuse_secrets(order.composition.config, self.secrets)
        return self.portal.call(
            submit, self.blobs, order, user=self.settings.user, code=self.code, clock=self.clock
        )


@contextmanager
def open_session(project: Project | None, clock: Clock | None = None) -> Iterator[Session]:
    """Read the settings and open the store. Raises SettingsError or StoreError with one line."""
    settings = load_settings(project)
    with Portal() as portal, portal.enter(StorageManager(settings.storage.root)) as storage:
        yield Session(
            settings=settings, project=project, portal=portal, blobs=storage.blobs,
            secrets=known_secrets(variables(project)), clock=clock or SystemClock(),
        )  # fmt: skip
