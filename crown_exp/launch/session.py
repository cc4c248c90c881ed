"""What one command needs to make runs: settings, the store, and the code as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crown_exp.clock import Clock, SystemClock
from crown_exp.compute.code import CodeSnapshot, snapshot
from crown_exp.config.debugging import debugged
from crown_exp.config.places import display
from crown_exp.config.project import Project
from crown_exp.config.secrets import guard
from crown_exp.config.settings import known_secrets, load_settings, variables
from crown_exp.errors import ConfigError, Problem
from crown_exp.folder import RunPaths, RunRecord
from crown_exp.launch.address import address
from crown_exp.launch.fitness import unfit
from crown_exp.launch.remote.executors import Executors, executors_of
from crown_exp.launch.remote.planning.fitness import elsewhere_problems
from crown_exp.launch.signals import held_back, told
from crown_exp.launch.submit import Order, submit
from crown_exp.launch.throw_away import throw_away_folder
from crown_exp.registry import check_url, chosen_url
from crown_exp.storage import BlobStore, Portal, StorageManager
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    from crown_exp.compute.base import Target
    from crown_exp.config.settings_model import Settings
    from crown_exp.launch.initial import Settled


@dataclass
class Session:
    """Open while a command makes and starts runs.

    home: where this machine's own files lie. executors: of runs that are carried out elsewhere. keeps: False
    for a debug run, whose store and home are gone when the session closes. made: the newest of the runs.
    prepared: whether the store was asked if it is fit. weights: those that runs begin with, as far as they
    were looked up. targets: those that their executors had nothing against.
    """

    settings: Settings
    project: Project | None
    portal: Portal
    blobs: BlobStore
    secrets: dict[str, str]
    clock: Clock
    home: Path
    executors: Executors
    keeps: bool = True
    elsewhere: bool = False
    made: RunRecord | None = None
    prepared: bool = False
    weights: dict[Any, Settled] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The project's directory, or the current one."""
        return self.project.root if self.project else Path.cwd()

    @property
    def database(self) -> str | None:
        """The URL of the registry; None if no run of this session is to be in one."""
        return chosen_url(self.settings) if self.keeps else None

    @cached_property
    def code(self) -> CodeSnapshot:
        """The project's code, taken once for all runs of the command. Raises ConfigError for a secret in it."""
        return snapshot(self.root, exclude=[self.settings.home], secrets=self.secrets)

    def approve(self, orders: Iterable[Order]) -> None:
        """Raises ConfigError with all that keeps runs of these from being carried out: nothing is made yet.

        Raises ExecutorError if who would carry them out elsewhere does not answer.
        """
        orders = list(orders)
        problems = [problem for order in orders for problem in self.problems(order)]
        problems += elsewhere_problems(self, orders)
        if problems:
            raise ConfigError(problems)

    def problems(self, order: Order) -> Iterator[Problem]:
        """What is wrong with a run wherever it happens; of one that happens here, what this machine lacks."""
        config = order.composition.config
        yield from guard(config, self.secrets)
        if not order.is_elsewhere:
            yield from unfit(config)
        yield from self.kept_in_vain(order)
        yield from self.no_weights(order)

    def kept_in_vain(self, order: Order) -> list[Problem]:
        """The problem of a debug run that a launcher which knows of none would keep."""
        if self.keeps and order.composition.config["debug"]:
            return [Problem("debug=true", "needs hydra/launcher=crown, the default")]
        return []

    def no_weights(self, order: Order) -> list[Problem]:
        """What keeps a run from beginning with the weights that it names."""
        try:
            self.settled(order)
        except ConfigError as error:
            return list(error.problems)
        return []

    def settled(self, order: Order) -> Order:
        """The order with the weights that it names looked up. Raises ConfigError, StoreError."""
        config = order.composition.config
        wanted = config["checkpoint"]["init_from"] or config["checkpoint"]["init_map"]
        if config["resume"] or not wanted:
            return order
        from crown_exp.launch.initial import settled

        return settled(self, order)

    def prepare(self) -> None:
        """Before a run is made or goes on: ask the store, once, whether it is fit for that.

        Raises SettingsError or StoreError, as `BlobStore.prepare`.
        """
        if not self.prepared:
            self.portal.call(self.blobs.prepare)
            self.prepared = True

    def make(self, order: Order) -> RunRecord:
        """A new run in the store. Raises ConfigError as `approve`, and if the code holds a secret.

        Raises SettingsError or StoreError, as `prepare`: then nothing is recorded.

        Ctrl-C and SIGTERM are handled when it is whole, or gone: then NotMade is raised, if not more.
        """
        if order.composition.config["resume"]:
            raise ConfigError.of("resume", "needs hydra/launcher=crown, the default")
        self.approve([order])
        order = self.settled(order)
        code = self.code
        self.prepare()
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
        if self.made is None or not self.keeps:
            return ""
        first = self.blobs.local_path(RunPaths(self.made.id).attempt(1))
        if first is None or first.exists():
            return ""
        folder = self.folder(self.made)
        return (
            f"{self.made.id} was recorded but did not begin; folder {folder}; "
            f"next crown-exp resume {self.made.id.partition('-')[2]}\n"
        )


@contextmanager
def open_session(
    project: Project | None, clock: Clock | None = None, *, debug: bool = False, run: str = ""
) -> Iterator[Session]:
    """Read the settings and open the store. Raises SettingsError or StoreError with one line.

    debug: a store and a home that are gone at the end; the user's own are not touched. run: the run that is
    asked for, as it was typed; if that is the URL of a run's folder, the store is that one's. Raises
    ConfigError if there can be none.
    """
    settings = load_settings(project)
    check_url(chosen_url(settings))
    elsewhere = address(run, steps=True).store
    with (
        Portal() as portal,
        placed(settings, debug, elsewhere) as (root, home),
        portal.enter(StorageManager(root, settings.storage.access)) as storage,
        executors_of(settings) as executors,
    ):
        yield Session(
            settings=settings, project=project, portal=portal, blobs=storage.blobs, home=home,
            executors=executors,
            secrets=known_secrets(variables(project)), clock=clock or SystemClock(), keeps=not debug,
            elsewhere=not debug and elsewhere not in (None, settings.storage.root),
        )  # fmt: skip


@contextmanager
def placed(
    settings: Settings, debug: bool, elsewhere: str | None = None
) -> Iterator[tuple[str, Path]]:
    """The store's root and the home: the user's, or throw-away ones. elsewhere: a store that was typed."""
    if not debug:
        yield elsewhere or settings.storage.root, settings.home
        return
    with throw_away_folder() as folder:
        yield str(folder / "store"), folder / "home"


def for_debugging(order: Order) -> Order:
    """The order as a debug run carries it out; a line says what is other than it was composed."""
    composition = order.composition
    made = debugged(composition.config, composition.overrides)
    to_stderr(made.line)
    return replace(order, composition=replace(composition, config=made.config))
