"""What one command needs to make runs: settings, the store, and the code as it is now."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from crown_exp.clock import Clock, SystemClock
from crown_exp.compute.code import CodeSnapshot, snapshot
from crown_exp.config.places import display
from crown_exp.config.project import Project
from crown_exp.config.secrets import guard
from crown_exp.config.settings import known_secrets, load_settings, variables
from crown_exp.errors import ConfigError
from crown_exp.folder import RunPaths, RunRecord
from crown_exp.launch.fitness import unfit
from crown_exp.launch.signals import held_back, told
from crown_exp.launch.submit import Order, submit
from crown_exp.registry import check_url, chosen_url
from crown_exp.storage import BlobStore, Portal, StorageManager

if TYPE_CHECKING:
    from crown_exp.config.settings_model import Settings


@dataclass
class Session:
    """Open while a command makes and starts runs. made: the newest of them."""

    settings: Settings
    project: Project | None
    portal: Portal
    blobs: BlobStore
    secrets: dict[str, str]
    clock: Clock
    made: RunRecord | None = None

    @property
    def root(self) -> Path:
        """The project's directory, or the current one."""
        return self.project.root if self.project else Path.cwd()

    @property
    def database(self) -> str:
        """The URL of the registry."""
        return chosen_url(self.settings)

    @cached_property
    def code(self) -> CodeSnapshot:
        """The project's code, taken once for all runs of the command. Raises ConfigError for a secret in it."""
        return snapshot(self.root, exclude=[self.settings.home], secrets=self.secrets)

    def approve(self, orders: Iterable[Order]) -> None:
        """Raises ConfigError with all that keeps runs of these from being made here: nothing is made yet."""
        problems = [
            problem
            for order in orders
            for problem in (
                *guard(order.composition.config, self.secrets),
                *unfit(order.composition.config),
            )
        ]
        if problems:
            raise ConfigError(problems)

    def make(self, order: Order) -> RunRecord:
        """A new run in the store. Raises ConfigError as `approve`, and if the code holds a secret.

        Ctrl-C and SIGTERM are handled when it is whole, or gone: then NotMade is raised, if not more.
        """
        self.approve([order])
        code = self.code
        with held_back() as held:
            self.made = self.portal.call(
                submit, self.blobs, order,
                user=self.settings.user, code=code, clock=self.clock, asked=held.asked,
            )  # fmt: skip
            return self.made

    @contextmanager
    def announcing(self) -> Iterator[None]:
        """Inside, Ctrl-C or SIGTERM before the new run's attempt begins tells which run that is."""
        self.made = None
        with told(self.not_begun):
            yield

    def folder(self, record: RunRecord) -> str:
        """A run's folder, as the user would type it."""
        path = RunPaths(record.id).root
        local = self.blobs.local_path(path)
        return display(local) if local else f"{self.blobs.url}/{path}"

    def not_begun(self) -> str:
        """A line about a run that was made and waits; nothing once its first attempt has begun."""
        if self.made is None:
            return ""
        first = self.blobs.local_path(RunPaths(self.made.id).attempt(1))
        if first is None or first.exists():
            return ""
        folder = self.folder(self.made)
        return (
            f"{self.made.id} was recorded but did not begin; folder {folder}; "
            f"next python -m crown_exp run {shlex.quote(folder)}\n"
        )


@contextmanager
def open_session(project: Project | None, clock: Clock | None = None) -> Iterator[Session]:
    """Read the settings and open the store. Raises SettingsError or StoreError with one line."""
    settings = load_settings(project)
    check_url(chosen_url(settings))
    with Portal() as portal, portal.enter(StorageManager(settings.storage.root)) as storage:
        yield Session(
            settings=settings, project=project, portal=portal, blobs=storage.blobs,
            secrets=known_secrets(variables(project)), clock=clock or SystemClock(),
        )  # fmt: skip
