"""Hydra plugin: the sweeper `crown`. Hydra's basic grid, counted before the first job starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn


class CrownSweeper(BasicSweeper):
    """Every point of the grid, in order, as BasicSweeper makes them.

    It differs in what it leaves out: no second composition of every job (the launcher checks them all
    before the first starts), no multirun.yaml in the user's tree, and no job hidden by the first that fails.
    """

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch all points, `max_batch_size` at a time. Raises ConfigError for several without -m."""
        from crown_exp.config.compose import strict
        from crown_exp.launch.invocation import current

        assert self.hydra_context is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*self._parse_config(), *arguments])
        batches = self.split_arguments(parsed, self.max_batch_size)
        invocation = current()
        if invocation is not None:
            swept = [strict(item.input_line or "") for item in parsed if item.is_sweep_override()]
            invocation.plan(sum(map(len, batches)), swept)
        returns: list[Sequence[JobReturn]] = []
        for batch in batches:
            first = sum(map(len, returns))
            returns.append(self.launcher.launch(batch, initial_job_idx=first))
            if invocation is not None and invocation.stopped:
                break
        return returns


@dataclass
class CrownSweeperConfig:
    """hydra/sweeper=crown. max_batch_size: jobs handed to the launcher at once; params: a default grid."""

    _target_: str = "hydra_plugins.crown_sweeper.sweeper.CrownSweeper"
    max_batch_size: int | None = None
    params: dict[str, Any] | None = field(default=None)


ConfigStore.instance().store(
    group="hydra/sweeper", name="crown", node=CrownSweeperConfig, provider="crown_exp"
)
