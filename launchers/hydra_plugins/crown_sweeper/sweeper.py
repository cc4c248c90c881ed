"""Hydra plugin: the sweeper `crown`. Hydra's basic grid, counted before the first job starts."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn


class CrownSweeper(BasicSweeper):
    """Every point of the grid, in order, as BasicSweeper makes them; in an application not ours, just that.

    It differs in what it leaves out: no second composition of every job (the launcher checks them all
    before the first starts), no multirun.yaml in the user's tree, and no job hidden by the first that fails.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all points: with our launcher at once, with another `max_batch_size` at a time.

        Ours checks, prices and asks about all runs of a command before it starts the first. Raises ConfigError
        for what is no grid.
        """
        from crown_exp.launch.invocation import current

        invocation = current()
        if invocation is None:
            return super().sweep(arguments)
        from crown_exp.launch.collect import launched

        jobs = self.grid(arguments)
        invocation.plan(len(jobs))
        self.refuse_elsewhere(jobs)
        size = None if self.is_ours else self.max_batch_size
        returns: list[Sequence[JobReturn]] = []
        first = 0
        for batch in self.split_overrides_to_chunks(jobs, size):
            assert self.launcher is not None
            returns.append(launched(invocation, self.launcher, batch, first))
            first += len(batch)  # not of what was returned: a plan returns nothing
            if invocation.stopped:
                break
        return returns

    @property
    def is_ours(self) -> bool:
        """Whether the launcher is."""
        assert self.config is not None
        return bool(self.config.hydra.runtime.choices.get("hydra/launcher") == "crown")

    def refuse_elsewhere(self, jobs: list[list[str]]) -> None:
        """Raises ConfigError for a job that is to run where a launcher which is not ours cannot send it."""
        assert self.config is not None and self.hydra_context is not None
        if not self.is_ours:
            from crown_exp.hydra_app.stock import refuse_elsewhere

            refuse_elsewhere(self.hydra_context.config_loader, self.config, jobs)

    def grid(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of every job, as they were typed. Raises ConfigError for what has no finite values."""
        from crown_exp.config.compose import relax, strict
        from crown_exp.errors import ConfigError, Problem

        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise ConfigError.of("hydra.sweeper.max_batch_size", "expected an int > 0, or null")
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        axes: dict[str, list[str]] = {}
        problems = []
        for item in parser.parse_overrides([*relax(self._parse_config()), *arguments]):
            key, text = item.get_key_element(), item.input_line or ""
            if item.is_discrete_sweep():
                axes[key] = [f"{key}={value}" for value in item.sweep_string_iterator()]
            elif item.is_sweep_override():
                what = "a grid needs single values: choice(a,b), range(start,stop,step) or a,b"
                problems.append(Problem(strict(text), what))
            else:
                axes[key] = [text]
        if problems:
            raise ConfigError(problems)
        return [list(point) for point in itertools.product(*axes.values())]


@dataclass
class CrownSweeperConfig:
    """hydra/sweeper=crown. max_batch_size: jobs handed to a stock launcher at once; params: a default grid."""

    _target_: str = "hydra_plugins.crown_sweeper.sweeper.CrownSweeper"
    max_batch_size: int | None = None
    params: dict[str, Any] | None = field(default=None)


ConfigStore.instance().store(
    group="hydra/sweeper", name="crown", node=CrownSweeperConfig, provider="crown_exp"
)
