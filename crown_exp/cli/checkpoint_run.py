"""A run whose checkpoints are asked for, opened, and what its config says of them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from crown_exp.checkpoints.base import Keep
from crown_exp.checkpoints.checking import chosen
from crown_exp.checkpoints.restore import Number
from crown_exp.checkpoints.weights_of import best_one
from crown_exp.config.changes import changed, filled
from crown_exp.config.project import find_project
from crown_exp.config.schema import defaults
from crown_exp.errors import ConfigError, StoreError
from crown_exp.folder import RunPaths
from crown_exp.launch.address import address
from crown_exp.launch.forking import step_of
from crown_exp.launch.recorded import found, stored_config
from crown_exp.launch.session import Session, open_session
from crown_exp.runner.keeping import keep_of
from crown_exp.storage import BlobStore
from crown_exp.storage.runs import read_facts
from crown_exp.tracking.terminal import Foot
from crown_exp.tracking.transfer import Transfer

P = ParamSpec("P")
T = TypeVar("T")

BEST = "best"


@dataclass(frozen=True)
class Asked:
    """Open while a word looks at the checkpoints of a run.

    typed: the run as one types it again, in a store of its own too. step: what was typed behind the `@`.
    """

    session: Session
    paths: RunPaths
    typed: str
    step: str | None

    @property
    def blobs(self) -> BlobStore:
        """The store that the run is in."""
        return self.session.blobs

    def call(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`await work(…)` in the loop of the store."""
        return self.session.portal.call(work, *args, **kwargs)

    @property
    def wish(self) -> dict[str, Any]:
        """The group `checkpoint` of its config, as its newest attempt had it. Raises StoreError."""
        stored = filled(stored_config(self.session, self.paths.run_id), defaults())
        changes = self.call(read_facts, self.blobs, self.paths.run_id).changes
        wish: dict[str, Any] = changed(stored, changes)["checkpoint"]
        return wish

    @property
    def keep(self) -> Keep:
        """Which of its checkpoints its config keeps; the defaults where that is damaged."""
        try:
            return keep_of(self.wish)
        except StoreError:
            return Keep()

    def number(self) -> Number:
        """(attempt, step) of the checkpoint that was asked for. Raises ConfigError if there is none."""
        if self.step == BEST:
            return self.best()
        step = None if self.step is None else step_of(f"{self.typed}@{self.step}", self.step)
        return self.call(chosen, self.blobs, self.paths, step)

    def best(self) -> Number:
        """The checkpoint with the best value of the metric that the run keeps the best by."""
        best, typed = self.keep.best, f"{self.typed}@{BEST}"
        if best is None:
            what = "this run keeps no best: its checkpoint.keep_best is not set; name a step"
            raise ConfigError.of(typed, f"{what}: crown-exp checkpoints list {self.typed}")
        return self.call(best_one, self.blobs, self.paths, best)


@contextmanager
def opened(typed: str) -> Iterator[Asked]:
    """The run of RUN or RUN@STEP, in the store that it is in. Raises ConfigError if there is none."""
    asked = address(typed, steps=True)
    with open_session(find_project(Path.cwd()), run=typed) as session:
        run_id = found(session, asked.run)
        tail = run_id.partition("-")[2] or run_id
        named = f"{session.blobs.url}/runs/{run_id}" if asked.store else tail
        if asked.store:
            session.portal.call(read_facts, session.blobs, run_id)
        yield Asked(session, RunPaths(run_id), named, asked.step)


@contextmanager
def on_its_way() -> Iterator[Transfer]:
    """Shows on standard error how far bytes have come, if that is a terminal."""
    transfer = Transfer(Foot(sys.stderr), on=sys.stderr.isatty())
    with transfer.shown():
        yield transfer
