"""A run that was recorded, as Python sees it: `crown_exp.open("k3f")`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crown_exp.config.nearest import did_you_mean
from crown_exp.errors import ConfigError, CrownError
from crown_exp.face import shown
from crown_exp.face.arguments import count, text
from crown_exp.face.curves import Curve
from crown_exp.face.files import Files
from crown_exp.face.source import Source
from crown_exp.folder import RunPaths
from crown_exp.launch.index import look_at
from crown_exp.outcome import FINAL, State
from crown_exp.registry.base import AttemptInfo, Details, RunInfo, Summary
from crown_exp.storage import NotFound
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    import torch


def open(run: str) -> RecordedRun:
    """The run whose id begins with `run`, as a whole or after its dash; `latest`: the one made last.

    Looks at the store first, two seconds at the most. Raises ConfigError if no run fits or several do,
    TypeError if `run` is no text, SettingsError or DatabaseError if the settings or the index are wrong.
    """
    text("run", run)
    source = Source.here()
    with source.refreshed() as index:
        run_id = index.call(index.registry.find, run)
        look_at(index, run_id, to_stderr)  # of a completed run, tags and notes may be new
        details = index.get(run_id)
    return RecordedRun(source, details.run, details)


@dataclass(frozen=True, slots=True)
class RunCode:
    """The code a run was made with. commit: None outside of git. dirty: whether files differ from it.

    digest: sha256, hexadecimal, of the whole snapshot; None if none was taken.
    """

    commit: str | None
    dirty: bool
    digest: str | None
    source: Source
    store: str
    run: str

    @property
    def diff(self) -> str:
        """What the files that git tracks differ by from the commit, for `git apply`; "" for nothing."""
        return self._text(RunPaths(self.run).code_diff)

    @property
    def packages(self) -> str:
        """The installed packages, a line each."""
        return self._text(RunPaths(self.run).code_lock)

    def _text(self, path: str) -> str:
        try:
            return self.source.read(self.store, path).decode(errors="replace")
        except NotFound:
            return ""


class RecordedRun:
    """A run as it was recorded, up to the moment it was looked at; `refresh` looks again.

    What one look at a list of runs does not tell (config, attempts, metrics, files) is read when it is first
    asked for. Nothing stays open in between.
    """

    def __init__(self, source: Source, info: RunInfo, details: Details | None = None) -> None:
        self.info = info
        self._source, self._details = source, details

    # --- what is known of it --------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its whole id."""
        return self.info.id

    @property
    def name(self) -> str:
        """Its name: the experiment and what was swept, unless it was given one."""
        return self.info.name

    @property
    def experiment(self) -> str | None:
        """The preset it was composed from."""
        return self.info.experiment

    @property
    def state(self) -> State:
        """`completed`, `running`, …: a State, which equals its text."""
        return self.info.state

    @property
    def created(self) -> datetime:
        """When it was recorded (UTC)."""
        return self.info.created

    @property
    def step(self) -> int:
        """The last step that is done, or logged."""
        return self.info.step

    @property
    def result(self) -> Any:
        """What the task returned; None before that."""
        return self.info.result

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags, sorted."""
        return self.info.tags

    @property
    def note(self) -> str:
        """What was noted on it; "" for nothing."""
        return self.info.note

    @property
    def values(self) -> Mapping[str, float | str | None]:
        """The columns that were asked for: `runs(columns=["min(loss)"])`."""
        return self.info.values

    @property
    def folder(self) -> Path | str:
        """Its folder: a path if the store is on this machine, else a URL."""
        root = RunPaths(self.id).root
        return self._source.blobs(self.info.store).local_path(root) or f"{self.info.store}/{root}"

    @property
    def code(self) -> RunCode | None:
        """The code it was made with; None if that was not recorded."""
        found = self.info.code
        if found is None:
            return None
        return RunCode(
            found["commit"], found["dirty"], found["snapshot"], self._source, self.info.store, self.id
        )  # fmt: skip

    # --- what is read when it is asked for ------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, as plain values. Raises CrownError if it could not be read."""
        config = self.details.config
        if config is None:
            raise CrownError(f"the config of {self.id} could not be read; see {self.folder}")
        return dict(config)

    @property
    def attempts(self) -> tuple[AttemptInfo, ...]:
        """Its process lives, in order."""
        return self.details.attempts

    @property
    def metrics(self) -> Mapping[str, Summary]:
        """The summary of every metric, by name: n, last, min and max, and their steps."""
        return self.details.summaries

    @property
    def files(self) -> Files:
        """What the task stored by `run.artifact`, by path or name."""
        return Files(self._source, self.id, self.info.store, self.details.files)

    @property
    def details(self) -> Details:
        """All that the index tells of it. Raises ConfigError if the run is gone."""
        if self._details is None:
            with self._source.opened() as index:
                self._details = index.get(self.id)
            self.info = replace(self._details.run, values=self.info.values)
        return self._details

    def refresh(self) -> RecordedRun:
        """Look again, and return the run itself. Raises ConfigError if it is gone."""
        with self._source.refreshed_for(self.id) as index:
            self._details = index.get(self.id)
        self.info = replace(self._details.run, values=self.info.values)
        return self

    def curve(self, metric: str, *, at_most: int | None = None) -> Curve:
        """A metric over its steps, up to now if the run goes on.

        at_most: how many points are wanted: of more, each stands for equally many steps, with their mean.
        Raises ConfigError if the run has no metric of that name, and for an `at_most` below 1 or above
        2147483647; TypeError for an argument of another type.
        """
        metric, at_most = text("metric", metric), count("at_most", at_most, 1)
        over = self.state in FINAL
        with self._source.opened() if over else self._source.refreshed_for(self.id) as index:
            found = index.call(index.registry.curve, self.id, metric, at_most=at_most)
        return Curve(found.run, found.metric, found.steps, found.values, found.times)

    def build(self, group: str, /, *, device: str | torch.device = "cpu", **arguments: Any) -> Any:
        """What a group of its config describes, built anew: `open("k3f").build("model")`.

        As `run.build` does it in a task, but in full precision and on the CPU, or `device`; `arguments` are
        added to those of the config. The modules are those of the project as it is now, and a model has the
        weights that its own code gives it: to load those of a checkpoint is not possible yet.
        Raises ConfigError for a group that is not there, TypeError for one that is no text, TaskError if it
        cannot be built.
        """
        text("group", group)
        from crown_exp.runner.build import build
        from crown_exp.runner.process import importable

        values = self.config.get(group)
        if not isinstance(values, Mapping) or not values.get("_target_"):
            known = [
                name for name, it in self.config.items()
                if isinstance(it, Mapping) and it.get("_target_") and name != "task"
            ]  # fmt: skip
            hint = did_you_mean(group, known) or "it has none"
            raise ConfigError.of(group, f"{self.id} has no group of this name to build; {hint}")
        import torch

        with importable(self._source.project.root), torch.device(device):
            built = build(values, **arguments)
        return built.to(device) if isinstance(built, torch.nn.Module) else built

    # --- for people -----------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return shown.line(self.info)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown.page(self.info, self.folder)
